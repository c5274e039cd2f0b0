"""The edge's backlog between reports: it drains and it fills (design section 6).

A FIFO backlog falls at most at rate one. Between tasks, drain alone is worse than freezing the last value, since new
work keeps coming: the prediction reverts to the tracked mean with the measured time constant, never faster than it
can drain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MEAN_HORIZON_S = 20.0
"""An edge forgets exponentially, with this time constant, what makes up the mean of its backlog."""


@dataclass(frozen=True, slots=True)
class BacklogState:
    """One reading of an edge's backlog and what is needed to carry it forward."""

    backlog_s: float
    """Unfinished work at ``at_s``, seconds of service."""
    at_s: float
    """Instant of the reading on the holder's own monotonic clock."""
    mean_s: float = 0.0
    """Tracked long-run mean of the backlog; 0 where unknown."""
    time_constant_s: float = 0.05
    """Time constant of the reversion to the mean, seconds, > 0. The default, with a mean of 0, leaves little but drain.
    """


def predicted_backlog_s(state: BacklogState, now_s: float) -> float:
    """Backlog expected at ``now_s``, seconds (never negative; ``now_s`` before the reading gives the reading)."""
    elapsed, mean_s = now_s - state.at_s, state.mean_s
    if elapsed <= 0.0:
        return max(state.backlog_s, 0.0)
    drained = state.backlog_s - elapsed
    reverted = mean_s + (state.backlog_s - mean_s) * math.exp(-elapsed / state.time_constant_s)
    later_s = drained if drained > reverted else reverted
    return later_s if later_s > 0.0 else 0.0
