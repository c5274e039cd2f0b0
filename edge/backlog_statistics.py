"""What an edge knows about its own load: arrived work, busy share, mean and time constant of its backlog.

Sans-IO and cheap: a handful of multiply-adds per event, since every tail of every device passes through here, in the
service and in the simulator alike (design sections 3 and 6).
"""

from __future__ import annotations

from bisect import bisect_right
from math import exp, log

from twinsplit.reckoning import BACKLOG_MEAN_HORIZON_S as MEAN_HORIZON_S

HORIZONS_S = (0.25, 1.0, 4.0)
"""Windows over which arrived work is summed (design section 5, features)."""

BUSY_HORIZON_S = 4.0
LAG_S = 0.25
_KEPT_ARRIVALS = 1024
"""Arrivals that may be kept before old ones are looked for."""
_SHORTEST_TIME_CONSTANT_S = 0.05
_LONGEST_TIME_CONSTANT_S = 30.0
_PRIOR_WEIGHT_SAMPLES = 4.0
_SHORTEST_MEMORY_S = 2.0
_FORGOTTEN_AFTER_S = 5.0 * MEAN_HORIZON_S


class ArrivedWork:
    """Work that arrived within the last 0.25 s, 1 s and 4 s, exactly (sliding windows).

    Kept as a running total at every arrival, since arrivals are many and readings few.
    """

    def __init__(self) -> None:
        self._instants_s: list[float] = []
        self._totals_s: list[float] = []
        self._total_s = 0.0
        self._limit = _KEPT_ARRIVALS

    def add(self, work_s: float, now_s: float) -> None:
        """Count ``work_s`` seconds of service that arrive at ``now_s``."""
        self._total_s += work_s
        self._instants_s.append(now_s)
        self._totals_s.append(self._total_s)
        if len(self._instants_s) > self._limit:
            self._forget(now_s)

    def within_horizons_s(self, now_s: float) -> tuple[float, float, float]:
        """Work arrived in the last 0.25 s, 1 s and 4 s, seconds of service."""
        short, middle, long = (self._total_s - self._total_until(now_s - horizon_s) for horizon_s in HORIZONS_S)
        return short, middle, long

    def _total_until(self, instant_s: float) -> float:
        count = bisect_right(self._instants_s, instant_s)
        return self._totals_s[count - 1] if count else 0.0

    def _forget(self, now_s: float) -> None:
        gone = bisect_right(self._instants_s, now_s - HORIZONS_S[-1])
        # Totals begin anew where nothing is left before them, so that rounding errors do not add up over days.
        base_s = self._totals_s[gone - 1] if gone else 0.0
        self._instants_s = self._instants_s[gone:]
        self._totals_s = [total_s - base_s for total_s in self._totals_s[gone:]]
        self._total_s -= base_s
        self._limit = max(_KEPT_ARRIVALS, 2 * len(self._instants_s))


class BacklogStatistics:
    """Long-run mean of the backlog, the time constant of its reversion to the mean, and the busy share.

    Between two events the backlog's path is known: work in service drains at rate one, waiting work stands. The mean
    and the busy share follow that path exactly, weighted exponentially. The time constant comes from the
    autocorrelation of the path at ``LAG_S``: rho = exp(-lag / time constant) for a process that reverts exponentially,
    which is what :func:`twinsplit.reckoning.predicted_backlog_s` assumes.
    """

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._busy = 0.0
        self._mean_s = 0.0
        self._mean_weight = 0.0
        self._next_sample_s = now_s + LAG_S
        self._last_sample_s = 0.0
        self._keep = exp(-LAG_S / MEAN_HORIZON_S)
        self._seen = 0
        self._count = 0.0
        self._sum_first = 0.0
        self._sum_second = 0.0
        self._sum_squares = 0.0
        self._sum_products = 0.0

    def advance(self, now_s: float, waiting_s: float, in_service_s: float, is_busy: bool) -> None:
        """Go on to ``now_s``; the arguments describe the queue since the last call, which had no event in between.

        Args:
            now_s: Instant of the next event, or of a reading.
            waiting_s: Work that waits, seconds of service.
            in_service_s: Work left in service at the instant of the *last* call, seconds.
            is_busy: Whether a tail is in service (also one that has outrun its prediction).
        """
        elapsed_s = now_s - self._at_s
        if elapsed_s <= 0.0:
            return
        if self._next_sample_s <= now_s:
            self._sample(now_s, waiting_s, in_service_s)
        draining_s = in_service_s if in_service_s < elapsed_s else elapsed_s
        if draining_s > 0.0:
            self._fold_mean(waiting_s + in_service_s - 0.5 * draining_s, draining_s)
        if elapsed_s > draining_s:
            self._fold_mean(waiting_s + in_service_s - draining_s, elapsed_s - draining_s)
        keep = exp(-elapsed_s / BUSY_HORIZON_S)
        self._busy = self._busy * keep + (1.0 - keep if is_busy else 0.0)
        self._at_s = now_s

    @property
    def busy_share(self) -> float:
        """Share of the last seconds in which the edge served, 0..1."""
        return self._busy

    @property
    def mean_s(self) -> float:
        """Tracked mean of the backlog, seconds; it starts at 0 and is unbiased after the first seconds."""
        return self._mean_s / max(self._mean_weight, _SHORTEST_MEMORY_S / MEAN_HORIZON_S)

    @property
    def time_constant_s(self) -> float:
        """Time constant of the reversion to the mean, seconds. It starts at the shortest, which leaves drain only."""
        if self._count <= 0.0:
            return _SHORTEST_TIME_CONSTANT_S
        first_mean = self._sum_first / self._count
        variance = self._sum_squares / self._count - first_mean * first_mean
        covariance = self._sum_products / self._count - first_mean * self._sum_second / self._count
        if variance <= 1e-12:
            return _SHORTEST_TIME_CONSTANT_S
        lowest = exp(-LAG_S / _SHORTEST_TIME_CONSTANT_S)
        highest = exp(-LAG_S / _LONGEST_TIME_CONSTANT_S)
        prior_share = _PRIOR_WEIGHT_SAMPLES / (_PRIOR_WEIGHT_SAMPLES + self._seen)
        correlation = prior_share * lowest + (1.0 - prior_share) * covariance / variance
        return -LAG_S / log(min(max(correlation, lowest), highest))

    def _fold_mean(self, value_s: float, duration_s: float) -> None:
        keep = exp(-duration_s / MEAN_HORIZON_S)
        self._mean_s = self._mean_s * keep + value_s * (1.0 - keep)
        self._mean_weight = self._mean_weight * keep + 1.0 - keep

    def _sample(self, now_s: float, waiting_s: float, in_service_s: float) -> None:
        if now_s - self._next_sample_s > _FORGOTTEN_AFTER_S:
            self._seen = 0
            self._count = self._sum_first = self._sum_second = self._sum_squares = self._sum_products = 0.0
            self._last_sample_s = waiting_s
            self._next_sample_s = now_s
        while self._next_sample_s <= now_s:
            value_s = waiting_s + max(in_service_s - (self._next_sample_s - self._at_s), 0.0)
            keep, last_s = self._keep, self._last_sample_s
            self._seen += 1
            self._count = self._count * keep + 1.0
            self._sum_first = self._sum_first * keep + last_s
            self._sum_second = self._sum_second * keep + value_s
            self._sum_squares = self._sum_squares * keep + last_s * last_s
            self._sum_products = self._sum_products * keep + last_s * value_s
            self._last_sample_s = value_s
            self._next_sample_s += LAG_S
