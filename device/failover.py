"""Tasks that their edge has failed: on to the next edge where the plan holds that worth it, else back into the device's
queue. Sans-IO."""

from __future__ import annotations

from device.decisions import Decisions
from device.offloads import Offloads
from device.task import Upload
from device.task_queue import TaskQueue
from twinsplit.types import Reason


class Failover:
    """Sees to it that an offloaded task goes on without the edge that it was sent to."""

    def __init__(self, queue: TaskQueue, offloads: Offloads, decisions: Decisions) -> None:
        self._queue = queue
        self._offloads = offloads
        self._decisions = decisions

    def failed(self, now_s: float, task_id: int, reason: Reason, address: str | None = None) -> list[Upload]:
        """The edge at ``address`` (``None``: whichever has the task) refused the task, is lost or is too late. The
        upload to the next edge; none: the task waits on the device again, or nobody waited for that edge any more."""
        task = self._offloads.failed(now_s, task_id, address)
        if task is None:
            return []
        next_address = self._offloads.next_edge(now_s, task)
        if next_address is not None and self._decisions.is_worth_sending_on(now_s, task, next_address):
            return [self._offloads.send_on(now_s, task, next_address, reason)]
        self._offloads.come_back(task, reason)
        task.waiting_since_s = now_s
        self._queue.put_back(task)
        return []
