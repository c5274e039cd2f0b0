"""Noise of service times: lognormal factors of mean 1."""

from __future__ import annotations

import math

import numpy as np


def jitter_factors(rng: np.random.Generator, count: int, variation: float) -> list[float]:
    """``count`` factors whose coefficient of variation is ``variation``; all 1 without any."""
    if variation == 0.0:
        return [1.0] * count
    variance = math.log1p(variation * variation)
    found: list[float] = rng.lognormal(-0.5 * variance, math.sqrt(variance), count).tolist()
    return found
