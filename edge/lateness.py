"""How much later than foretold something comes: what to allow for before a time is promised. Sans-IO.

Tracked as TCP tracks round trips (RFC 6298): a mean, and a mean deviation of which several are allowed for.
"""

from __future__ import annotations

import math

_LEAST_WEIGHT = 1.0 / 64.0
"""Of the newest, where many come. Where few do, since nearly all are refused, it weighs as much more as what was seen
before is old: that would outweigh the few for ever."""
_MOST_WEIGHT_OF_LATE = 1.0 / 8.0
"""One stall after a pause counts for little all the same."""
_DEVIATIONS = 4.0
_LARGEST_S = 0.25
"""What one stall counts at most."""
_MEMORY_S = 1.0
"""What was seen so long ago counts e times less, so that an edge that refuses everything for it soon tries again."""


class Lateness:
    """Tracks how late things were. What is early, since others were cancelled, is on time: it makes nothing later."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._deviation_s = 0.0
        self._noted_at_s = 0.0

    def note(self, late_s: float, now_s: float) -> None:
        """Something came ``late_s`` later than foretold; below zero: earlier."""
        # Comparisons, since every tail comes by here: min and max take several times as long.
        counted_s = 0.0 if late_s < 0.0 else _LARGEST_S if late_s > _LARGEST_S else late_s
        error_s, weight = counted_s - self._mean_s, -math.expm1((self._noted_at_s - now_s) / _MEMORY_S)
        if weight < _LEAST_WEIGHT:
            weight = _LEAST_WEIGHT
        elif error_s > 0.0 and weight > _MOST_WEIGHT_OF_LATE:
            weight = _MOST_WEIGHT_OF_LATE
        self._mean_s += weight * error_s
        # From the new mean: with a weight of nearly one the newest is all that is known.
        self._deviation_s += weight * ((1.0 - weight) * abs(error_s) - self._deviation_s)
        self._noted_at_s = now_s

    def allowance_s(self, now_s: float) -> float:
        """By how much the next one may be late, seconds, 0 or more."""
        expected_s = self._mean_s + _DEVIATIONS * self._deviation_s
        return expected_s * math.exp(min(0.0, self._noted_at_s - now_s) / _MEMORY_S)
