"""Joules as the integral of what one meter says over time. Sans-IO.

Power is joined by straight lines (trapezoid); a counter of joules is taken to grow evenly between two looks. A stretch
between two samples that is longer than a bound, or in which the meter failed, is unknown, and so is every integral that
touches it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from twinsplit.energy.meter import MeterReading

_KEPT_SAMPLES = 8192


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch between two neighbouring samples whose energy is known."""

    start_s: float
    end_s: float
    joules: float

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / (self.end_s - self.start_s)


class EnergyIntegral:
    """Samples of one meter, the newest few thousand, and the energy between any two instants that they cover."""

    def __init__(self, max_gap_s: float, kept_samples: int = _KEPT_SAMPLES) -> None:
        """
        Args:
            max_gap_s: two samples farther apart leave the stretch between them unknown.
            kept_samples: samples kept at least half of; older instants become unknown.
        """
        self.max_gap_s = max_gap_s
        self.losses = 0
        """How often the meter fell silent."""
        self._kept_samples = kept_samples
        self._at_s: list[float] = []
        self._watts: list[float | None] = []
        """Power at each sample; ``None``: a counter's, taken as even between samples."""
        self._total: list[float] = []
        """Known joules up to each sample."""
        self._breaks: list[int] = []
        """Number of unknown stretches up to each sample."""
        self._counter: float | None = None
        self._is_lost = False

    def add(self, at_s: float, reading: MeterReading | None) -> Interval | None:
        """A look at ``at_s``: the stretch that it makes known; ``None``: none."""
        watts, joules = _usable(reading)
        if watts is None and joules is None:
            self.losses += not self._is_lost
            self._is_lost = True
            return None
        if self._at_s and at_s <= self._at_s[-1]:
            return None
        if joules is not None and joules == self._counter and not self._is_lost:
            # A counter that stands still has no news: what it missed is in its next step, or a gap if that is far.
            return None
        interval = self._interval(at_s, watts, joules)
        self._at_s.append(at_s)
        self._watts.append(None if joules is not None else watts)
        self._total.append((self._total[-1] if self._total else 0.0) + (interval.joules if interval else 0.0))
        self._breaks.append((self._breaks[-1] if self._breaks else 0) + (interval is None))
        self._counter = joules
        self._is_lost = False
        if len(self._at_s) > self._kept_samples:
            half = self._kept_samples // 2
            for column in (self._at_s, self._watts, self._total, self._breaks):
                del column[:half]
        return interval

    @property
    def newest_at_s(self) -> float | None:
        """Instant of the newest sample; ``None``: there is none."""
        return self._at_s[-1] if self._at_s else None

    def is_up(self, now_s: float) -> bool:
        """Whether the meter tells something: its newest look brought a number, not longer ago than the bound."""
        return bool(self._at_s) and not self._is_lost and now_s - self._at_s[-1] <= self.max_gap_s

    def watts(self, now_s: float) -> float | None:
        """Newest power: the meter's own, or the counter's over its last step; ``None``: unknown."""
        if not self.is_up(now_s):
            return None
        if self._watts[-1] is not None:
            return self._watts[-1]
        if len(self._at_s) < 2 or self._breaks[-1] != self._breaks[-2]:
            return None
        return (self._total[-1] - self._total[-2]) / (self._at_s[-1] - self._at_s[-2])

    def joules_between(self, start_s: float, end_s: float) -> float | None:
        """Energy from ``start_s`` to ``end_s``; ``None``: samples do not cover all of it."""
        if not self._at_s or start_s < self._at_s[0] or end_s > self._at_s[-1] or end_s < start_s:
            return None
        if start_s == end_s:
            return 0.0
        # Stretches that the span touches: those ending after its start, up to the first that ends at or after its end.
        first = bisect_right(self._at_s, start_s)
        last = bisect_left(self._at_s, end_s)
        if self._breaks[last] != self._breaks[first - 1]:
            return None
        return max(0.0, self._total_at(end_s, last) - self._total_at(start_s, first))

    def _interval(self, at_s: float, watts: float | None, joules: float | None) -> Interval | None:
        if not self._at_s or self._is_lost or at_s - self._at_s[-1] > self.max_gap_s:
            return None
        seconds = at_s - self._at_s[-1]
        before = self._watts[-1]
        if joules is not None and self._counter is not None:
            grown = joules - self._counter
            # A counter that falls was reset, and nobody knows what it had counted before.
            return Interval(self._at_s[-1], at_s, grown) if grown >= 0.0 else None
        if joules is None and watts is not None and before is not None:
            return Interval(self._at_s[-1], at_s, 0.5 * (before + watts) * seconds)
        return None

    def _total_at(self, at_s: float, end: int) -> float:
        """Known joules up to ``at_s``, which lies in the stretch that ends with sample ``end``."""
        start = end - 1
        seconds = self._at_s[end] - self._at_s[start]
        share = (at_s - self._at_s[start]) / seconds
        before, after = self._watts[start], self._watts[end]
        if before is None or after is None:
            return self._total[start] + share * (self._total[end] - self._total[start])
        return self._total[start] + share * seconds * (before + 0.5 * share * (after - before))


def _usable(reading: MeterReading | None) -> tuple[float | None, float | None]:
    """(Watts, joules) that can be reckoned with."""
    if reading is None:
        return None, None
    watts, joules = reading.watts, reading.joules
    # What draws exactly nothing does not run this program: such a sensor does not work.
    is_power = watts is not None and 0.0 < watts < math.inf
    is_energy = joules is not None and 0.0 <= joules < math.inf
    return watts if is_power else None, joules if is_energy else None
