"""Other users' jobs at an edge: when they come and how long they take, drawn ahead of time so that all rules meet them.

Service times are drawn from a fixed set of sizes, quantiles of the distribution (means of cells of equal probability,
so that the mean is exact). The tail queue knows them as the tails of one made-up model, and so predicts each right.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile

import numpy as np

from benchmarks.scenario import LoadSizes, Scenario
from benchmarks.simulator.jitter import jitter_factors
from benchmarks.streams import stream_seed
from edge.load_pattern import LoadShape, arrivals_s

SIZES = 1024
PARETO_SHAPE = 1.5
_CHUNK = 4096


def job_sizes_s(sizes: LoadSizes, mean_s: float) -> tuple[float, ...]:
    """Service times of jobs, equally likely, ascending."""
    if sizes == "fixed":
        return (mean_s,)
    left = 1.0 - np.arange(SIZES + 1) / SIZES  # probability beyond each border between cells
    if sizes == "exponential":
        # Integral of x e^-x beyond a border b is (1 + b) e^-b, with e^-b the probability left.
        beyond = np.zeros(SIZES + 1)
        beyond[:-1] = left[:-1] * (1.0 - np.log(left[:-1]))
    else:
        # Integral of x beyond a border is the mean times left^(1 - 1/shape).
        beyond = left ** (1.0 - 1.0 / PARETO_SHAPE)
    return tuple(float(mean_s * size) for size in SIZES * -np.diff(beyond))


class LoadJobs:
    """Jobs of one edge in the order of arrival; drawn when they are asked for, and kept."""

    def __init__(self, scenario: Scenario, edge: int, mean_s: float) -> None:
        """
        Args:
            mean_s: of the service times; turns shares of capacity into rates.
        """
        first_s = job_sizes_s(scenario.load_sizes, mean_s)
        then_s = job_sizes_s(scenario.step_load_sizes, mean_s) if scenario.step_load_sizes else ()
        self.sizes_s = (*first_s, *then_s)
        """Service times that occur: those up to the step of the load, then those from it on, if they are others."""
        self._kinds = (range(len(first_s)), range(len(first_s), len(self.sizes_s)))
        self._step_s = scenario.step_at_s if then_s else None
        self._instants_s: list[float] = []
        self._sizes: list[int] = []
        self._services_s: list[float] = []
        seed = scenario.load_seed if edge == 0 else stream_seed(scenario.seed, "load", edge)
        self._arrivals = _arrivals_s(scenario, mean_s, seed)
        self._rng = random.Random(stream_seed(scenario.seed, "load-sizes", edge))
        self._jitter = scenario.service_jitter
        self._jitter_rng = np.random.default_rng(stream_seed(scenario.seed, "load-jitter", edge))

    def at_s(self, number: int) -> float:
        """Arrival instant of the job of that number, from 0; infinity: there is none any more."""
        instants_s = self._instants_s
        if number >= len(instants_s):
            self._draw()
        return instants_s[number]

    def size(self, number: int) -> int:
        """Position of its service time in ``sizes_s``."""
        return self._sizes[number]

    def service_s(self, number: int) -> float:
        """Time that it will really take."""
        return self._services_s[number]

    def between(self, after_s: float, until_s: float) -> Iterator[tuple[float, float]]:
        """(Instant, real service time) of the jobs that come after ``after_s`` up to ``until_s``."""
        self.at_s(0)
        while self._instants_s[-1] <= until_s:
            self._draw()
        for number in range(bisect_right(self._instants_s, after_s), bisect_right(self._instants_s, until_s)):
            yield self._instants_s[number], self.service_s(number)

    def _draw(self) -> None:
        instants = [instant for _, instant in zip(range(_CHUNK), self._arrivals, strict=False)]
        if not instants:
            instants = [float("inf")]
        draw = self._rng.random
        kinds = (self._kinds[self._step_s is not None and instant >= self._step_s] for instant in instants)
        sizes = [kind[int(draw() * len(kind))] for kind in kinds]
        jitters = jitter_factors(self._jitter_rng, len(instants), self._jitter)
        self._instants_s += instants
        self._sizes += sizes
        self._services_s += [self.sizes_s[size] * jitter for size, jitter in zip(sizes, jitters, strict=True)]


def _arrivals_s(scenario: Scenario, mean_s: float, seed: int) -> Iterator[float]:
    """Arrivals from ``warm_up_s`` before the first task can come; after a step of load those of the other load."""
    step_s = scenario.step_at_s if scenario.step_load_share is not None else None
    before = _shifted(scenario.load_shape, mean_s, seed, -scenario.warm_up_s)
    if step_s is None:
        yield from before
        return
    yield from takewhile(lambda instant: instant < step_s, before)
    yield from _shifted(scenario.step_load_shape, mean_s, seed + 1, step_s)


def _shifted(shape: LoadShape | None, mean_s: float, seed: int, begin_s: float) -> Iterator[float]:
    return iter(()) if shape is None else (begin_s + instant for instant in arrivals_s(shape, mean_s, seed))
