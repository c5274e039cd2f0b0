"""A histogram that a service keeps as state and exposition reads at scrape."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Sequence

from twinsplit.telemetry.catalogue import CATALOGUE, MetricKind


class Histogram:
    """Counts of observations per bucket. Safe to observe and read from different threads."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, metric_name: str) -> Histogram:
        """An empty histogram with the buckets that the catalogue gives ``metric_name``.

        Raises:
            KeyError: no such metric.
            ValueError: not a histogram.
        """
        spec = CATALOGUE[metric_name]
        if spec.kind is not MetricKind.HISTOGRAM:
            raise ValueError(f"{metric_name} is a {spec.kind.value}")
        return cls(spec.buckets)

    def observe(self, value: float) -> None:
        """Count one observation; one that is not finite is left out, since it would spoil the sum for good."""
        if not math.isfinite(value):
            return
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, int]], float]:
        """(Upper bound as text, observations up to it) ascending to ``+Inf``, and the sum of all observations."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        rows: list[tuple[str, int]] = []
        running = 0
        for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
            running += count
            rows.append(("+Inf" if math.isinf(bound) else repr(float(bound)), running))
        return rows, total
