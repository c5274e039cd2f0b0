"""How much later than foretold something comes: what to allow for before a time is promised. Sans-IO.

Tracked as TCP tracks round trips (RFC 6298): a mean, and a mean deviation of which several are allowed for.
"""

from __future__ import annotations

import math

_WEIGHT = 1.0 / 64.0
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
        error_s = counted_s - self._mean_s
        self._mean_s += _WEIGHT * error_s
        self._deviation_s += _WEIGHT * (abs(error_s) - self._deviation_s)
        self._noted_at_s = now_s

    def allowance_s(self, now_s: float) -> float:
        """By how much the next one may be late, seconds, 0 or more."""
        expected_s = self._mean_s + _DEVIATIONS * self._deviation_s
        return expected_s * math.exp(min(0.0, self._noted_at_s - now_s) / _MEMORY_S)
