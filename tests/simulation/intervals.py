"""Confidence intervals of means of correlated samples, by batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

BATCHES = 20
LEVEL = 0.99


def assert_mean(values: Sequence[float], expected: float, *, within_share: float) -> None:
    """The 99 % interval of the mean of ``values``, which depend on their neighbours, holds ``expected`` and is no wider
    than ``within_share`` of it to either side: wide enough to be met by chance only, it would prove nothing."""
    means = np.array([batch.mean() for batch in np.array_split(np.asarray(values), BATCHES)])
    half = stats.t.ppf((1.0 + LEVEL) / 2.0, BATCHES - 1) * means.std(ddof=1) / np.sqrt(BATCHES)
    mean = float(np.mean(values))
    assert half < within_share * expected, f"half-width {half:.4g} of {expected:.4g}: too few samples"
    assert abs(mean - expected) < half, f"{mean:.5g} +- {half:.2g}, expected {expected:.5g}"
