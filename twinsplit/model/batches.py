"""Whether a segment does with several tensors at once what it does with each alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import ComputeError
from twinsplit.model.runtime import SegmentRuntime

TOLERANCE = 1e-3
"""Largest difference of an element, as a share of the largest: kernels for several rows add in another order."""


def gives_the_same(runtime: SegmentRuntime, index: int, tensor: NDArray[Any]) -> bool:
    """Whether segment ``index`` gives the same for ``tensor`` and another one together as for each alone.

    Args:
        tensor: of the segment's cut; the other one is made of it, in another order.
    """
    other = np.ascontiguousarray(tensor.reshape(-1)[::-1].reshape(tensor.shape))
    try:
        alone = [runtime.run_segment(index, each) for each in (tensor, other)]
        together = runtime.run_segment(index, np.concatenate((tensor, other)))
    except ComputeError:
        return False
    expected = np.concatenate(alone)
    if together.shape != expected.shape:
        return False
    if not np.issubdtype(expected.dtype, np.floating):
        return bool((together == expected).all())
    largest = float(np.abs(expected).max(initial=0.0))
    return bool((np.abs(together - expected) <= TOLERANCE * largest).all())
