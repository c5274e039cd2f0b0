"""The time line of one device: when its tasks arrived, how many waited, until when its uplink was in use.

It is told ended tasks, so what it knows of an instant is complete only once the tasks that had arrived by then have
ended (:attr:`DeviceTimeLine.complete_until_s`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from twinsplit.types import Outcome, TaskRecord

MEMORY_S = 60.0
"""How far back the line reaches."""
_RESTART_S = 1.0
"""A task with an old number that arrived so much later than the newest one is a new device's."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks that wait while one task is in service, however long that takes: those that waited at its start stay,
    those that arrive come on top."""

    since_s: float
    at_start: int
    changes: tuple[tuple[float, int], ...]
    """(instant, +1: arrived or -1: dropped), ascending."""

    def length(self, at_s: float) -> int:
        """Tasks waiting at ``at_s``."""
        return self.at_start + sum(change for changed_at_s, change in self.changes if changed_at_s <= at_s)

    def area_s(self, from_s: float, to_s: float) -> float:
        """Integral of the number waiting from ``from_s`` to ``to_s``, seconds: the waiting that is caused meanwhile."""
        area_s = self.at_start * (to_s - from_s)
        for changed_at_s, change in self.changes:
            if changed_at_s >= to_s:
                break
            area_s += change * (to_s - max(changed_at_s, from_s))
        return area_s


@dataclass(frozen=True, slots=True)
class _Stay:
    arrived_at_s: float
    left_at_s: float
    """Service start, or the instant at which it was dropped."""
    is_dropped: bool


class DeviceTimeLine:
    """Arrivals, waiting and uploads of one device's tasks. Instants are on the twin's monotonic clock."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._stays: dict[int, _Stay] = {}
        self._uploads: deque[tuple[int, float, float]] = deque()
        """(task, handed to the uplink at, last byte sent at)."""
        self._known_up_to = 0
        """All tasks up to this number have ended; their predecessors are known or forgotten."""
        self._last_id = 0
        self._complete_until_s = -math.inf

    @property
    def complete_until_s(self) -> float:
        """No task that arrived up to here is missing."""
        return self._complete_until_s

    def ended(self, task: TaskRecord, overhead_s: float) -> None:
        """A task has ended; ``overhead_s``: round trip to the edge without payload."""
        if not self._stays or self._is_counted_anew(task):
            self._stays.clear()
            self._uploads.clear()
            self._known_up_to = task.task_id - 1
            self._last_id = 0
        left_at_s = task.ended_at_s if task.started_at_s is None else task.started_at_s
        self._stays[task.task_id] = _Stay(task.arrived_at_s, left_at_s, task.outcome is Outcome.DROPPED)
        self._last_id = max(self._last_id, task.task_id)
        upload = upload_of(task, overhead_s)
        if upload is not None:
            self._uploads.append((task.task_id, *upload))
        self._forget(task.ended_at_s - self._memory_s)
        while (stay := self._stays.get(self._known_up_to + 1)) is not None:
            self._known_up_to += 1
            self._complete_until_s = max(self._complete_until_s, stay.arrived_at_s)

    def reported(self, entered: int, at_s: float) -> None:
        """``entered`` tasks had entered by ``at_s``, a report says."""
        if entered <= self._known_up_to:
            self._complete_until_s = max(self._complete_until_s, at_s)

    def waiting(self, task: TaskRecord, until_s: float) -> Waiting:
        """Tasks that wait while ``task`` is in service, up to ``until_s``."""
        start_s = task.started_at_s
        assert start_s is not None, "a task that never started kept nobody waiting"
        at_start, changes = 0, []
        for task_id in range(task.task_id + 1, self._last_id + 1):
            stay = self._stays.get(task_id)
            if stay is None:
                continue
            if stay.arrived_at_s > until_s:
                break
            if stay.left_at_s <= start_s or (stay.is_dropped and stay.left_at_s <= stay.arrived_at_s):
                continue  # it waited no longer, or was turned away
            if stay.arrived_at_s <= start_s:
                at_start += 1
            else:
                changes.append((stay.arrived_at_s, 1))
            if stay.is_dropped and stay.left_at_s < until_s:
                changes.append((stay.left_at_s, -1))
        return Waiting(start_s, at_start, tuple(sorted(changes)))

    def uplink_free_at_s(self, task: TaskRecord) -> float:
        """Instant at which the uplink has sent all that was handed to it before the service of ``task`` started."""
        start_s = task.started_at_s
        assert start_s is not None, "a task that never started met no uplink"
        earlier = (
            free_at_s
            for task_id, sent_at_s, free_at_s in self._uploads
            if sent_at_s <= start_s and task_id != task.task_id
        )
        return max(earlier, default=-math.inf)

    def _is_counted_anew(self, task: TaskRecord) -> bool:
        """Whether the device has started again and numbers its tasks from 1."""
        newest = self._stays.get(self._last_id)
        return (
            newest is not None and task.task_id <= self._last_id and task.arrived_at_s > newest.left_at_s + _RESTART_S
        )

    def _forget(self, before_s: float) -> None:
        while self._uploads and self._uploads[0][2] < before_s:
            self._uploads.popleft()
        while (first := next(iter(self._stays))) != self._last_id and self._stays[first].left_at_s < before_s:
            del self._stays[first]
            # What a lost report would have told is not waited for any longer.
            self._known_up_to = max(self._known_up_to, first)


def upload_of(task: TaskRecord, overhead_s: float) -> tuple[float, float] | None:
    """When an answered offload was handed to the uplink, and when its last byte had left; ``None``: it was none."""
    stages = task.stages
    if task.outcome is not Outcome.EDGE or not task.epoch_times_s or stages.upload is None:
        return None
    sent_at_s = task.epoch_times_s[-1] + (stages.encode or 0.0)
    return sent_at_s, sent_at_s + max(stages.upload - overhead_s, 0.0)
