"""Experiments on the necessary conditions R1-R3 and on the price of waiting: they find what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.books import Books, whole_accuracy_of
from benchmarks.scenario import changed_scenario, read_scenario
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.pruning import (
    ByTaskTable,
    Compared,
    above_ceiling,
    compared_decisions,
    compared_plans,
    lowered_continuation,
    met_situations,
    planning_time,
    pruned_share,
)
from benchmarks.simulator.waiting_price import waiting_priced
from benchmarks.simulator.world import World, model_of
from tests.simulation.worlds import world_of
from twin_service.decision import stopping
from twin_service.decision.learned import Learned
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.situation import Situation

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios"
FLEET = read_scenario(FOLDER / "fleet.yaml")
TENSORS_ONLY = read_scenario(FOLDER / "tensors-only.yaml")


@pytest.fixture(scope="module")
def situations() -> list[Situation]:
    return met_situations(TENSORS_ONLY, 80, 6) + met_situations(FLEET, 80, 6)


def test_different_decisions_are_counted() -> None:
    compared = Compared()
    compared.add(np.array([[0, 1], [2, 3]], np.uint8), np.array([[0, 1], [3, 3]], np.uint8))
    compared.add(np.zeros(4, np.uint8), np.zeros(4, np.uint8))
    assert compared.as_document() == {"compared": 8, "different": 1}


@pytest.mark.slow
def test_open_loop_decides_the_same_with_the_conditions(situations: list[Situation]) -> None:
    found = compared_decisions(situations, None, 40)

    assert found.points > 10_000
    assert found.different == 0
    assert above_ceiling(situations, 20).different == 0
    assert 0.0 < pruned_share(situations).share < 1.0


@pytest.mark.slow
def test_a_condition_that_prunes_too_much_is_found_out(
    situations: list[Situation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "ruled_out", lambda batch, *_: np.ones((batch.size, _[-1].size), dtype=bool))

    assert compared_decisions(situations, None, 40).different > 0
    assert compared_plans(situations, 40).different > 0
    assert lowered_continuation(situations, 40)["most_s"] > 0.0


@pytest.mark.slow
def test_planning_is_timed_both_ways(situations: list[Situation]) -> None:
    found = planning_time(situations[:3], 2)

    assert set(found) == {"table", "table, 16 at once", "induction"}
    for way in found.values():
        assert way["with"]["count"] == way["without"]["count"] == 3
        assert way["ratio"] > 0.0
    assert found["induction"]["without"]["median_s"] < found["table"]["without"]["median_s"]
    json.dumps(found, allow_nan=False)


@pytest.mark.slow
def test_a_table_for_every_task_costs_about_what_kept_tables_cost() -> None:
    scenario = changed_scenario(TENSORS_ONLY, tasks=150, warm_up_tasks=0)
    kept = World(scenario, 1, ByTable(OPEN_LOOP)).run()
    made = World(scenario, 1, ByTaskTable(Learned("learned", lambda _: None))).run()

    assert made.cost_s == pytest.approx(kept.cost_s, rel=0.02)


def test_the_books_do_not_know_of_the_factor_on_waiting() -> None:
    scenario = changed_scenario(TENSORS_ONLY, tasks=40, warm_up_tasks=0, task_rate_per_s=8.0)
    run = world_of("edge-only", scenario).run(keeps_entries=True)
    plain = changed_scenario(scenario, is_waiting_priced_up=False).weights
    books = Books(plain, whole_accuracy_of(model_of(scenario.model)[0]))
    for entry in run.entries:
        books.enter(entry)

    assert scenario.weights.is_waiting_priced_up
    assert not plain.is_waiting_priced_up
    assert books.close().cost_s == pytest.approx(run.cost_s, rel=1e-12)


@pytest.mark.slow
def test_the_factor_pays_where_the_device_is_busy() -> None:
    light, _, busy, busy_once = waiting_priced(TENSORS_ONLY, (1.0, 8.0), (1,), tasks=400, workers=1)

    assert (light["rule"], busy["rule"], busy_once["rule"]) == ("open-loop", "open-loop", "one-time")
    assert light["device_load"] < 0.3 < busy["device_load"]
    assert light["cost_ratio"] == pytest.approx(1.0, abs=0.02)
    assert max(busy["cost_ratio"], busy_once["cost_ratio"]) < 0.98
