"""Where on-device inference stands between reports: service start plus the profile's cumulative times."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_MIRRORED_SHARE = 0.1
"""A service on the device that is shorter than this share of the report threshold, such as the encoding of an input
that is sent at once, is over before a message could tell of it: it is neither announced nor judged."""


@dataclass(frozen=True, slots=True)
class ProgressModel:
    """One task in service. ``boundaries_s[k-1]`` is the time from service start to decision epoch k, ascending."""

    task_id: int
    started_at_s: float
    boundaries_s: tuple[float, ...]

    def epoch_at(self, now_s: float) -> int:
        """Last decision epoch passed at ``now_s`` if the task goes on: 0..len(boundaries_s)."""
        return bisect_right(self.boundaries_s, now_s - self.started_at_s)

    def reached_at_s(self, epoch: int) -> float:
        """Instant at which the model expects decision epoch ``epoch``."""
        return self.started_at_s + (self.boundaries_s[epoch - 1] if epoch else 0.0)

    def deviation_s(self, epoch: int, reached_at_s: float) -> float:
        """How much later than expected (negative: earlier) decision epoch ``epoch`` was reached, seconds."""
        return reached_at_s - self.reached_at_s(epoch)


def believed_epoch(task: ProgressModel, now_s: float) -> int:
    """Epoch of the task in service at ``now_s``. Silence tells something: past its last segment it would have ended."""
    return min(task.epoch_at(now_s), len(task.boundaries_s) - 1) if task.boundaries_s else 0


def task_boundaries_s(
    segment_s: Sequence[float],
    exit_s: Sequence[float],
    exit_after: Mapping[int, int],
    exits_run: Sequence[bool],
    first_epoch: int = 0,
) -> tuple[float, ...]:
    """Time from service start to decision epochs 1, 2, ... of a task that goes on, as both sides reckon it.

    ``segment_s`` and ``exit_s`` are the profile as the device last *reported* it, ``exit_after`` is the manifest's map
    of epoch to exit, ``exits_run`` the standing plan's. A task resumed after ``first_epoch`` segments starts there.
    """
    boundaries = []
    elapsed_s = 0.0
    for epoch, service_s in enumerate(segment_s, start=1):
        if epoch > first_epoch:
            exit_index = exit_after.get(epoch)
            elapsed_s += service_s
            if exit_index is not None and exits_run[exit_index]:
                elapsed_s += exit_s[exit_index]
        boundaries.append(elapsed_s)
    return tuple(boundaries)
