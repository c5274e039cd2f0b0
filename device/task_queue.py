"""Tasks that wait on the device: resumed ones first, the oldest of them at the head, then fresh ones. Sans-IO."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence

from device.task import Task
from twinsplit.types import DropPolicy, Reason


class TaskQueue:
    """Bounded for fresh tasks; resumed tasks come on top, bounded by the tensors that the device keeps."""

    def __init__(self, capacity: int, drop_policy: DropPolicy) -> None:
        if capacity < 1:
            raise ValueError(f"a queue needs room for at least 1 task, not {capacity}")
        self._capacity = capacity
        self._drop_policy = drop_policy
        self._fresh: deque[Task] = deque()
        self._resumed: list[Task] = []

    def __len__(self) -> int:
        return len(self._fresh) + len(self._resumed)

    @property
    def resumed(self) -> Sequence[Task]:
        """Resumed tasks waiting; each keeps its tensor."""
        return self._resumed

    def put(self, task: Task) -> tuple[Task, Reason] | None:
        """Queue a fresh task; where there is no room, say which task gives way and why."""
        if len(self._fresh) < self._capacity:
            self._fresh.append(task)
            return None
        if self._drop_policy is DropPolicy.OLDEST_STAYS:
            return task, Reason.QUEUE_FULL
        self._fresh.append(task)
        return self._fresh.popleft(), Reason.NEWER_FRAME

    def put_back(self, task: Task) -> None:
        """Queue a resumed task at the head, in the order in which tasks entered."""
        insort(self._resumed, task, key=_task_id)

    def take(self) -> Task | None:
        """The task whose turn it is; ``None``: nobody waits."""
        if self._resumed:
            return self._resumed.pop(0)
        return self._fresh.popleft() if self._fresh else None


def _task_id(task: Task) -> int:
    return task.task_id
