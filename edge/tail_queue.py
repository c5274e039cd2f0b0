"""The edge's queue of tails: a bounded, work-conserving FIFO that knows its backlog in seconds of service.

Sans-IO: it is told events with a clock reading and says what to do next; a shell (:mod:`edge.execution`) runs the
tails, and the simulator runs the very same objects (design sections 3 and 4). One tail is in service at a time, or
several of one model and cut that stand at the head of the queue and pay as a batch (:mod:`edge.batching`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Generic, TypeVar

from edge.backlog_statistics import ArrivedWork, BacklogStatistics
from edge.batching import BatchSettings, BatchSizes
from edge.lateness import Lateness
from twinsplit.errors import DeadlineError, EdgeFullError, StoppingError
from twinsplit.reckoning import BacklogState

WorkT = TypeVar("WorkT")

_MEMORY_TAILS = 20.0
"""Tails over which the speed factor is tracked."""
_KEEP = 1.0 - 1.0 / _MEMORY_TAILS
_MUCH_FASTER = 0.7
"""An idle edge that needs less than this share of the time it believes to need is taken at its word: no more is
explained by other work on the machine, which tails will meet again."""
_LARGEST_STEP = 4.0
"""One outlier counts at most as this many times its prediction: a stall must not look like a slow edge."""


class TailEnd(str, Enum):
    """How a tail that entered the queue left it; every tail gets exactly one."""

    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(slots=True, eq=False)
class Tail(Generic[WorkT]):
    """One tail in the queue. The shell keeps what it needs to run and answer it in ``work``."""

    model: str
    """Digest of its model."""
    cut: int
    """Segments ``cut .. m-1`` are to be run."""
    owner: Hashable
    """Whoever waits for it: a stream."""
    work: WorkT
    arrived_at_s: float
    deadline_at_s: float | None = None
    """After this instant nobody needs the answer; ``None``: no limit."""
    profiled_s: float = 0.0
    """Service time as profiled, without the speed factor."""
    predicted_s: float = 0.0
    """Service time predicted at its service start (before: at its admission), seconds."""
    foretold_s: float = 0.0
    """Instant at which it was predicted to end when it was admitted."""
    started_at_s: float | None = None
    is_wanted: bool = True
    """False: its requester has cancelled or gone. Read between segments."""

    def is_wanted_at(self, now_s: float) -> bool:
        """Whether anybody waits for the answer at ``now_s``."""
        return self.is_wanted and (self.deadline_at_s is None or now_s < self.deadline_at_s)


@dataclass(slots=True)
class Turn(Generic[WorkT]):
    """What the shell is to do next: run ``tail`` (``None``: wait), and refuse those that can no longer be in time."""

    tail: Tail[WorkT] | None
    expired: Sequence[Tail[WorkT]] = ()
    others: Sequence[Tail[WorkT]] = ()
    """To be run in one batch with ``tail``."""


@dataclass(frozen=True, slots=True)
class EdgeReading:
    """The queue at one instant: what reports and answers carry."""

    backlog: BacklogState
    arrived_work_s: tuple[float, float, float]
    """Work arrived in the last 0.25 s, 1 s and 4 s, seconds of service."""
    speed_factor: float
    """Measured over profiled service time, tracked; above 1: slower than profiled."""
    queue_length: int
    """Tails waiting or in service."""
    busy_share: float


class TailQueue(Generic[WorkT]):
    """Bounded FIFO with admission by predicted time, cancellation and load statistics.

    Args:
        capacity: Tails that may wait, at least 1; the one in service does not count.
        tail_s: Per model digest, the profiled service time of the tail after cut 0, 1, ... m-1, seconds, decoding
            included.
        now_s: Clock reading at the start.
        batches: Which tails may be run together; ``None``: each by itself.
    """

    def __init__(
        self,
        capacity: int,
        tail_s: Mapping[str, Sequence[float]],
        now_s: float,
        batches: BatchSettings | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a queue of capacity {capacity} could never take a tail")
        self._capacity = capacity
        self._tail_s = {model: tuple(times) for model, times in tail_s.items()}
        self._waiting: deque[Tail[WorkT]] = deque()
        self._waiting_profiled_s = 0.0
        self._in_service: list[Tail[WorkT]] = []
        self._served_until_s = 0.0
        self.batches = BatchSizes(batches or BatchSettings())
        self._batched_share = 1.0
        self._is_stopping = False
        self._arrived = ArrivedWork()
        self._statistics = BacklogStatistics(now_s)
        self._statistics_at_s = now_s
        profiled = [time for times in self._tail_s.values() for time in times]
        prior_s = _MEMORY_TAILS * max(sum(profiled) / len(profiled) if profiled else 0.0, 1e-9)
        self._measured_s = prior_s
        self._expected_s = prior_s
        self._speed_factor = 1.0
        self._lateness = Lateness()

    @property
    def following(self) -> Tail[WorkT] | None:
        """The tail that will be run next unless it is cancelled or expires; ``None``: there is none, or it may be run
        with others."""
        return self._waiting[0] if self._waiting and self.batches.most <= 1 else None

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def is_stopping(self) -> bool:
        """Whether new tails are refused."""
        return self._is_stopping

    @property
    def speed_factor(self) -> float:
        """Measured over profiled service time of the last tails, weighted by work."""
        return self._speed_factor

    @property
    def queue_length(self) -> int:
        """Tails waiting or in service."""
        return len(self._waiting) + len(self._in_service)

    @property
    def busy_share(self) -> float:
        """Share of the seconds before the last event in which it served, 0..1."""
        return self._statistics.busy_share

    @property
    def in_service(self) -> Tail[WorkT] | None:
        """The tail in service, the first one of a batch."""
        return self._in_service[0] if self._in_service else None

    def predicted_s(self, model: str, cut: int) -> float:
        """Service time expected of the tail after ``cut`` of ``model`` now, seconds.

        Raises:
            KeyError, IndexError: a model or cut that was not given at construction.
        """
        return self._tail_s[model][cut] * self.speed_factor

    def backlog_s(self, now_s: float) -> float:
        """Unfinished work at ``now_s``, seconds of service: all that waits, as much faster as batches have made it
        lately, and what is left in service."""
        return self._waiting_s + self._left_in_service_s(now_s)

    def admit(self, tail: Tail[WorkT], now_s: float) -> None:
        """Take ``tail`` at the end of the queue, or refuse it and change nothing.

        Raises:
            StoppingError: the queue takes nothing more.
            EdgeFullError: as many tails wait as may.
            DeadlineError: its deadline would pass before its predicted end, as late as such ends have been lately.
            KeyError, IndexError: a model or cut that this edge does not hold.
        """
        profiled_s = self._tail_s[tail.model][tail.cut]
        if self._is_stopping:
            raise StoppingError("this edge is stopping; finish the task on the device or at another edge")
        # One more than may wait is on its way into service where nothing is in service yet.
        if len(self._waiting) + bool(self._in_service) > self._capacity:
            raise EdgeFullError(
                f"{self._capacity} tails wait here already; finish the task on the device, or start the edge with a "
                "larger --queue-capacity"
            )
        predicted_s = profiled_s * self._speed_factor
        end_s = now_s + self.backlog_s(now_s) + predicted_s
        if tail.deadline_at_s is not None:
            needed_s = end_s + self._lateness.allowance_s(now_s) - now_s
            if now_s + needed_s > tail.deadline_at_s:
                left_s = max(tail.deadline_at_s - now_s, 0.0)
                raise DeadlineError(
                    f"{left_s * 1e3:.1f} ms are left but the answer would take {needed_s * 1e3:.1f} ms; finish the "
                    "task on the device"
                )
        self._advance(now_s)
        tail.profiled_s = profiled_s
        tail.predicted_s = predicted_s
        tail.foretold_s = end_s
        self._waiting.append(tail)
        self._waiting_profiled_s += profiled_s
        self._arrived.add(predicted_s, now_s)

    def start_next(self, now_s: float) -> Turn[WorkT]:
        """Put the next tail into service. Those whose deadline can no longer be met leave as expired.

        Raises:
            RuntimeError: one is in service already.
        """
        if self._in_service:
            raise RuntimeError("finish the tail in service before the next one starts")
        self._advance(now_s)
        expired: list[Tail[WorkT]] = []
        factor = self._speed_factor
        while self._waiting:
            tail = self._waiting.popleft()
            self._leave_waiting(tail)
            tail.predicted_s = tail.profiled_s * factor
            if tail.deadline_at_s is not None and now_s + tail.predicted_s > tail.deadline_at_s:
                self._lateness.note(now_s + tail.predicted_s - tail.foretold_s, now_s)
                expired.append(tail)
                continue
            tail.started_at_s = now_s
            self._in_service = [tail]
            self._served_until_s = now_s + tail.predicted_s
            if not self._waiting or self.batches.most <= 1:
                return Turn(tail, expired)
            others = self._others(tail, now_s)
            for other in others:
                other.started_at_s = now_s
            self._in_service += others
            self._served_until_s = now_s + self._batch_s(self._in_service)
            return Turn(tail, expired, others)
        return Turn(None, expired)

    def _others(self, first: Tail[WorkT], now_s: float) -> list[Tail[WorkT]]:
        """Those that leave the queue with ``first``: alike, next in line, and all of them in time."""
        most = self.batches.most_of(first.model, first.cut)
        alike = [first, *takewhile(lambda t: (t.model, t.cut) == (first.model, first.cut), self._waiting)][:most]
        for size in self.batches.sizes(first.model, first.cut, len(alike), 1 + len(self._waiting)):
            batch = alike[:size]
            ends_at_s = now_s + self._batch_s(batch)
            if all(tail.deadline_at_s is None or ends_at_s <= tail.deadline_at_s for tail in batch):
                break
        for _ in batch[1:]:
            self._leave_waiting(self._waiting.popleft())
        return batch[1:]

    def _batch_s(self, batch: list[Tail[WorkT]]) -> float:
        """Predicted service time of ``batch``, seconds."""
        relative = self.batches.relative(batch[0].model, batch[0].cut, len(batch))
        return relative * self._speed_factor * sum(tail.profiled_s for tail in batch)

    def finish(self, now_s: float, service_s: float | None) -> None:
        """The tail in service has left it, or the whole batch.

        Args:
            now_s: The end of its service.
            service_s: Its measured service time; ``None``: it was stopped or failed, so nothing is learnt from it.

        Raises:
            RuntimeError: none is in service.
        """
        if not self._in_service:
            raise RuntimeError("no tail is in service")
        self._advance(now_s)
        served, self._in_service = self._in_service, []
        profiled_s = 0.0
        for tail in served:
            self._lateness.note(now_s - tail.foretold_s, now_s)
            profiled_s += tail.profiled_s
        if service_s is None or profiled_s <= 0.0:
            return
        relative = 1.0
        if len(served) > 1:
            # What a batch takes says how batches do, and not how fast this edge is.
            relative = service_s / (profiled_s * self._speed_factor)
            self.batches.served(served[0].model, served[0].cut, len(served), relative)
        else:
            counted_s = min(service_s, _LARGEST_STEP * profiled_s * self._speed_factor)
            self._measured_s = self._measured_s * _KEEP + counted_s
            self._expected_s = self._expected_s * _KEEP + profiled_s
            self._speed_factor = self._measured_s / self._expected_s
        for _ in served if self.batches.most > 1 else ():
            self._batched_share = self._batched_share * _KEEP + (1.0 - _KEEP) * min(relative, 1.0)

    def checked(self, profiled_s: float, measured_s: float) -> None:
        """The edge was idle and ran for itself, in ``measured_s``, what takes ``profiled_s`` by its profile."""
        if measured_s < _MUCH_FASTER * profiled_s * self._speed_factor:
            self._speed_factor = measured_s / profiled_s
            self._measured_s = self._expected_s * self._speed_factor

    def cancel(self, tail: Tail[WorkT], now_s: float) -> bool:
        """Nobody waits for ``tail`` any more: a waiting one leaves at once, one in service at its next segment.

        Returns:
            Whether it left the queue by this call (one in service leaves by :meth:`finish`).
        """
        tail.is_wanted = False
        if tail in self._in_service or tail not in self._waiting:
            return False
        self._advance(now_s)
        self._waiting.remove(tail)
        self._leave_waiting(tail)
        return True

    def cancel_owner(self, owner: Hashable, now_s: float) -> list[Tail[WorkT]]:
        """Cancel all tails of ``owner``, whose stream has closed.

        Returns:
            Those that left the queue by this call.
        """
        for tail in self._in_service:
            tail.is_wanted = tail.is_wanted and tail.owner != owner
        return [tail for tail in list(self._waiting) if tail.owner == owner and self.cancel(tail, now_s)]

    def stop_admitting(self) -> None:
        """Refuse new tails from now on; those in the queue are finished."""
        self._is_stopping = True

    def drain(self, now_s: float) -> list[Tail[WorkT]]:
        """Give up everything: all that waits leaves the queue, what is in service is no longer wanted.

        Returns:
            Those that waited.
        """
        self._advance(now_s)
        for tail in self._in_service:
            tail.is_wanted = False
        left = list(self._waiting)
        self._waiting.clear()
        self._waiting_profiled_s = 0.0
        return left

    def reading(self, now_s: float) -> EdgeReading:
        """The queue at ``now_s``."""
        self._advance(now_s)
        return EdgeReading(
            backlog=self.backlog_state(now_s),
            arrived_work_s=self._arrived.within_horizons_s(now_s),
            speed_factor=self.speed_factor,
            queue_length=self.queue_length,
            busy_share=self._statistics.busy_share,
        )

    def backlog_state(self, now_s: float) -> BacklogState:
        """Backlog at ``now_s`` with what carries it forward."""
        return BacklogState(
            backlog_s=self.backlog_s(now_s),
            at_s=now_s,
            mean_s=self._statistics.mean_s,
            time_constant_s=self._statistics.time_constant_s,
        )

    def _left_in_service_s(self, now_s: float) -> float:
        # A plain loop and a comparison: this is asked several times for every tail.
        for tail in self._in_service:
            if tail.is_wanted:
                left_s = self._served_until_s - now_s
                return left_s if left_s > 0.0 else 0.0
        return 0.0

    @property
    def _waiting_s(self) -> float:
        return self._waiting_profiled_s * self._speed_factor * self._batched_share

    def _leave_waiting(self, tail: Tail[WorkT]) -> None:
        self._waiting_profiled_s -= tail.profiled_s
        if not self._waiting:
            self._waiting_profiled_s = 0.0  # rounding errors must not add up over days

    def _advance(self, now_s: float) -> None:
        if now_s <= self._statistics_at_s:
            return
        self._statistics.advance(
            now_s,
            self._waiting_s if self._waiting else 0.0,
            self._left_in_service_s(self._statistics_at_s) if self._in_service else 0.0,
            bool(self._in_service),
        )
        self._statistics_at_s = now_s
