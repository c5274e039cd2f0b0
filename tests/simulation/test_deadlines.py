"""With a deadline rules put more answers in time, and the sweep compares them told the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.scenario import Scenario
from benchmarks.simulator import contenders
from benchmarks.simulator.deadlines import RIVAL, RULE, RULES, deadlines_named, sweep, sweep_document, sweep_table
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.result import SimulatedRun
from benchmarks.simulator.teaching import Teaching
from benchmarks.simulator.world import World
from twin_service.decision.evaluation import Evaluation, Rule
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable
from twinsplit.errors import SettingsError

BUSY = Scenario(
    task_rate_per_s=5.0,
    device_whole_s=0.17,
    edge_whole_s=0.015,
    uplink_bytes_per_s=20_000.0,
    uplink_delay_s=0.02,
    load_share=0.7,
    tasks=150,
    deadline_s=0.2,
)


class Careless:
    """Open loop that was not told of the deadline."""

    name = "careless"

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        return OPEN_LOOP.evaluate([replace(s, weights=replace(s.weights, deadline_s=None)) for s in situations])

    def table(self, situation: Situation) -> PlanTable:
        return self.evaluate([situation])[0].plan_table


def ran(scenario: Scenario, rule: Rule) -> SimulatedRun:
    return World(scenario, 3, ByTable(rule)).run()


@pytest.mark.slow
def test_who_knows_the_deadline_meets_it_more_often_at_less_cost() -> None:
    told, careless = ran(BUSY, OPEN_LOOP), ran(BUSY, Careless())
    assert told.summary.share_in_time is not None
    assert careless.summary.share_in_time is not None
    assert told.summary.share_in_time > careless.summary.share_in_time + 0.02
    assert told.cost_s < careless.cost_s
    assert told.summary.tasks == careless.summary.tasks == 150


@pytest.mark.slow
@pytest.mark.parametrize("name", [teaching.value for teaching in Teaching])
def test_what_learns_is_open_loop_where_there_is_a_deadline(name: str) -> None:
    """Corrections are learnt without one; the services' rule does the same."""
    contender = contenders.contender_named(name)
    run = World(BUSY, 3, contender.deciding(BUSY, contender.prepare(BUSY))).run()
    assert run.rule == name
    assert run.costs_s.tolist() == ran(BUSY, OPEN_LOOP).costs_s.tolist()


@pytest.mark.slow
def test_without_a_deadline_the_same_tasks_are_decided_as_ever() -> None:
    plain = BUSY.model_copy(update={"deadline_s": None})
    assert ran(plain, OPEN_LOOP).costs_s.tolist() == ran(plain, Careless()).costs_s.tolist()


@pytest.mark.slow
def test_the_sweep_says_what_is_gained_at_every_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "THRESHOLDS", (0.9,))
    cells = sweep(BUSY.model_copy(update={"tasks": 12}), (0.1, 0.3), (1, 2), workers=1)
    document = json.loads(json.dumps(sweep_document(cells)))
    assert document["scenario"]["deadline_s"] is None
    assert [each["deadline_s"] for each in document["deadlines"]] == [0.1, 0.3]
    for each in document["deadlines"]:
        assert set(each["rules"]) == set(RULES)
        assert each["rules"][RIVAL]["tuned_to"] in ("one-time", "one-time-threshold:0.9")
        ours, theirs = (each["rules"][rule] for rule in (RULE, RIVAL))
        against = each[f"{RULE}_against_{RIVAL}"]
        assert against["share_in_time_gain"] == pytest.approx(ours["share_in_time"] - theirs["share_in_time"])
        low, high = against["accuracy_in_time_gain_ci"]
        assert low <= against["accuracy_in_time_gain"] <= high
        assert against["cost_ratio"] == pytest.approx(ours["cost_s"] / theirs["cost_s"])
    assert sweep_table(cells).row_count == 2 * len(RULES)


def test_deadlines_are_read_from_a_list() -> None:
    assert deadlines_named("0.1,0.25") == [0.1, 0.25]


@pytest.mark.parametrize("text", ["", "0.1,", "0.1,0.1", "0", "-1", "nan", "inf", "soon"])
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--deadlines"):
        deadlines_named(text)
