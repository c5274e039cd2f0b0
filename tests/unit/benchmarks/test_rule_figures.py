"""Figures of rules over seeds: means, intervals, paired ratios."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rule_figures import interval, ratio_interval, rule_figures
from tests.unit.benchmarks.made_up_runs import result

FIELDS = {
    "cost_s",
    "cost_ci_s",
    "cost_ratio_to_one_time",
    "cost_ratio_ci",
    "latency_mean_s",
    "latency_p95_s",
    "share_answered",
    "accuracy",
    "energy_joules",
    "messages_per_task",
    "stops",
    "gap_closed",
}


def test_a_rule_has_all_figures_and_none_else() -> None:
    found = rule_figures({"multi-step": [result("multi-step", [0.1, 0.2, 0.3], messages=6)]})["multi-step"]
    assert found.keys() == FIELDS
    assert found["messages_per_task"] == 2.0
    assert found["share_answered"] == 1.0
    assert found["stops"] == {"device": 1.0}
    assert found["cost_ratio_to_one_time"] is found["cost_ratio_ci"] is found["gap_closed"] is None


def test_costs_are_means_over_seeds_with_an_interval_and_a_paired_ratio() -> None:
    rng = np.random.default_rng(1)
    hardness = rng.uniform(0.0, 1.0, 6)  # seeds differ much more than the rules do
    base = [result("one-time", [1.0 + h, 1.2 + h]) for h in hardness]
    rule = [result("multi-step", [0.8 * (1.0 + h), 0.8 * (1.2 + h)]) for h in hardness]
    found = rule_figures({"one-time": base, "multi-step": rule})
    figures = found["multi-step"]
    assert figures["cost_s"] == pytest.approx(np.mean([run.summary.cost_s for run in rule]))
    assert figures["cost_ratio_to_one_time"] == pytest.approx(figures["cost_s"] / found["one-time"]["cost_s"])
    low, high = figures["cost_ratio_ci"]
    assert low < figures["cost_ratio_to_one_time"] < high
    alone_low, alone_high = figures["cost_ci_s"]
    assert (high - low) < 0.2 * (alone_high - alone_low) / figures["cost_s"], "pairing takes the seeds' luck out"
    assert found["one-time"]["cost_ratio_ci"] == pytest.approx([1.0, 1.0])


def test_the_interval_is_students() -> None:
    # Four values: t = 3.182 at 95 % with 3 degrees of freedom.
    values = np.array([1.0, 2.0, 3.0, 4.0])
    half = 3.182 * values.std(ddof=1) / 2.0
    assert interval(values) == pytest.approx([2.5 - half, 2.5 + half], rel=1e-3)
    assert interval(values[:1]) is None
    assert ratio_interval(values, -values) is None


def test_one_seed_is_judged_by_batches_of_its_tasks() -> None:
    found = rule_figures({"one-time": [result("one-time", list(np.linspace(0.1, 0.5, 40)))]})["one-time"]
    low, high = found["cost_ci_s"]
    assert low < found["cost_s"] < high


def test_the_gap_is_closed_between_one_time_and_the_clairvoyant_and_not_divided_by_when_small() -> None:
    def runs(clairvoyant_s: float) -> dict[str, float | None]:
        latencies = {"one-time": 1.0, "multi-step": 0.6, "clairvoyant": clairvoyant_s}
        found = rule_figures({rule: [result(rule, [s, s]), result(rule, [s, s])] for rule, s in latencies.items()})
        return {rule: figures["gap_closed"] for rule, figures in found.items()}

    assert runs(0.5) == pytest.approx({"one-time": 0.0, "multi-step": 0.8, "clairvoyant": 1.0})
    assert runs(0.999) == {"one-time": None, "multi-step": None, "clairvoyant": None}
