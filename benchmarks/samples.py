"""Timings in short: median, 95th percentile and spread, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def described(seconds: Sequence[float]) -> dict[str, Any]:
    """Count, median, p95, quartiles (the spread of the middle half) and least, seconds."""
    values = np.asarray(seconds, dtype=np.float64)
    low, median, high, p95 = np.percentile(values, (25, 50, 75, 95))
    return {
        "count": len(values),
        "median_s": float(median),
        "p95_s": float(p95),
        "quartiles_s": [float(low), float(high)],
        "least_s": float(values.min()),
    }


def ms(seconds: float) -> str:
    """Milliseconds for people, three significant digits or two decimals."""
    value = seconds * 1e3
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
