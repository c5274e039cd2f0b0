"""Rules side by side in figures: what ``twinsplit sim run`` and ``twinsplit bench testbed`` write of each.

Intervals are of 95 %: Student's over seeds or, where there is one seed, over batches of consecutive tasks, which hardly
depend on one another. Every rule met the same tasks, so ratios are compared run by run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.books import Summary

BASELINE = "one-time"
REFERENCE = "clairvoyant"
LEVEL = 0.95
_BATCHES = 10
_LEAST_GAP_SHARE = 0.02
"""A gap to the reference below this share of the baseline's cost is not divided by."""

Array = NDArray[np.float64]


class Run(Protocol):
    """One rule on one seed."""

    @property
    def summary(self) -> Summary: ...

    @property
    def costs_s(self) -> Array:
        """By task; the same tasks for every rule on this seed.  # (tasks,)"""
        ...

    @property
    def latency_mean_s(self) -> float | None: ...

    @property
    def messages_per_task(self) -> float | None: ...


def rule_figures(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """Figures of every rule of ``runs``, which holds one run per seed for each, seeds in the same order.

    ``cost_ratio_to_one_time`` is ``None`` without a run of one-time, ``gap_closed`` without one of clairvoyant;
    ``share_in_time`` and ``accuracy_in_time`` are there only with a deadline.
    """
    samples = {rule: _samples([run.costs_s for run in by_seed]) for rule, by_seed in runs.items()}
    means = {rule: float(np.mean([run.summary.cost_s for run in by_seed])) for rule, by_seed in runs.items()}
    return {rule: _figures(rule, by_seed, samples, means) for rule, by_seed in runs.items()}


def interval(values: Array, middle: float | None = None) -> list[float] | None:
    """Interval of the mean of independent ``values`` (n,) around it or around ``middle``; ``None`` of one value."""
    if len(values) < 2:
        return None
    half = float(stdtrit(len(values) - 1, (1.0 + LEVEL) / 2.0) * values.std(ddof=1) / math.sqrt(len(values)))
    at = float(values.mean()) if middle is None else middle
    return [at - half, at + half]


def ratio_interval(values: Array, base: Array) -> list[float] | None:
    """Interval of the ratio of the means of paired ``values`` and ``base`` (n,), by its residuals."""
    mean = float(base.mean())
    if mean <= 0.0:
        return None
    ratio = float(values.mean()) / mean
    return interval((values - ratio * base) / mean, ratio)


def _figures(
    rule: str, runs: Sequence[Run], samples: Mapping[str, Array], means: Mapping[str, float]
) -> dict[str, Any]:
    base = means.get(BASELINE)
    has_ratio = base is not None and base > 0.0
    tasks = sum(run.summary.tasks for run in runs)
    ends: Counter[str] = Counter()
    for run in runs:
        ends.update(run.summary.ends)
    in_time = {
        name: _mean(getattr(run.summary, name) for run in runs) for name in ("share_in_time", "accuracy_in_time")
    }
    return {
        "cost_s": means[rule],
        "cost_ci_s": interval(samples[rule], means[rule]),
        "cost_ratio_to_one_time": means[rule] / base if base is not None and has_ratio else None,
        "cost_ratio_ci": ratio_interval(samples[rule], samples[BASELINE]) if has_ratio else None,
        "latency_mean_s": _mean(run.latency_mean_s for run in runs),
        "latency_p95_s": _mean(run.summary.latency_p95_s for run in runs),
        "share_answered": _mean(run.summary.share_answered for run in runs),
        "accuracy": _mean(run.summary.booked_accuracy for run in runs),
        "energy_joules": _mean(run.summary.energy_joules for run in runs),
        "messages_per_task": _mean(run.messages_per_task for run in runs),
        "stops": {end: count / tasks for end, count in sorted(ends.items())},
        "gap_closed": _gap_closed(means, rule),
        **{name: value for name, value in in_time.items() if value is not None},
    }


def _samples(costs_s: Sequence[Array]) -> Array:
    """Means of cost that hardly depend on one another: by seed, or by batch of the one seed's tasks."""
    if len(costs_s) > 1:
        return np.array([costs.mean() for costs in costs_s])
    batches = np.array_split(costs_s[0], min(_BATCHES, len(costs_s[0])))
    return np.array([batch.mean() for batch in batches])


def _gap_closed(means: Mapping[str, float], rule: str) -> float | None:
    base, best = means.get(BASELINE), means.get(REFERENCE)
    if base is None or best is None or base - best < _LEAST_GAP_SHARE * abs(base):
        return None
    return (base - means[rule]) / (base - best)


def _mean(values: Any) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
