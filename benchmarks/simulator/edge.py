"""One edge: the service's own queue of tails, fed with other users' jobs and the tails of simulated devices.

Nothing but the queue's own order decides who is served, so the end of a tail is known when it is admitted. The queue is
brought up to date only when somebody looks, not by an event for each of other users' jobs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.simulator.load import LoadJobs
from edge.tail_queue import EdgeReading, Tail, TailQueue

OTHERS = "other users"
"""Model and owner of other users' jobs."""


class Work(NamedTuple):
    """What a simulated tail is."""

    service_s: float
    """Time that it will really take."""
    device: int | None
    """Number of the device that waits for it; ``None``: another user does."""
    task_id: int


TailListener = Callable[[int, Tail[Work], float], None]
"""Told (number of the edge, tail, instant)."""


class SimulatedEdge:
    """The tail queue of an edge and those who fill it."""

    def __init__(
        self,
        index: int,
        digest: str,
        tail_s: Sequence[float],
        jobs: LoadJobs,
        begin_s: float,
        *,
        capacity: int,
        admitted: TailListener | None = None,
        started: TailListener | None = None,
    ) -> None:
        """
        Args:
            digest: of the devices' model.
            tail_s: profiled service times of its tails after cut 0, 1, ...
            begin_s: instant at which the edge starts.
            admitted: told every tail of every user that is admitted, in order.
            started: told every tail that enters service, in order.
        """
        self.index = index
        self.edge_id = f"edge-{index}"
        self.address = f"{self.edge_id}:7100"
        self.tail_s = tuple(tail_s)
        self.queue: TailQueue[Work] = TailQueue(capacity, {digest: tail_s, OTHERS: jobs.sizes_s}, begin_s)
        self.jobs = jobs
        self.refused_jobs = 0
        """Other users' jobs that found the queue full."""
        self._digest = digest
        self._capacity = capacity
        self._next_job = 0
        self._next_job_s = jobs.at_s(0)
        self._ends_s: deque[float] = deque()
        self._admitted = admitted
        self._started = started

    def advance(self, now_s: float) -> None:
        """Let everything happen here that happens up to ``now_s``."""
        ends_s = self._ends_s
        while True:
            job_s = self._next_job_s
            if ends_s and ends_s[0] <= job_s:
                end_s = ends_s[0]
                if end_s > now_s:
                    return
                ends_s.popleft()
                tail = self.queue.in_service
                assert tail is not None, "an end belongs to the tail in service"
                self.queue.finish(end_s, tail.work.service_s)
                if ends_s:
                    self._start_next(end_s)
            else:
                if job_s > now_s:
                    return
                self._take_job(job_s)
                self._next_job += 1
                self._next_job_s = self.jobs.at_s(self._next_job)

    @property
    def next_job_s(self) -> float:
        """Arrival of the next of other users' jobs after the last look; infinity: none comes."""
        return self._next_job_s

    def backlog_s(self, now_s: float) -> float:
        """Unfinished work at ``now_s``, as predicted, seconds of service."""
        self.advance(now_s)
        return self.queue.backlog_s(now_s)

    def reading(self, now_s: float) -> EdgeReading:
        """All that the edge knows about its load at ``now_s``."""
        self.advance(now_s)
        return self.queue.reading(now_s)

    def admit(
        self, device: int, task_id: int, cut: int, jitter: float, now_s: float, deadline_at_s: float | None
    ) -> tuple[float, float]:
        """Take the tail after ``cut`` of a device's task: (end of its service, its real service time).

        Args:
            jitter: real over profiled service time.
            deadline_at_s: it is refused if it could not be answered before; once admitted it is served.

        Raises:
            RefusedError: the queue does not take it.
        """
        self.advance(now_s)
        service_s = self.tail_s[cut] * jitter
        tail = Tail(self._digest, cut, device, Work(service_s, device, task_id), now_s, deadline_at_s)
        self.queue.admit(tail, now_s)
        tail.deadline_at_s = None
        return self._admit(tail, now_s), service_s

    def _take_job(self, at_s: float) -> None:
        if len(self._ends_s) > self._capacity:
            self.refused_jobs += 1
            return
        number = self._next_job
        work = Work(self.jobs.service_s(number), None, number)
        tail = Tail(OTHERS, self.jobs.size(number), OTHERS, work, at_s)
        self.queue.admit(tail, at_s)
        self._admit(tail, at_s)

    def _admit(self, tail: Tail[Work], now_s: float) -> float:
        if self._admitted is not None:
            self._admitted(self.index, tail, now_s)
        is_idle = not self._ends_s
        end_s = (now_s if is_idle else self._ends_s[-1]) + tail.work.service_s
        self._ends_s.append(end_s)
        if is_idle:
            self._start_next(now_s)
        return end_s

    def _start_next(self, now_s: float) -> None:
        turn = self.queue.start_next(now_s)
        if self._started is not None and turn.tail is not None:
            self._started(self.index, turn.tail, now_s)
