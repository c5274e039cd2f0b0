"""The edge's side: starts the computing process, sends it tails, one of them ahead, and starts it anew when it ends."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

import psutil

from edge.computing import Computed
from edge.computing_process.messages import (
    FLAGS,
    Ended,
    Kind,
    Order,
    OrderedTail,
    Start,
    Step,
    ended_from_bytes,
    error_named,
    order_to_bytes,
)
from edge.models import ElsewhereRuntime, HeldModel, model_folders
from edge.tail_work import EdgeTail
from twinsplit.errors import ModelError, SettingsError, TwinsplitError
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.status import INTERNAL_TEXT, InternalError

_log = EventLog("edge.computing_process")

MODULE = "edge.computing_process"
AHEAD_BYTES = 64 << 10
"""A payload up to this size is sent while the tail before it runs: it waits in the socket's buffer, so that nobody who
writes waits for one who writes."""
START_S = 120.0
PAUSE_S = 1.0
"""Between two tries to start a process that does not come up."""
END_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """An order that was sent."""

    number: int
    first_flag: int
    is_wanted: Sequence[Callable[[], bool]]
    """One per flag."""
    tails: Sequence[EdgeTail] = ()


class ComputingProcess:
    """Runs tails in a process of its own; see :class:`edge.computing.Computing`.

    Args:
        start: What it is told first.
        ahead_bytes: See :data:`AHEAD_BYTES`.
    """

    def __init__(self, start: Start, ahead_bytes: int = AHEAD_BYTES) -> None:
        if not hasattr(os, "memfd_create"):
            raise SettingsError("--computing process is for Linux; leave it out")
        self._start = start
        self._ahead_bytes = ahead_bytes
        self._flags_fd = os.memfd_create("twinsplit-computing")
        os.ftruncate(self._flags_fd, FLAGS)
        self._flags = mmap.mmap(self._flags_fd, FLAGS)
        self._numbers = count(1)
        self._next_flag = 0
        self._under_way: tuple[_UnderWay, ...] = ()
        self._is_closing = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._digests: frozenset[str] = frozenset()

    def models(self, progress: Callable[[str], None] | None = None) -> dict[str, HeldModel]:
        """Start the process; the models by digest as it measured them.

        Raises:
            ModelError, ProviderError, SettingsError: as of loading them here.
        """
        manifests = {}
        for folder in model_folders(self._start.models):
            manifest, data = read_manifest(folder)
            manifests[manifest_digest(data)] = manifest
        measured = self._open(progress or (lambda _text: None)).models
        self._digests = frozenset(each.digest for each in measured)
        return {
            each.digest: HeldModel(
                manifests[each.digest],
                each.digest,
                ElsewhereRuntime(),
                each.segment_s,
                each.decode_s,
                self._start.slowdown,
                each.batches_from,
            )
            for each in measured
        }

    def start(self, wake: Callable[[], None]) -> None:
        """``wake`` is called when the process has ended."""
        self._wake = wake

    @property
    def pid(self) -> int | None:
        """Process id; ``None``: it was never started."""
        return None if self._process is None else self._process.pid

    @property
    def lack(self) -> str | None:
        """Why nothing can be run now."""
        return None if self._connection is not None else "the computing process has ended and is started again"

    def restore(self) -> None:
        """Start it again; on failure, wait a little."""
        try:
            if frozenset(each.digest for each in self._open(lambda _text: None).models) != self._digests:
                self._hang_up()
                raise ModelError("the models have changed on the disk; start the edge again")
        except TwinsplitError as failure:
            _log.error("computing-process-not-started", cause=str(failure), again_s=PAUSE_S)
            self._is_closing.wait(PAUSE_S)
            return
        self._restarts += 1
        _log.info("computing-process-started-again", restarts=self._restarts)

    def run(self, tails: Sequence[EdgeTail], following: EdgeTail | None = None) -> Computed:
        """See :meth:`edge.computing.Computing.run`."""
        ahead = next((each for each in self._under_way if list(each.tails) == list(tails)), None)
        order = ahead or self._send_tails(tails)
        if following is not None and len(following.work.data) <= self._ahead_bytes:
            self._send_tails([following])
        ended = self._ended(order)
        if ended.error is not None:
            raise ended.error
        return Computed(ended.outputs, ended.began_s, ended.ended_s)

    def quickest_s(self, model: HeldModel, is_idle: Callable[[], bool]) -> float | None:
        """See :meth:`edge.computing.Computing.quickest_s`."""
        number, flag = next(self._numbers), self._flag(1)
        order = _UnderWay(number, flag, (is_idle,))
        self._send(order, Order(Kind.CHECK, number, flag, digest=model.digest))
        return self._ended(order).quickest_s

    def look_again(self) -> None:
        """Tell it of orders under way what is wanted no longer."""
        for order in self._under_way:
            for place, is_wanted in enumerate(order.is_wanted):
                if not is_wanted():
                    self._flags[order.first_flag + place] = 1

    def samples(self) -> Iterator[Sample]:
        """Metrics of the process."""
        yield "twinsplit_computing_process_restarts_total", {}, self._restarts
        process = self._process
        with suppress(psutil.Error):
            if process is not None:
                reading = psutil.Process(process.pid)
                yield "twinsplit_computing_process_cpu_seconds_total", {}, sum(reading.cpu_times()[:2])
                yield "twinsplit_computing_process_resident_memory_bytes", {}, reading.memory_info().rss

    def close(self) -> None:
        """Hang up, and wait for its end."""
        self._is_closing.set()
        self._hang_up()

    def _open(self, progress: Callable[[str], None]) -> Step:
        """Start the process; what it said last while it started.

        Raises:
            TwinsplitError: it could not load the models.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno()), str(self._flags_fd)],
                pass_fds=(theirs.fileno(), self._flags_fd),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the edge
            )
        connection: Connection[Any, Any] = Connection(ours.detach())
        try:
            step = self._started(connection, progress)
        except BaseException as failure:
            connection.close()
            code = _end(process)
            if isinstance(failure, (EOFError, OSError)):
                raise TwinsplitError(f"the computing process ended while it started, with {code}") from None
            raise
        self._process = process
        self._connection = connection
        threading.Thread(target=self._watch, args=(self._process,), name="edge-computing-watch", daemon=True).start()
        return step

    def _started(self, connection: Connection[Any, Any], progress: Callable[[str], None]) -> Step:
        connection.send_bytes(self._start.model_dump_json().encode())
        step = Step()
        while not step.models:
            if not connection.poll(START_S):
                raise TwinsplitError(f"the computing process says nothing for {START_S:g} s while it starts")
            step = Step.model_validate_json(connection.recv_bytes())
            if step.error:
                raise error_named(step.error, step.text)
            if step.progress:
                progress(step.progress)
        return step

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if not self._is_closing.is_set():
            _log.error("computing-process-ended", code=code)
            if process is self._process:
                self._lose()

    def _lose(self) -> None:
        self._connection = None
        self._under_way = ()
        self._wake()

    def _hang_up(self) -> None:
        connection, process = self._connection, self._process
        self._connection = None
        if connection is not None:
            connection.close()
        if process is not None:
            _end(process)

    def _flag(self, needed: int) -> int:
        """The first of so many flags that no order under way has."""
        if self._next_flag + needed > FLAGS:
            self._next_flag = 0
        first = self._next_flag
        self._next_flag += needed
        self._flags[first : first + needed] = bytes(needed)
        return first

    def _send_tails(self, tails: Sequence[EdgeTail]) -> _UnderWay:
        number, flag = next(self._numbers), self._flag(len(tails))
        order = _UnderWay(number, flag, tuple(_wanted(tail) for tail in tails), tuple(tails))
        sent = [OrderedTail(t.model, t.cut, EncodedTensor(t.work.header, t.work.data), t.deadline_at_s) for t in tails]
        self._send(order, Order(Kind.TAILS, number, flag, sent))
        return order

    def _send(self, under_way: _UnderWay, order: Order) -> None:
        self._under_way += (under_way,)
        self.look_again()  # what was said before the order was there
        connection = self._connection
        try:
            if connection is None:
                raise EOFError
            connection.send_bytes(order_to_bytes(order))
        except (EOFError, OSError):
            self._lose()
            raise InternalError(INTERNAL_TEXT) from None

    def _ended(self, order: _UnderWay) -> Ended:
        while True:
            connection = self._connection
            try:
                if connection is None:
                    raise EOFError
                ended = ended_from_bytes(connection.recv_bytes())
            except (EOFError, OSError):
                self._lose()
                raise InternalError(INTERNAL_TEXT) from None
            self._under_way = tuple(each for each in self._under_way if each.number != ended.number)
            if ended.number == order.number:
                return ended


def _end(process: subprocess.Popen[bytes]) -> int:
    """Exit code of a process that was hung up on; it is killed if it does not mind that."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _wanted(tail: EdgeTail) -> Callable[[], bool]:
    return lambda: tail.is_wanted
