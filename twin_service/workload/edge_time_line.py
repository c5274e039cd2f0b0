"""The time line of one edge's work: what its backlog was at any instant of the last minute, and what it would have
been without one task's own tail (design section 6).

A task that is still on its device keeps those behind it there. So its counterfactuals also leave out the tails of its
device's later tasks: where it stops later than it did, they come later, too.

The edge is a work-conserving FIFO, so its backlog follows from its arrivals exactly (Lindley): it drains at rate one
and jumps by the work of every arrival. Work is what the edge predicted at admission; where a report shows that the
backlog is another one, since service took longer or a tail was cancelled, the difference is entered as a correction,
which no counterfactual takes out.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

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


class _Tails:
    """One device's tails on the line, in the order of their arrival, which is that of their numbers."""

    def __init__(self) -> None:
        self.task_ids: list[int] = []
        self._events: list[int] = []

    def add(self, task_id: int, event: int) -> None:
        if self.task_ids and task_id <= self.task_ids[-1]:  # the device has started again and counts from 1
            self.task_ids.clear()
            self._events.clear()
        self.task_ids.append(task_id)
        self._events.append(event)

    def since(self, task_id: int) -> list[int]:
        """Events of the tails of this task and of later ones."""
        return self._events[bisect_left(self.task_ids, task_id) :]

    def forget(self, before: int) -> bool:
        """Let go events before that number; whether none is left."""
        stale = bisect_left(self._events, before)
        del self.task_ids[:stale], self._events[:stale]
        return not self._events


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
        self._tails: dict[str, _Tails] = {}
        """By device."""
        self._without: Owner | None = None
        self._left_out: list[int] = []
        """Numbers of the events that are left out for ``_without``, those cut off included."""
        self._other_after_s: list[float] = []
        """Backlog after the events from the first of them on, as far as somebody asked for it."""

    def __len__(self) -> int:
        return len(self._at_s)

    def __contains__(self, owner: Owner) -> bool:
        device_id, task_id = owner
        return device_id in self._tails and task_id in self._tails[device_id].task_ids

    def add(self, tail: ArrivedTail) -> None:
        """A tail arrived; tails come in the order of their arrival."""
        if tail.device_id:
            tails = self._tails.setdefault(tail.device_id, _Tails())
            tails.add(tail.task_id, self._cut_off + len(self._at_s))
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

        ``without``: the task whose own tail and whose device's later ones are left out.
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
        left_out = [] if without is None else self._events_of(without)
        short, middle, long = (self._arrived_since(at_s - horizon_s, last, left_out) for horizon_s in HORIZONS_S)
        return short, middle, long

    def _arrived_since(self, since_s: float, last: int, left_out: list[int]) -> float:
        first = bisect_right(self._at_s, since_s, 0, last + 1)
        if first > last:
            return 0.0
        arrived_s = self._arrived_s[last] - (self._arrived_s[first - 1] if first else self._arrived_before_s)
        for number in left_out:
            if first <= number - self._cut_off <= last:
                arrived_s -= self._work_s[number - self._cut_off]
        return max(arrived_s, 0.0)

    def _events_of(self, owner: Owner) -> list[int]:
        """Numbers of the events that ``owner`` leaves out."""
        if self._without != owner:
            device_id, task_id = owner
            tails = self._tails.get(device_id)
            self._without = owner
            self._left_out = [] if tails is None else tails.since(task_id)
            self._other_after_s = []
        return self._left_out

    def _after_without(self, place: int, owner: Owner) -> float:
        left_out = self._events_of(owner)
        if not left_out or place < left_out[0] - self._cut_off:
            return self._after_s[place]
        at_s, work_s, other_after_s = self._at_s, self._work_s, self._other_after_s
        first = left_out[0] - self._cut_off
        if place - first < len(other_after_s):
            return other_after_s[place - first]
        gone = set(left_out)
        for event in range(first + len(other_after_s), place + 1):
            before = event - 1
            if before < 0:
                backlog_s = 0.0
            else:
                after_s = other_after_s[-1] if other_after_s else self._after_s[before]
                backlog_s = max(after_s - (at_s[event] - at_s[before]), 0.0)
            if event + self._cut_off not in gone:
                backlog_s = max(backlog_s + work_s[event], 0.0)
            other_after_s.append(backlog_s)
        return other_after_s[place - first]

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
        for device_id, tails in list(self._tails.items()):
            if tails.forget(self._cut_off):
                del self._tails[device_id]
