"""The virtual waiting time of an edge that Poisson jobs load: where a backlog goes from here, as an operator on a grid.

The backlog drains at rate one while there is any, and jumps by a job's service time when one arrives. On a grid of
backlogs ``g`` apart a step of length ``2 g`` drains one point, adds the jobs of the whole step, and drains one point
more. So drain is exact, and a job that finds the edge idle is drained for half the step, as it is on average: what is
left is an error of second order in ``g``. A size between two points is split between them so that its mean is kept.
What is left of a duration after whole steps is one shorter step, with interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_NEGLIGIBLE = 1e-14


class VirtualWaiting:
    """Expectations over the backlog some time from now, given the backlog now.

    Args:
        rate_per_s: of the jobs.
        sizes_s: their service times, equally likely.
        spacing_s: between points of the grid, ``g``.
        top_s: backlogs above are taken for this one; choose it where nothing depends on them any more.
    """

    def __init__(self, rate_per_s: float, sizes_s: Sequence[float], spacing_s: float, top_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.spacing_s = spacing_s
        self.grid_s: Array = spacing_s * np.arange(int(np.ceil(top_s / spacing_s)) + 1, dtype=np.float64)
        self._size = _on_grid(sizes_s, spacing_s, len(self.grid_s))

    def expected(self, values: Array, duration_s: float) -> Array:
        """Expectation of ``values`` (G, ...) at the backlog ``duration_s`` from now, by the backlog now.  # (G, ...)"""
        steps, rest_s = self._steps(duration_s)
        values = self._after_rest(values, rest_s)
        for _ in range(steps):
            values = self._whole_step @ values
        return values

    def expected_backlogs_s(self, durations_s: Sequence[float]) -> Array:
        """Expected backlog after each duration, by the backlog now.  # (durations, G)"""
        found = np.empty((len(durations_s), len(self.grid_s)))
        values, done = self.grid_s, 0
        for index in np.argsort(durations_s):
            steps, rest_s = self._steps(durations_s[index])
            for _ in range(steps - done):
                values = self._whole_step @ values
            done = steps
            found[index] = self._after_rest(values, rest_s)
        return found

    def _steps(self, duration_s: float) -> tuple[int, float]:
        """Whole steps in a duration, and what is left of it, seconds."""
        step_s = 2.0 * self.spacing_s
        steps = int(duration_s / step_s + 1e-9)
        return steps, max(duration_s - steps * step_s, 0.0)

    @cached_property
    def _whole_step(self) -> Array:
        """Row: from, column: to."""
        added = self._added(2.0 * self.spacing_s)
        offsets = np.arange(len(added)) - np.arange(len(added))[:, None]
        jobs = np.where(offsets >= 0, added[np.maximum(offsets, 0)], 0.0)
        jobs[:, -1] += 1.0 - jobs.sum(axis=1)
        # Draining first means starting one point lower, draining last means ending one point lower; below 0 is 0.
        ended = np.hstack((jobs[:, :1] + jobs[:, 1:2], jobs[:, 2:], np.zeros((len(jobs), 1))))
        return np.vstack((ended[:1], ended[:-1]))

    def _after_rest(self, values: Array, duration_s: float) -> Array:
        """One step of any length up to a whole one."""
        if duration_s < 1e-6 * self.spacing_s:
            return values
        count = len(values)
        drained = self._drained(values, 0.5 * duration_s)
        beyond = np.concatenate((drained, np.broadcast_to(drained[-1:], drained.shape)))
        added = self._added(duration_s)
        expected = (1.0 - added.sum()) * np.broadcast_to(drained[-1:], drained.shape)
        for offset in np.flatnonzero(added):
            expected = expected + added[offset] * beyond[offset : offset + count]
        return self._drained(expected, 0.5 * duration_s)

    def _added(self, duration_s: float) -> Array:
        """Law of the work that jobs bring in ``duration_s``; what is above the top is left out.  # (G,)"""
        count = len(self.grid_s)
        mean = self.rate_per_s * duration_s
        term = np.zeros(count)
        term[0] = np.exp(-mean)
        added, number = term.copy(), 0
        while term.sum() > _NEGLIGIBLE:
            number += 1
            term = np.convolve(term, self._size)[:count] * (mean / number)
            added += term
        return added

    def _drained(self, values: Array, duration_s: float) -> Array:
        """``values`` at the backlog that is left after draining, interpolated."""
        left = np.maximum(self.grid_s - duration_s, 0.0) / self.spacing_s
        low = np.minimum(left.astype(int), len(self.grid_s) - 2)
        share = (left - low).reshape(-1, *[1] * (values.ndim - 1))
        drained: Array = (1.0 - share) * values[low] + share * values[low + 1]
        return drained


def stationary(grid_s: Array, utilisation: float, mean_s: float) -> Array:
    """Law of the virtual waiting time of M/M/1 on a grid: 0 with ``1 - rho``, else exponential of mean
    ``mean_s / (1 - rho)``; a value between two points is split between them, keeping the mean.  # (G,)"""
    spacing = grid_s[1] - grid_s[0]
    scale = spacing * (1.0 - utilisation) / mean_s
    decay = np.exp(-scale)
    law = np.empty(len(grid_s))
    law[0] = 1.0 - utilisation * (1.0 - decay) / scale
    law[1:] = utilisation * decay ** np.arange(len(grid_s) - 1) * (1.0 - decay) ** 2 / scale
    law[-1] += 1.0 - law.sum()
    return law


def relaxation_time_s(utilisation: float, mean_s: float) -> float:
    """Time constant with which M/M/1 forgets where it began."""
    return float(mean_s / (1.0 - np.sqrt(utilisation)) ** 2)


def _on_grid(sizes_s: Sequence[float], spacing_s: float, count: int) -> Array:
    """Law of a job's service time on the grid; what is above it, at its top."""
    at = np.minimum(np.array(sizes_s) / spacing_s, count - 1.0)
    low = np.minimum(at.astype(int), count - 2)
    share = at - low
    law = np.bincount(low, 1.0 - share, count) + np.bincount(low + 1, share, count)
    return law / len(at)
