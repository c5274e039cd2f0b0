"""The queue in front of several back ends: work-conserving, bounded, first come first served. Sans-IO.

A tail goes to the back end where its answer is expected first, as soon as one has room; what a back end that dies had
under way goes back to its old place in the queue, and on to another. The same objects, errors and statistics as
of an edge that runs its tails itself (:mod:`edge.tail_queue`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edge.backlog_statistics import ArrivedWork, BacklogStatistics
from edge.engine.back_end_load import BackEndLoad, Flight
from edge.tail_queue import EdgeReading, Tail
from twinsplit.errors import DeadlineError, EdgeFullError, StoppingError
from twinsplit.reckoning import BacklogState

WorkT = TypeVar("WorkT")

NO_ENGINE_S = 60.0
"""Backlog that is told while no back end answers: no plan offloads to that."""
NO_ENGINE_TEXT = "no engine behind this edge answers; finish the task on the device or at another edge"
HOPE_S = 1.0
"""So long after the last back end has gone tails are kept for one that comes back; then they are refused."""
MOST_TRIES = 3
"""Back ends that one tail may lose before it is given up: it may be what kills them."""
_ERROR_MEMORY_TAILS = 50.0


@dataclass(slots=True)
class Dispatch(Generic[WorkT]):
    """What the shell is to do next."""

    flights: list[Flight[WorkT]] = field(default_factory=list)
    """To be sent."""
    expired: list[Tail[WorkT]] = field(default_factory=list)
    """To be refused: they can no longer be in time."""
    stranded: list[Tail[WorkT]] = field(default_factory=list)
    """To be refused: no back end answers."""


class EngineQueue(Generic[WorkT]):
    """Bounded FIFO in front of back ends, with admission by predicted time, fail-over and load statistics.

    Args:
        capacity: Tails that may wait here, at least 1; those under way do not count.
        tail_s: Per model digest, the profiled service time of the tail after cut 0, 1, ... m-1, seconds, the way to the
            back end and decoding included.
        back_ends: At least one.
        now_s: Clock reading at the start.
    """

    def __init__(
        self,
        capacity: int,
        tail_s: Mapping[str, Sequence[float]],
        back_ends: Sequence[BackEndLoad[WorkT]],
        now_s: float,
    ) -> None:
        if capacity < 1 or not back_ends:
            raise ValueError(f"a queue of capacity {capacity} before {len(back_ends)} back ends would never serve")
        self.capacity = capacity
        self.back_ends = tuple(back_ends)
        self.is_stopping = False
        """Whether new tails are refused."""
        self.backlog_error_s: float | None = None
        """Mean difference between the wait that a tail was predicted on arrival and the one it met, seconds; ``None``:
        none has ended yet."""
        self._gone_at_s: float | None = None
        self._tail_s = {model: tuple(times) for model, times in tail_s.items()}
        self._waiting: deque[Tail[WorkT]] = deque()
        self._waiting_profiled_s = 0.0
        self._tries: dict[Tail[WorkT], int] = {}
        self._expected_wait_s: dict[Tail[WorkT], float] = {}
        self._arrived = ArrivedWork()
        self._statistics = BacklogStatistics(now_s)
        self._statistics_at_s = now_s

    @property
    def is_ready(self) -> bool:
        """Whether any back end takes tails."""
        return any(back_end.is_ready for back_end in self.back_ends)

    def set_ready(self, place: int, is_ready: bool, now_s: float) -> None:
        """The back end at ``place`` takes tails from now on, or no more."""
        self._advance(now_s)
        was_ready = self.is_ready
        self.back_ends[place].is_ready = is_ready
        if was_ready and not self.is_ready:
            self._gone_at_s = now_s

    def is_hopeful(self, now_s: float) -> bool:
        """Whether a back end takes tails, or did a moment ago."""
        return self.is_ready or (self._gone_at_s is not None and now_s - self._gone_at_s < HOPE_S)

    @property
    def queue_length(self) -> int:
        """Tails waiting or under way."""
        return len(self._waiting) + sum(len(back_end.flights) for back_end in self.back_ends)

    @property
    def speed_factor(self) -> float:
        """Measured over profiled service time, mean over the back ends that are ready."""
        factors = [each.speed_factor for each in self.back_ends if each.is_ready]
        return sum(factors) / len(factors) if factors else 1.0

    @property
    def mean_profiled_s(self) -> float:
        """Profiled service time of what is here, mean, seconds; of all tails there are, where nothing is."""
        here = [flight.tail.profiled_s for each in self.back_ends for flight in each.flights]
        here += [tail.profiled_s for tail in self._waiting]
        here = here or [time_s for times in self._tail_s.values() for time_s in times]
        return sum(here) / len(here) if here else 0.0

    def backlog_s(self, now_s: float) -> float:
        """How long a tail that comes now would wait, seconds."""
        return self._waiting_s + self._wait_behind_s(now_s) if self.is_hopeful(now_s) else NO_ENGINE_S

    def admit(self, tail: Tail[WorkT], now_s: float) -> None:
        """Take ``tail`` at the end of the queue, or refuse it and change nothing.

        Raises:
            StoppingError: the queue takes nothing more, or no back end answers.
            EdgeFullError: as many tails wait as may.
            DeadlineError: its deadline would pass before its predicted end.
            KeyError, IndexError: a model or cut that this edge does not hold.
        """
        profiled_s = self._tail_s[tail.model][tail.cut]
        if self.is_stopping:
            raise StoppingError("this edge is stopping; finish the task on the device or at another edge")
        if not self.is_hopeful(now_s):
            raise StoppingError(NO_ENGINE_TEXT)
        if len(self._waiting) >= self.capacity and not any(each.has_room for each in self.back_ends):
            raise EdgeFullError(
                f"{self.capacity} tails wait here already; finish the task on the device, or start the edge with a "
                "larger --queue-capacity"
            )
        predicted_s = profiled_s * self.speed_factor
        wait_s = self.backlog_s(now_s)
        if tail.deadline_at_s is not None and now_s + wait_s + predicted_s > tail.deadline_at_s:
            left_s = max(tail.deadline_at_s - now_s, 0.0)
            raise DeadlineError(
                f"{left_s * 1e3:.1f} ms are left but the answer would take {(wait_s + predicted_s) * 1e3:.1f} ms; "
                "finish the task on the device"
            )
        self._advance(now_s)
        tail.profiled_s = profiled_s
        tail.predicted_s = predicted_s
        self._expected_wait_s[tail] = wait_s
        self._join(tail)
        self._arrived.add(predicted_s, now_s)

    def dispatch(self, now_s: float) -> Dispatch[WorkT]:
        """Send as many as there is room for. Those whose deadline can no longer be met leave as expired."""
        self._advance(now_s)
        found: Dispatch[WorkT] = Dispatch(expired=self._expired(now_s))
        if not self.is_hopeful(now_s):
            found.stranded = self.drain(now_s)
        while self._waiting:
            tail = self._waiting[0]
            open_ends = [each for each in self.back_ends if each.has_room]
            if not open_ends:
                break
            best = min(open_ends, key=lambda each: (each.wait_s(now_s) + each.own_s(tail), len(each.flights)))
            self._leave_waiting(self._waiting.popleft())
            if tail.started_at_s is None:
                tail.started_at_s = now_s
            tail.predicted_s = best.own_s(tail)
            found.flights.append(best.send(tail, now_s))
        return found

    def finished(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` came back with an answer."""
        self._advance(now_s)
        self._note_error(flight, now_s)
        self.back_ends[flight.place].finished(flight, now_s)
        self._forget(flight.tail)

    def failed(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` came back without an answer, or is given up."""
        self._advance(now_s)
        self.back_ends[flight.place].leave(flight, now_s)
        self._forget(flight.tail)

    def move(self, flight: Flight[WorkT], now_s: float) -> bool:
        """``flight`` cannot be answered where it went; its tail takes its old place in the queue.

        Returns:
            Whether it does; else it is given up: it was tried too often.
        """
        self._advance(now_s)
        tail = flight.tail
        self.back_ends[flight.place].leave(flight, now_s)
        tries = self._tries[tail] = self._tries.get(tail, 0) + 1
        if tries >= MOST_TRIES:
            self._forget(tail)
            return False
        self._join(tail)
        return True

    def put_back(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` came back because the back end is full: its tail takes its old place in the queue, no try
        used up. That back end gets another one when one that it has ends, or by :meth:`try_more`."""
        self._advance(now_s)
        self.back_ends[flight.place].refused(flight, now_s)
        self._join(flight.tail)

    def try_more(self) -> None:
        """Some time has passed: back ends that were full may have room."""
        for back_end in self.back_ends:
            back_end.try_more()

    def cancel(self, tail: Tail[WorkT], now_s: float) -> bool:
        """Nobody waits for ``tail`` any more: a waiting one leaves at once, one under way by :meth:`failed`.

        Returns:
            Whether it left the queue by this call.
        """
        tail.is_wanted = False
        if tail not in self._waiting:
            return False
        self._advance(now_s)
        self._waiting.remove(tail)
        self._leave_waiting(tail)
        self._forget(tail)
        return True

    def tails_of(self, owner: Hashable) -> list[Tail[WorkT]]:
        """Tails of ``owner``, waiting or under way."""
        under_way = [flight.tail for each in self.back_ends for flight in each.flights]
        return [tail for tail in (*self._waiting, *under_way) if tail.owner == owner]

    def drain(self, now_s: float) -> list[Tail[WorkT]]:
        """All that waits leaves the queue.

        Returns:
            Those that waited.
        """
        self._advance(now_s)
        left = list(self._waiting)
        self._waiting.clear()
        self._waiting_profiled_s = 0.0
        for tail in left:
            self._forget(tail)
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

    def _expired(self, now_s: float) -> list[Tail[WorkT]]:
        gone = [tail for tail in self._waiting if tail.deadline_at_s is not None and now_s >= self._latest_s(tail)]
        for tail in gone:
            self._waiting.remove(tail)
            self._leave_waiting(tail)
            self._forget(tail)
        return gone

    def _latest_s(self, tail: Tail[WorkT]) -> float:
        """Instant after which ``tail`` cannot be sent and be in time."""
        assert tail.deadline_at_s is not None, "asked for tails with a deadline only"
        return tail.deadline_at_s - tail.profiled_s * self.speed_factor

    def _note_error(self, flight: Flight[WorkT], now_s: float) -> None:
        expected_s = self._expected_wait_s.get(flight.tail)
        if expected_s is None:
            return
        met_s = max(now_s - flight.tail.arrived_at_s - self.back_ends[flight.place].own_s(flight.tail), 0.0)
        error_s, weight = abs(met_s - expected_s), 1.0 / _ERROR_MEMORY_TAILS
        known_s = self.backlog_error_s
        self.backlog_error_s = error_s if known_s is None else known_s + weight * (error_s - known_s)

    def _forget(self, tail: Tail[WorkT]) -> None:
        self._tries.pop(tail, None)
        self._expected_wait_s.pop(tail, None)

    def _join(self, tail: Tail[WorkT]) -> None:
        """Into its place by arrival: the end for a new one, near the head for one that comes back."""
        place = len(self._waiting)
        while place and self._waiting[place - 1].arrived_at_s > tail.arrived_at_s:
            place -= 1
        self._waiting.insert(place, tail)
        self._waiting_profiled_s += tail.profiled_s

    def _leave_waiting(self, tail: Tail[WorkT]) -> None:
        self._waiting_profiled_s -= tail.profiled_s
        if not self._waiting:
            self._waiting_profiled_s = 0.0  # rounding errors must not add up over days

    @property
    def _waiting_s(self) -> float:
        """How long what waits here will take all back ends together."""
        rate = sum(each.rate for each in self.back_ends if each.is_ready)
        return self._waiting_profiled_s / rate if rate > 0.0 else 0.0

    def _wait_behind_s(self, now_s: float) -> float:
        return min((each.wait_s(now_s) for each in self.back_ends if each.is_ready), default=0.0)

    def _advance(self, now_s: float) -> None:
        if now_s <= self._statistics_at_s:
            return
        behind_s = self._wait_behind_s(self._statistics_at_s)
        self._statistics.advance(
            now_s, waiting_s=self._waiting_s, in_service_s=behind_s, is_busy=behind_s > 0.0 or bool(self._waiting)
        )
        self._statistics_at_s = now_s
