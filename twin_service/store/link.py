"""The thread that talks to the shared database, so that nothing else ever waits for it.

It has one connection. Jobs are done in the order in which they were handed over, claims of devices that attach before
all of them. When the connection is lost it connects again, with pauses that grow; what was handed over until then is
kept and written then, and what comes meanwhile is refused at once, so that it stays due where it is.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from twin_service.store.jobs import Job, Jobs, fail
from twin_service.store.postgres_session import CollidedError, RejectedError
from twin_service.store.postgres_tables import CLAIMS_CHANNEL, WEIGHTS_CHANNEL
from twinsplit.errors import StorageError
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.back_off import reconnect_delay_s

if TYPE_CHECKING:
    from twin_service.memory import Claim
    from twin_service.store.postgres_tables import PostgresTables

T = TypeVar("T")

ROUND_S = 1.0
"""The session shows at least so often that it lives, asks for the right to learn, and looks for others' tasks."""
_SIZE_S = 60.0
_OTHERS_AT_ONCE = 200
_MOST_OTHERS = 2000
HANGS_S = 10.0
"""A database that has not answered for so long counts as lost."""
CUT_S = 35.0
"""Then its connection is cut from this side: no statement may take as long at the server."""
_CLOSE_S = 5.0
"""Time for what is still to be written at the end."""
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.store")


class Link:
    """See the module.

    Args:
        place: How people know the database.
        reopen: Makes a session that tells of notifications.
        refresh: Called in the thread with every new session before anything is asked on it, and with the model whose
            weights another replica has published; ``None``: all there is.
        is_candidate: Whether this replica would learn.
        writer: Tells this replica from others.
    """

    def __init__(
        self,
        place: str,
        reopen: Callable[[Callable[[str, str], None]], PostgresTables],
        refresh: Callable[[PostgresTables, str | None], None],
        *,
        is_candidate: bool,
        writer: str,
        rng: random.Random | None = None,
    ) -> None:
        self.is_candidate = is_candidate
        self.is_up = True
        self.is_elected = False
        self.elections = 0
        """How often this replica was elected."""
        self.errors = 0
        self.size_bytes: int | None = None
        self.told: Callable[[], None] = lambda: None
        """Called in the thread when there is news: who learns, weights, tasks of others, devices that moved."""
        self.others: deque[bytes] = deque(maxlen=_MOST_OTHERS)
        """Replayed tasks of other replicas, for the one that learns."""
        self.moved: deque[tuple[str, int]] = deque(maxlen=100_000)
        """Devices that attached to other replicas, and the epochs of that."""
        self.place = place
        self._first: PostgresTables | None = None
        self._reopen = reopen
        self._refresh = refresh
        self._writer = writer
        self._rng = rng or random.Random()
        self._jobs = Jobs()
        self._lock = self._jobs.lock
        self._published: set[str] = set()
        self._others_after = 0
        self._is_moved_told = False
        self._round_at_s = self._size_at_s = 0.0
        self._busy_since_s: float | None = None
        """Since when the database has owed an answer; ``None``: it owes none."""
        self._file: int | None = None
        """Of the connection, while there is one."""
        self._cause = ""
        self._stopping = threading.Event()
        self._woken: socket.socket
        self._wakes: socket.socket
        # A daemon: a network that swallows packets must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self, tables: PostgresTables) -> None:
        """Begin with an open session.

        Raises:
            StorageError: the database cannot be used.
        """
        self._came_up(tables)
        self._first = tables
        self._woken, self._wakes = socket.socketpair()
        self._woken.setblocking(False)
        self._wakes.setblocking(False)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, if the database takes it within a few seconds, and end."""
        self.told = lambda: None
        self._stopping.set()
        self._wake()
        self._thread.join(_CLOSE_S + ROUND_S)
        if not self._thread.is_alive():
            self._woken.close()
            self._wakes.close()

    # For other threads.

    def put(self, run: Callable[[PostgresTables], Any], size_bytes: int, *, is_learners: bool = False) -> None:
        """Hand a write over.

        Raises:
            StorageError: the database cannot be reached now, or does not keep up; it was not taken.
        """
        with self._lock:
            self._check_up()
            self._jobs.add(Job(run, size_bytes=size_bytes, is_learners=is_learners))
        self._wake()

    def ask(self, run: Callable[[PostgresTables], Any]) -> Future[Any]:
        """Have something done after what was handed over before.

        Raises:
            StorageError: the database cannot be reached now.
        """
        future: Future[Any] = Future()
        with self._lock:
            self._check_up()
            self._jobs.add(Job(run, future))
        self._wake()
        return future

    def claim(self, device_id: str, epoch: int) -> Future[Claim]:
        """A device attaches here under an epoch that it announces: ask for what was kept of it, together with others.

        Raises:
            StorageError: the database cannot be reached now.
        """
        with self._lock:
            self._check_up()
            future = self._jobs.claim(device_id, epoch)
        self._wake()
        return future

    @property
    def is_degraded(self) -> bool:
        """Whether nothing can be written or read now."""
        return not self.is_up or self._hangs_s() > HANGS_S

    def _check_up(self) -> None:
        if not self.is_up:
            raise StorageError(self._cause)
        if (hangs_s := self._hangs_s()) > HANGS_S:
            if hangs_s > CUT_S and self._file is not None:
                _cut(self._file)
            raise StorageError(f"{self.place}: the database has not answered for {hangs_s:.0f} s; what is kept waits")

    def _hangs_s(self) -> float:
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes up anyway; or closed
            self._wakes.send(b"w")

    # In the thread.

    def _run(self) -> None:
        tables, self._first = self._first, None
        failures = 0
        while not self._stopping.is_set():
            try:
                if tables is None:
                    tables = self._reopen(self.heard)
                    self._came_up(tables)
                failures = 0
                while not self._stopping.is_set():
                    self._work(tables)
                    self._wait(tables)
            except StorageError as error:
                self._went_down(str(error))
            except Exception as error:  # noqa: BLE001 - a defect must not end all saving
                _log.exception("store-failed", error)
                self._went_down(f"a defect: {type(error).__name__}")
            if not self._stopping.is_set():
                _close(tables)
                tables = None
                self._stopping.wait(reconnect_delay_s(failures, self._rng))
                failures += 1
        if tables is not None:
            self._finish(tables)
            _close(tables)
        self._fail_all("the twin service is stopping")

    def _came_up(self, tables: PostgresTables) -> None:
        self._published.clear()
        self._refresh(tables, None)
        self._stand_for_election(tables)
        self._round_at_s = self._size_at_s = 0.0
        with self._lock:
            was_up, self.is_up = self.is_up, True
        if not was_up:
            _log.info("store-back", store=self.place)
        self.told()

    def _went_down(self, cause: str) -> None:
        self.errors += 1
        was_up = self._fail_all(cause)
        _log.warning(
            "store-lost" if was_up else "store-unreachable", store=self.place, cause=cause, limit_s=_REPEATED_LINE_S
        )
        self.told()

    def _fail_all(self, cause: str) -> bool:
        """Nothing can be asked any more; writes stay. Whether something could be until now."""
        with self._lock:
            was_up, self.is_up, self.is_elected, self._cause = self.is_up, False, False, cause
            self._busy_since_s = self._file = None
            self.others.clear()
        self._jobs.fail(StorageError(cause))
        return was_up

    def _work(self, tables: PostgresTables) -> None:
        """Do all that there is to do."""
        self._file = tables.fileno()
        self._busy_since_s = time.monotonic()
        self._take_claims(tables)
        while time.monotonic() < self._round_at_s and (job := self._jobs.first()) is not None:
            self._do(job, tables)
            self._take_claims(tables)
            self._busy_since_s = time.monotonic()
        if time.monotonic() >= self._round_at_s:
            self._round(tables)
            self._round_at_s = time.monotonic() + ROUND_S
        while self._published:
            model_digest = self._published.pop()
            if not self.is_elected:
                self._refresh(tables, model_digest)
                self.told()
        self._busy_since_s = None
        if self._is_moved_told:
            self._is_moved_told = False
            self.told()

    def _round(self, tables: PostgresTables) -> None:
        tables.heartbeat()
        self._stand_for_election(tables)
        if self.is_elected:
            found = tables.others_replay(self._others_after, _OTHERS_AT_ONCE)
            self._others_after = found.last_id
            if found.records:
                self.others.extend(found.records)
                self.told()
        if time.monotonic() >= self._size_at_s:
            self._size_at_s = time.monotonic() + _SIZE_S
            self.size_bytes = tables.size_bytes

    def _stand_for_election(self, tables: PostgresTables) -> None:
        if self.is_candidate and not self.is_elected and tables.lead():
            # What was published last counts from here on, and nobody else publishes any more.
            self._refresh(tables, None)
            self._others_after = tables.last_replay_id()
            self.elections += 1
            self.is_elected = True
            self.told()

    def _do(self, job: Job, tables: PostgresTables) -> None:
        """Do the first job; it leaves the queue when it is done, or is in vain."""
        try:
            if job.future is not None:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_result(_done(job.run, tables))
            elif not job.is_learners or self.is_elected:
                _done(job.run, tables)
            else:  # held as published meanwhile, which it is not
                self._refresh(tables, None)
                self.told()
        except RejectedError as error:
            self.errors += 1
            fail(job.future, error)
            _log.error("write-rejected", store=self.place, cause=str(error), limit_s=_REPEATED_LINE_S)
        except StorageError as error:
            if job.future is not None:
                fail(job.future, error)
                self._jobs.drop(job)
            raise
        except Exception as error:  # noqa: BLE001 - a defect in one job must not end all saving
            self.errors += 1
            fail(job.future, StorageError(f"a defect: {type(error).__name__}"))
            _log.exception("store-job-failed", error)
        self._jobs.drop(job)

    def _take_claims(self, tables: PostgresTables) -> None:
        claims = self._jobs.take_claims()
        if not claims:
            return
        try:
            epochs = {device_id: claiming.epoch for device_id, claiming in claims.items()}
            found = _done(lambda tables: tables.claim(epochs), tables)
        except StorageError as error:
            for claiming in claims.values():
                for future in claiming.futures:
                    fail(future, error)
            if not isinstance(error, RejectedError):
                raise
            return
        for device_id, claiming in claims.items():
            for future in claiming.futures:
                future.set_result(found[device_id])

    def heard(self, channel: str, text: str) -> None:
        """Another session notifies of something."""
        if channel == WEIGHTS_CHANNEL:
            self._published.add(text)
        elif channel == CLAIMS_CHANNEL:
            writer, _, claimed = text.partition(" ")
            epoch, _, device_id = claimed.partition(" ")
            if writer != self._writer and epoch.isdecimal():
                self.moved.append((device_id, int(epoch)))
                self._is_moved_told = True

    def _wait(self, tables: PostgresTables) -> None:
        """Until there is something to do, or the next round is due."""
        wait_s = max(self._round_at_s - time.monotonic(), 0.0)
        if self._jobs.first() is not None:
            return
        poll = select.poll()  # select() takes no more than 1,024 files, which many devices' connections exceed
        for file in (self._woken.fileno(), tables.fileno()):
            poll.register(file, select.POLLIN)
        readable = [file for file, _ in poll.poll(1e3 * wait_s)]
        if self._woken.fileno() in readable:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        if tables.fileno() in readable:
            self._busy_since_s = time.monotonic()
            tables.heartbeat()
            self._busy_since_s = None

    def _finish(self, tables: PostgresTables) -> None:
        until_s = time.monotonic() + _CLOSE_S
        try:
            while (job := self._jobs.first()) is not None and time.monotonic() < until_s:
                self._do(job, tables)
        except StorageError as error:
            _log.error("state-not-saved", cause=str(error))


def _done(run: Callable[[PostgresTables], T], tables: PostgresTables) -> T:
    """What ``run`` brings; once more where another session was in its way, since a new session would cost the right
    to learn."""
    try:
        return run(tables)
    except CollidedError:
        return run(tables)


def _cut(file: int) -> None:
    """End a connection that another thread waits at."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(file)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _close(tables: PostgresTables | None) -> None:
    if tables is not None:
        with contextlib.suppress(StorageError, OSError):
            tables.close()
