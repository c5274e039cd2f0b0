"""How much of something happens per second, counted with exponential forgetting."""

from __future__ import annotations

import math


class DecayingRate:
    """Amounts per second over the last ``horizon_s`` or so.

    Silence counts: the rate falls while nothing is added. In the first ``horizon_s`` it is the mean since the start,
    and never over less than ``shortest_s``, so that one early event does not look like a flood.
    """

    def __init__(self, now_s: float, *, horizon_s: float = 20.0, shortest_s: float = 2.0) -> None:
        self._horizon_s = horizon_s
        self._shortest_s = shortest_s
        self._at_s = now_s
        self._amount = 0.0
        self._seconds = 0.0

    def add(self, amount: float, now_s: float) -> None:
        """Count ``amount`` at ``now_s``; an instant before the last one counts as the last one."""
        self._advance(now_s)
        self._amount += amount

    def per_second(self, now_s: float) -> float:
        """Rate at ``now_s``."""
        elapsed_s, seconds, amount = now_s - self._at_s, self._seconds, self._amount
        if elapsed_s > 0.0:
            keep = math.exp(-elapsed_s / self._horizon_s)
            seconds = seconds * keep + self._horizon_s * (1.0 - keep)
            amount *= keep
        return amount / (seconds if seconds > self._shortest_s else self._shortest_s)

    def _advance(self, now_s: float) -> None:
        elapsed_s = now_s - self._at_s
        if elapsed_s <= 0.0:
            return
        keep = math.exp(-elapsed_s / self._horizon_s)
        self._amount *= keep
        self._seconds = self._seconds * keep + self._horizon_s * (1.0 - keep)
        self._at_s = now_s
