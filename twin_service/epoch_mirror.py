"""Mirror accuracy: the share of instants in service at which the epoch believed *then* was right.

The twin writes down what it believes whenever that changes. When a task's report brings its true epoch times, the
beliefs held during its service are compared with them, exactly: the share of *time*, which is what instants drawn at
random estimate (design section 6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twinsplit.reckoning import ProgressModel

_KEPT_BELIEFS = 64
"""Beliefs kept for tasks whose report is still to come; a task that lasts longer is judged by the newest ones."""


class EpochMirror:
    """Beliefs about the task in service of one device, and how often they were right."""

    def __init__(self) -> None:
        self._beliefs: deque[tuple[float, ProgressModel | None]] = deque(maxlen=_KEPT_BELIEFS)
        self.right_s = 0.0
        self.judged_s = 0.0

    @property
    def accuracy(self) -> float | None:
        """Share of judged time in service at which the believed epoch was right; ``None``: nothing judged yet."""
        return self.right_s / self.judged_s if self.judged_s > 0.0 else None

    def believe(self, now_s: float, task: ProgressModel | None) -> None:
        """From ``now_s`` on this is believed; ``None``: the device is idle."""
        self._beliefs.append((now_s, task))

    def add(self, other: EpochMirror) -> None:
        """Count what was judged of another device, too."""
        self.right_s += other.right_s
        self.judged_s += other.judged_s

    def judge(self, task_id: int, started_at_s: float, epoch_s: Sequence[float], ended_s: float) -> float:
        """Compare with the truth of one service: the share of it that was mirrored right.

        Args:
            task_id: Number of the task.
            started_at_s: Service start.
            epoch_s: Service start to decision epochs 1, 2, ... that were reached, ascending.
            ended_s: Service start to the end of its service on the device.
        """
        if ended_s <= 0.0:
            return 1.0
        truth = [0.0, *epoch_s]
        right_s = 0.0
        until_s = started_at_s + ended_s
        for since_s, task in reversed(self._beliefs):
            if since_s < until_s and task is not None and task.task_id == task_id:
                right_s += _agreement_s(task, truth, started_at_s, max(since_s, started_at_s), until_s, ended_s)
            until_s = min(until_s, since_s)
            if until_s <= started_at_s:
                break
        self.right_s += right_s
        self.judged_s += ended_s
        return right_s / ended_s


def _agreement_s(
    task: ProgressModel, truth: Sequence[float], started_at_s: float, since_s: float, until_s: float, ended_s: float
) -> float:
    """Seconds of [since_s, until_s) at which the believed epoch is the true one."""
    last_believed = max(len(task.boundaries_s) - 1, 0)
    agreement_s = 0.0
    for epoch, reached_s in enumerate(truth):
        if epoch > last_believed:
            break
        true_end_s = truth[epoch + 1] if epoch + 1 < len(truth) else ended_s
        believed_start_s = task.reached_at_s(epoch) if epoch else since_s
        believed_end_s = task.reached_at_s(epoch + 1) if epoch < last_believed else until_s
        begin_s = max(started_at_s + reached_s, believed_start_s, since_s)
        end_s = min(started_at_s + true_end_s, believed_end_s, until_s)
        agreement_s += max(0.0, end_s - begin_s)
    return agreement_s
