"""The time line of one edge's work: what its backlog was at any instant of the last minute, and what it would have
been without one task's own tail (design section 6).

The edge is a work-conserving FIFO, so its backlog follows from its arrivals exactly (Lindley): it drains at rate one
and jumps by the work of every arrival. Work is what the edge predicted at admission; where a report shows that the
backlog is another one, since service took longer or a tail was cancelled, the difference is entered as a correction,
which no counterfactual takes out.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from twin_service.messages import ArrivedTail

MEMORY_S = 60.0
"""How far back the line reaches."""
HORIZONS_S = (0.25, 1.0, 4.0)
"""Windows of arrived work."""
_SMALLEST_CORRECTION_S = 1e-6
_CROSSING_S = 1e-3
"""Instants of one message may come out of order by so much: they are rounded, and counted back one by one."""
_KEPT_STALE = 1024
"""Forgotten events are cut off in parts of at least so many."""

Owner = tuple[str, int]
"""Device and number of its task."""


class EdgeTimeLine:
    """Arrivals and backlog of one edge. Instants are on the twin's monotonic clock."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self.complete_until_s = -math.inf
        """Nothing that arrived up to here is missing."""
        # By event, oldest first: instant, work (of a correction: with its sign), backlog right after it, and the sum of
        # all arrived work up to it.
        self._at_s: list[float] = []
        self._work_s: list[float] = []
        self._after_s: list[float] = []
        self._arrived_s: list[float] = []
        self._cut_off = 0
        self._arrived_before_s = 0.0
        self._place: dict[Owner, int] = {}
        """Number of the event, those cut off included."""
        self._without: Owner | None = None
        self._other_from = 0
        self._other_after_s: list[float] = []
        """Backlog after the events from ``_other_from`` on without the tail of ``_without``, as far as it differs."""

    def __len__(self) -> int:
        return len(self._at_s)

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._place

    def add(self, tail: ArrivedTail) -> None:
        """A tail arrived; tails come in the order of their arrival."""
        if tail.device_id:
            self._place[tail.device_id, tail.task_id] = self._cut_off + len(self._at_s)
        self._append(tail.at_s, tail.work_s, tail.work_s)

    def observed(self, backlog_s: float, at_s: float) -> None:
        """The edge says that its backlog was ``backlog_s``, and that all that arrived before has been added."""
        self.complete_until_s = max(self.complete_until_s, at_s)
        if self._at_s and at_s < self._at_s[-1]:
            if at_s < self._at_s[-1] - _CROSSING_S:
                return
            at_s = self._at_s[-1]
        difference_s = backlog_s - self.backlog_s(at_s)
        if abs(difference_s) > _SMALLEST_CORRECTION_S:
            self._append(at_s, difference_s, 0.0)

    def backlog_s(self, at_s: float, without: Owner | None = None) -> float:
        """Unfinished work right at ``at_s``, arrivals of that instant included, seconds of service.

        ``without``: the task whose own tail is left out; one that is not on the line changes nothing.
        """
        place = bisect_right(self._at_s, at_s) - 1
        if place < 0:
            return 0.0
        after_s = self._after_s[place] if without is None else self._after_without(place, without)
        left_s = after_s - (at_s - self._at_s[place])
        return left_s if left_s > 0.0 else 0.0

    def arrived_work_s(self, at_s: float, without: Owner | None = None) -> tuple[float, float, float]:
        """Work that arrived within the last 0.25, 1 and 4 s before ``at_s``, seconds of service."""
        last = bisect_right(self._at_s, at_s) - 1
        if last < 0:
            return 0.0, 0.0, 0.0
        own = self._place.get(without, self._cut_off - 1) - self._cut_off if without is not None else -1
        short, middle, long = (self._arrived_since(at_s - horizon_s, last, own) for horizon_s in HORIZONS_S)
        return short, middle, long

    def _arrived_since(self, since_s: float, last: int, own: int) -> float:
        first = bisect_right(self._at_s, since_s, 0, last + 1)
        if first > last:
            return 0.0
        arrived_s = self._arrived_s[last] - (self._arrived_s[first - 1] if first else self._arrived_before_s)
        return arrived_s - self._work_s[own] if first <= own <= last else arrived_s

    def _after_without(self, place: int, owner: Owner) -> float:
        own = self._place.get(owner)
        if own is None:
            return self._after_s[place]
        if self._without != owner:
            self._leave_out(owner, own - self._cut_off)
        index = place - self._other_from
        return self._other_after_s[index] if 0 <= index < len(self._other_after_s) else self._after_s[place]

    def _leave_out(self, owner: Owner, own: int) -> None:
        """Reckon the backlog after every event from ``own`` on again, until the tail makes no difference any more."""
        at_s, work_s, after_s = self._at_s, self._work_s, self._after_s
        backlog_s, now_s = (after_s[own - 1], at_s[own - 1]) if own > 0 else (0.0, at_s[own])
        other: list[float] = []
        for event in range(own, len(at_s)):
            backlog_s = max(backlog_s - (at_s[event] - now_s), 0.0)
            now_s = at_s[event]
            if event != own:
                backlog_s = max(backlog_s + work_s[event], 0.0)
            if backlog_s == after_s[event]:
                break
            other.append(backlog_s)
        self._without, self._other_from, self._other_after_s = owner, own, other

    def _append(self, at_s: float, work_s: float, arrived_s: float) -> None:
        if self._at_s:
            # Instants of two messages are counted back with two estimates of one clock, and may cross a little.
            at_s = max(at_s, self._at_s[-1])
            backlog_s = max(self._after_s[-1] - (at_s - self._at_s[-1]), 0.0)
        else:
            backlog_s = 0.0
        self._at_s.append(at_s)
        self._work_s.append(work_s)
        self._after_s.append(max(backlog_s + work_s, 0.0))
        self._arrived_s.append((self._arrived_s[-1] if self._arrived_s else self._arrived_before_s) + arrived_s)
        self._without = None
        self._forget(at_s - self._memory_s)

    def _forget(self, before_s: float) -> None:
        stale = bisect_right(self._at_s, before_s)
        if stale < max(_KEPT_STALE, len(self._at_s) // 2):
            return
        self._arrived_before_s = self._arrived_s[stale - 1]
        for values in (self._at_s, self._work_s, self._after_s, self._arrived_s):
            del values[:stale]
        self._cut_off += stale
        self._place = {owner: place for owner, place in self._place.items() if place >= self._cut_off}
