"""The test of growth sees a leak and lets noise pass."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.faults.flatness import SPARE_HANDLES, Growth, Sample, growth_of, piled_up, slope_and_low


def growth(leak_mb_per_min: float) -> Growth:
    """Of ten minutes of a process of 100 MB with noise of 1 MB that leaks."""
    rng = random.Random(4)
    samples = []
    for number in range(600):
        megabytes = 100.0 + leak_mb_per_min * number / 60.0 + rng.gauss(0.0, 1.0)
        samples.append(Sample(float(number), 1, int(megabytes * 1e6), descriptors=20, threads=10))
    found = growth_of(samples)
    assert found is not None
    return found


def test_a_process_that_only_fluctuates_passes() -> None:
    found = growth(0.0)
    assert found.problems == ()
    assert found.slope_low_mb_per_min < 0.0 < found.mean_mb


def test_a_leak_is_found_and_measured() -> None:
    found = growth(1.0)
    assert found.slope_mb_per_min == pytest.approx(1.0, abs=0.1)
    assert len(found.problems) == 1
    assert "memory grows" in found.problems[0]


@pytest.mark.parametrize("name", ["descriptors", "threads"])
def test_handles_that_pile_up_are_found(name: str) -> None:
    before = Sample(0.0, 1, 10**8, descriptors=20, threads=10)
    least = getattr(before, name) + SPARE_HANDLES
    assert piled_up(before, replace(before, **{name: least})) == []
    (problem,) = piled_up(before, replace(before, **{name: least + 1}))
    assert name in problem


def test_too_few_samples_say_nothing() -> None:
    assert growth_of([Sample(0.0, 1, 1, 1, 1)]) is None


def test_the_interval_is_that_of_theory() -> None:
    """On lines with Gaussian noise the lower end lies above the true slope in one of twenty."""
    rng = np.random.default_rng(3)
    x = np.arange(10.0)
    above = sum(slope_and_low(x, 2.0 * x + rng.normal(size=10))[1] > 2.0 for _ in range(4000))
    assert above / 4000 == pytest.approx(0.05, abs=0.012)
