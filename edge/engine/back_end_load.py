"""How much one back end has to do for us, and how long a further tail would wait there. Sans-IO.

A server of the Open Inference Protocol says nothing about its queue. What we know is what we have under way there, and
since when. Little's law makes seconds of that: what is under way, over the rate at which such work gets done. Two
numbers are tracked for it, each where it shows by itself:

- the *speed factor*, by tails that had the back end to themselves: measured over profiled service time;
- the *rate*, while as much is under way as may be: work done per second, in profiled seconds. Rate times speed factor
  is the *parallelism*, how many tails the back end really runs at once, as instances, cores and batches make it.

With ``w`` seconds of work left and a parallelism ``p``, a further tail of ``z`` seconds waits ``(w + z) / p - z``,
and never less than nothing: for one worker that is ``w``, for several it is nothing until all are at work.

What others do there makes our tails take longer, and so counts into the speed factor. Where the server tells how many
requests wait in it, or how long they did, that counts too as long as it has foretold the waits of our tails better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.tail_queue import Tail

WorkT = TypeVar("WorkT")

_MEMORY_TAILS = 20.0
_LARGEST_STEP = 4.0
"""One outlier counts at most as this many times its prediction."""
_LONGEST_GAP_S = 0.002
"""A place that stays empty for longer ends a span in which the back end was full."""
_TOLD_MEMORY_S = 0.3
_TOLD_FOR_S = 2.0
"""What a server told of others' work is forgotten after this long."""
_LEAST_PARALLELISM = 0.5


@dataclass(slots=True, eq=False)
class Flight(Generic[WorkT]):
    """One tail on its way through one back end."""

    tail: Tail[WorkT]
    place: int
    """Position of the back end in the setting."""
    sent_at_s: float
    own_s: float
    """Service time that its tail is taken to have there, seconds."""
    began_at_s: float | None = None
    """When the back end is taken to have begun with it; ``None``: it waits there."""
    is_alone: bool = False
    """Whether nothing else of ours has been there meanwhile."""
    waits_s: tuple[float, float] = (0.0, 0.0)
    """How long it was to wait there: by our own requests, and by what the server told, too."""


class BackEndLoad(Generic[WorkT]):
    """One back end as seen from here.

    Args:
        place: Position in the setting.
        limit: Tails that may be under way there at once.
        mean_s: Profiled service time of a tail, mean over all there are, seconds.
    """

    def __init__(self, place: int, limit: int, mean_s: float) -> None:
        if limit < 1:
            raise ValueError(f"with {limit} tails under way nothing would ever be done")
        self.place = place
        self.limit = limit
        self.is_ready = False
        self.flights: dict[Flight[WorkT], None] = {}
        self._room = limit
        """As many as may be under way there now: fewer than the limit where it has refused more."""
        self._measured_s = self._expected_s = _MEMORY_TAILS * max(mean_s, 1e-9)
        self._done_work_s = self._done_in_s = 0.0
        self._mark_s: float | None = None
        self._dipped_at_s = 0.0
        self._told_wait_s = 0.0
        self._own_error_s = self._told_error_s = 0.0
        self._told_at_s: float | None = None
        self._first_parallelism = self._first_factor = 1.0

    def measured(self, parallelism: float, speed_factor: float) -> None:
        """A server has come up there and was measured; what was learnt of the one before is forgotten."""
        self._first_parallelism = min(max(parallelism, 1.0), float(self.limit))
        self._first_factor = speed_factor
        self._measured_s = self._expected_s * speed_factor
        self._done_work_s = self._done_in_s = 0.0
        self._mark_s = None

    @property
    def has_room(self) -> bool:
        """Whether one more tail may go there."""
        return self.is_ready and len(self.flights) < self._room

    @property
    def speed_factor(self) -> float:
        """Measured over profiled service time of tails that ran alone."""
        return self._measured_s / self._expected_s

    @property
    def parallelism(self) -> float:
        """How many tails it runs at once."""
        if self._done_in_s <= 0.0:
            return self._first_parallelism
        found = self._done_work_s / self._done_in_s * self.speed_factor
        return min(max(found, _LEAST_PARALLELISM), float(self.limit))

    @property
    def rate(self) -> float:
        """Work that it can do, profiled seconds per second."""
        return self.parallelism / self.speed_factor

    def own_s(self, tail: Tail[WorkT]) -> float:
        """Service time of ``tail`` there, seconds."""
        return tail.profiled_s * self.speed_factor

    def wait_s(self, now_s: float) -> float:
        """How long a further tail would wait there, seconds."""
        own_s = self._own_wait_s(now_s)
        return max(own_s, self.told_wait_s(now_s)) if self._told_error_s < self._own_error_s else own_s

    def left_s(self, now_s: float) -> float:
        """What is left of our own work there, seconds of service of one worker."""
        begun = sum(flight.began_at_s is not None for flight in self.flights)
        # More at once than it can run share what there is.
        share = min(self.parallelism / begun, 1.0) if begun else 1.0
        left_s = 0.0
        for flight in self.flights:
            done_s = 0.0 if flight.began_at_s is None else share * (now_s - flight.began_at_s)
            left_s += max(flight.own_s - done_s, 0.0)
        return left_s

    def told_wait_s(self, now_s: float) -> float:
        """How long a further tail would wait there by what the server told lately, seconds; 0: it told nothing."""
        is_known = self._told_at_s is not None and now_s - self._told_at_s <= _TOLD_FOR_S
        return self._told_wait_s if is_known else 0.0

    def told_pending(self, count: float, mean_s: float, now_s: float) -> None:
        """The server said how many requests wait in it, ours and others'.

        Args:
            mean_s: Profiled service time of one of them, seconds.
        """
        self.told(count * mean_s * self._first_factor / self.parallelism, now_s)

    def told(self, wait_s: float, now_s: float) -> None:
        """The server said how long requests wait in it, ours and others'."""
        # A queue of milliseconds moves far faster than it is told: what it was like lately says more than one look.
        share = 1.0 if self._told_at_s is None else 1.0 - math.exp(-(now_s - self._told_at_s) / _TOLD_MEMORY_S)
        self._told_wait_s += share * (wait_s - self._told_wait_s)
        self._told_at_s = now_s

    def send(self, tail: Tail[WorkT], now_s: float) -> Flight[WorkT]:
        """``tail`` goes there."""
        own_s, told_s = self._own_wait_s(now_s), self.told_wait_s(now_s)
        alone = not self.flights
        flight = Flight(tail, self.place, now_s, self.own_s(tail), is_alone=alone, waits_s=(own_s, max(own_s, told_s)))
        for other in self.flights:
            other.is_alone = False
        self.flights[flight] = None
        if len(self.flights) == self._room and now_s - self._dipped_at_s > _LONGEST_GAP_S:
            self._mark_s = None
        self._begin(now_s)
        return flight

    def finished(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` came back with an answer."""
        took_s = now_s - flight.sent_at_s
        profiled_s = flight.tail.profiled_s
        keep = 1.0 - 1.0 / _MEMORY_TAILS
        met_s = max(took_s - profiled_s * self._first_factor, 0.0)
        own_s, told_s = flight.waits_s
        self._own_error_s += (abs(met_s - own_s) - self._own_error_s) / _MEMORY_TAILS
        self._told_error_s += (abs(met_s - told_s) - self._told_error_s) / _MEMORY_TAILS
        if flight.is_alone and profiled_s > 0.0:
            self._measured_s = self._measured_s * keep + min(took_s, _LARGEST_STEP * flight.own_s)
            self._expected_s = self._expected_s * keep + profiled_s
        if len(self.flights) == self._room:
            if self._mark_s is not None:
                since_s = min(now_s - self._mark_s, _LARGEST_STEP * profiled_s / self.rate)
                self._done_work_s = self._done_work_s * keep + profiled_s
                self._done_in_s = self._done_in_s * keep + since_s
            self._mark_s = self._dipped_at_s = now_s
        else:
            self._mark_s = None
        self.leave(flight, now_s)

    def leave(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` is there no more; nothing is learnt from it."""
        self.flights.pop(flight, None)
        self._begin(now_s)

    def refused(self, flight: Flight[WorkT], now_s: float) -> None:
        """``flight`` came back because the back end is full: it has as many of ours as it takes."""
        self.leave(flight, now_s)
        self._room, self._mark_s = len(self.flights), None

    def try_more(self) -> None:
        """A back end that was full may have more room by now: one more is tried there."""
        if self._room < self.limit:
            self._room, self._mark_s = self._room + 1, None

    def _own_wait_s(self, now_s: float) -> float:
        if not self.flights:
            return 0.0
        mean_s = sum(flight.own_s for flight in self.flights) / len(self.flights)
        return max((self.left_s(now_s) + mean_s) / self.parallelism - mean_s, 0.0)

    def _begin(self, now_s: float) -> None:
        workers = max(round(self.parallelism), 1)
        for begun, flight in enumerate(self.flights):
            if begun >= workers:
                return
            if flight.began_at_s is None:
                flight.began_at_s = now_s
