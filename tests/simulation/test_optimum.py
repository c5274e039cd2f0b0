"""The optimum of the small Markov setting: nobody without foresight costs less, and it costs what was reckoned."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.scenario import Scenario, changed_scenario, read_scenario
from benchmarks.simulator.clairvoyant import Clairvoyant
from benchmarks.simulator.deciding import ByTable, Deciding
from benchmarks.simulator.optimum import Optimum, Solution, solve
from benchmarks.simulator.world import World
from edge.load_pattern import Pattern
from twin_service.decision.rules import rule_named
from twinsplit.errors import SettingsError
from twinsplit.types import Payloads

MARKOV = read_scenario(Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios" / "markov.yaml")
COARSE = 12.0
SEEDS = (1, 2)


@lru_cache(maxsize=1)
def solved() -> Solution:
    return solve(MARKOV, COARSE)


@lru_cache(maxsize=8)
def costs_s(rule: str) -> NDArray[np.float64]:
    """Of all tasks of all seeds, paired between rules."""
    own: dict[str, Deciding] = {"optimum": Optimum(solved()), "clairvoyant": Clairvoyant()}
    deciding = own[rule] if rule in own else ByTable(rule_named(rule))
    scenario = changed_scenario(MARKOV, tasks=800)
    return np.concatenate([World(scenario, seed, deciding).run().costs_s for seed in SEEDS])


def interval_s(values: NDArray[np.float64]) -> tuple[float, float]:
    half_s = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - half_s), float(values.mean() + half_s)


@pytest.mark.slow
def test_it_costs_what_dynamic_programming_says() -> None:
    low_s, high_s = interval_s(costs_s("optimum"))

    assert low_s <= solved().cost_s <= high_s


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["open-loop", "load-only", "one-time", "one-time-threshold:0.9", "edge-only"])
def test_no_rule_costs_less(rule: str) -> None:
    _, most_s = interval_s(costs_s(rule) - costs_s("optimum"))

    assert most_s >= 0.0


@pytest.mark.slow
def test_it_costs_less_than_deciding_once() -> None:
    least_s, _ = interval_s(costs_s("one-time") - costs_s("optimum"))

    assert least_s > 0.0


@pytest.mark.slow
def test_foresight_costs_less_still() -> None:
    least_s, _ = interval_s(costs_s("optimum") - costs_s("clairvoyant"))

    assert least_s > 0.0


@pytest.mark.slow
def test_a_finer_grid_changes_nothing() -> None:
    assert solve(MARKOV, 2.0 * COARSE).cost_s == pytest.approx(solved().cost_s, rel=5e-4)


def test_where_only_the_edge_can_help_it_waits_the_mean_wait_of_mm1() -> None:
    slow = changed_scenario(MARKOV, device_whole_s=8.0, task_rate_per_s=0.05, uplink_delay_s=0.01)
    alone = World(changed_scenario(slow, load_share=1e-9, tasks=1), 1, ByTable(rule_named("edge-only"))).run()

    load, mean_s = 0.6, 0.05
    expected_s = alone.cost_s + load * mean_s / (1.0 - load)
    assert solve(slow, 6.0).cost_s == pytest.approx(expected_s, rel=5e-3)


def test_it_obeys_tensors_only() -> None:
    scenario = changed_scenario(MARKOV, payloads=Payloads.TENSORS_ONLY, tasks=60)

    summary = World(scenario, 1, Optimum(solve(scenario, 4.0))).run().summary

    assert summary.payloads["tensor"] > 0
    assert summary.payloads["input"] == 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("devices", {"devices": 2}),
        ("edges", {"edges": 2}),
        ("arrivals", {"arrivals": "poisson"}),
        ("load_pattern", {"load_pattern": Pattern.ONOFF}),
        ("load_share", {"load_share": 1.0}),
        ("load_sizes", {"load_sizes": "fixed"}),
        ("uplink", {"uplink": "two-state", "uplink_bad_bytes_per_s": 1e3}),
        ("uplink_jitter_s", {"uplink_jitter_s": 0.01}),
        ("service_jitter", {"service_jitter": 0.1}),
        ("step_at_s", {"step_at_s": 5.0, "step_load_share": 0.9}),
        ("deadline_s", {"deadline_s": 1.0}),
        ("task_rate_per_s", {"task_rate_per_s": 1.0}),
    ],
)
def test_a_scenario_of_another_kind_is_refused_by_name(name: str, changes: dict[str, Any]) -> None:
    scenario: Scenario = changed_scenario(MARKOV, **changes)

    with pytest.raises(SettingsError, match=f"^scenario: {name}: the optimum is only known for"):
        solve(scenario)
