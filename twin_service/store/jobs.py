"""What a shared store has to do, in order: handed over by any thread, done by the one that has the session."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinsplit.errors import StorageError

if TYPE_CHECKING:
    from twin_service.memory import Claim
    from twin_service.store.postgres_tables import PostgresTables

MOST_WAITING_BYTES = 64e6
"""Handed over and not yet written; beyond it nothing more is taken."""


@dataclass(slots=True)
class Job:
    """Something to be done on a session."""

    run: Callable[[PostgresTables], Any]
    future: Future[Any] | None = None
    """Of a question; ``None``: a write that nobody waits for."""
    size_bytes: int = 0
    is_learners: bool = False
    """Whether only the replica that learns may write it."""


@dataclass(slots=True)
class Claiming:
    """A device attaches."""

    epoch: int
    """The highest that it announces."""
    futures: list[Future[Claim]]


class Jobs:
    """The queue, and the claims beside it, which are done before it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Also of whoever decides whether anything is taken at all."""
        self._jobs: deque[Job] = deque()
        self._waiting_bytes = 0
        self._claims: dict[str, Claiming] = {}

    def add(self, job: Job) -> None:
        """One more.

        Raises:
            StorageError: too much is waiting; it was not taken.
        """
        with self.lock:
            if self._waiting_bytes + job.size_bytes > MOST_WAITING_BYTES:
                raise StorageError("the database does not keep up; what is to be kept stays due")
            self._waiting_bytes += job.size_bytes
            self._jobs.append(job)

    def claim(self, device_id: str, epoch: int) -> Future[Claim]:
        """A device attaches under an epoch that it announces."""
        future: Future[Claim] = Future()
        with self.lock:
            claiming = self._claims.setdefault(device_id, Claiming(epoch, []))
            claiming.epoch = max(claiming.epoch, epoch)
            claiming.futures.append(future)
        return future

    def first(self) -> Job | None:
        """What is to be done next; it stays until it is dropped. ``None``: nothing."""
        with self.lock:
            return self._jobs[0] if self._jobs else None

    def drop(self, job: Job) -> None:
        """The first job is done, or in vain."""
        with self.lock:
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()
                self._waiting_bytes -= job.size_bytes

    def take_claims(self) -> dict[str, Claiming]:
        """All claims that somebody still waits for, by device. From now on they cannot be cancelled."""
        with self.lock:
            claims, self._claims = self._claims, {}
        for claiming in claims.values():
            claiming.futures = [future for future in claiming.futures if future.set_running_or_notify_cancel()]
        return {device_id: claiming for device_id, claiming in claims.items() if claiming.futures}

    def fail(self, error: Exception) -> None:
        """The session is gone: nobody waits for it. Writes stay, but for those of the learner: whoever learns by the
        time there is another session has weights of its own."""
        with self.lock:
            asked = [job.future for job in self._jobs if job.future is not None]
            asked += [future for claiming in self.take_claims().values() for future in claiming.futures]
            self._jobs = deque(job for job in self._jobs if job.future is None and not job.is_learners)
            self._waiting_bytes = sum(job.size_bytes for job in self._jobs)
        for future in asked:
            fail(future, error)


def fail(future: Future[Any] | None, error: Exception) -> None:
    """Whoever waits for it, if anybody still does, gets the error."""
    if future is not None and not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.set_exception(error)
