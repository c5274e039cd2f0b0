"""Where on-device inference stands between reports: service start plus the profile's cumulative times."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


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
