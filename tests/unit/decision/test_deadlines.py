"""What rules make of a deadline, and what keeping an older table costs then."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of
from test_rules import EXAMPLES

from twin_service.decision.deadline import with_lateness_priced
from twin_service.decision.optimising import LOAD_ONLY, ONE_TIME, ONE_TIME_MYOPIC, OPEN_LOOP
from twin_service.decision.regret import regret_s
from twin_service.decision.rules import rule_named
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.statistics import statistics_of
from twin_service.decision.tables import PlanTable
from twin_service.decision.utility import batch_of
from twin_service.planner import PlannerSettings
from twinsplit.errors import SettingsError
from twinsplit.plan import Contingency, Observation, Plan, check_plan
from twinsplit.types import Decision

MANIFEST = manifest_of()


def due(s: Situation, deadline_s: float | None) -> Situation:
    return replace(s, weights=replace(s.weights, deadline_s=deadline_s))


def situation(deadline_s: float | None, seed: int = 1) -> Situation:
    """A device on which the whole network takes 0.25 s beside an edge that is as fast on average."""
    s = due(situation_of(MANIFEST, seed), deadline_s)
    return replace(
        s,
        weights=replace(s.weights, alpha_s=2.5),
        segment_s=(0.05,) * 5,
        goodput_bytes_per_s=50_000.0,
        overhead_s=0.03,
        task_rate_per_s=2.0,
        busy_share=0.4,
        backlog_mean_s=0.15,
        backlog_time_constant_s=0.5,
    )


def plan_of(table: PlanTable) -> Plan:
    return Plan(
        plan_id=1,
        model_digest="0" * 64,
        rule="any",
        edge_id="e",
        edge_address="h:1",
        exits_run=table.exits_run,
        band_edges_s=table.band_edges_s,
        table=table.table,
        tensor_representations=table.tensor_representations,
        input_representations=table.input_representations,
        lease_s=10.0,
        contingency=Contingency((0.9,) * len(table.exits_run)),
        observation=table.observation,
        age_edges_s=table.age_edges_s,
    )


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("manifest", [MANIFEST, manifest_of(4, ()), manifest_of(5, (1,), device_segments=3)])
@pytest.mark.parametrize("has_edge", [True, False])
def test_every_rule_makes_a_plan_that_its_device_can_obey(name, manifest, has_edge) -> None:
    for seed in (0, 1):
        s = due(situation_of(manifest, seed, has_edge=has_edge), 0.3)
        table = rule_named(name).table(s)
        check_plan(plan_of(table), manifest)
        if not has_edge:
            assert (table.table < Decision.OFFLOAD_TENSOR).all()


def test_after_the_deadline_whoever_can_answers_at_once() -> None:
    table = OPEN_LOOP.table(situation(0.4))
    assert table.age_edges_s[-1] == pytest.approx(0.4)
    plan = plan_of(table)
    ran = [e.index for e in MANIFEST.exits if table.exits_run[e.index]]
    assert ran
    for index in ran:
        for evidence in range(1 + index * MANIFEST.bin_count, 1 + (index + 1) * MANIFEST.bin_count):
            late = plan.decision(MANIFEST.exits[index].after_segment, evidence, 0, 0.0, age_s=0.41)
            assert late is Decision.EXIT


def test_a_task_that_has_waited_decides_otherwise_than_a_fresh_one() -> None:
    plan = plan_of(OPEN_LOOP.table(situation(0.4)))
    decided = {age_s: [plan.decision(0, 0, q, 0.05, age_s) for q in range(4)] for age_s in (0.0, 0.2, 0.39)}
    assert len({tuple(found) for found in decided.values()}) > 1


@pytest.mark.parametrize(
    "rule", [OPEN_LOOP, ONE_TIME, ONE_TIME_MYOPIC, LOAD_ONLY, rule_named("one-time-threshold:0.8")]
)
def test_all_that_optimise_obey_the_deadline(rule) -> None:
    assert any(rule.table(situation(0.4, seed)).age_edges_s for seed in range(4))


def test_a_rule_that_decides_at_service_start_looks_up_the_age_of_then() -> None:
    table = ONE_TIME.table(situation(0.6))
    assert table.observation is Observation.SERVICE_START
    assert table.age_edges_s


def test_the_threshold_rule_reckons_with_the_time_of_the_exits_that_it_runs() -> None:
    s = replace(situation(0.5), exit_s=(0.2, 0.2))
    fixed, alone = rule_named("one-time-threshold:1").table(s), ONE_TIME.table(s)
    assert fixed.exits_run == (True, True)
    assert alone.exits_run != fixed.exits_run
    assert not np.array_equal(fixed.band_edges_s, alone.band_edges_s)


def test_caused_waiting_costs_later_tasks_their_accuracy_where_they_may_become_late() -> None:
    def raised(s: Situation) -> float:
        batch = batch_of([s], statistics_of(MANIFEST), (True, True))
        return float(with_lateness_priced(batch, s).factor[0] / batch.factor[0])

    tight, far = situation(0.3), situation(60.0)
    assert raised(tight) > 1.1
    assert raised(far) == pytest.approx(1.0, abs=1e-6)
    myopic = replace(tight, is_caused_waiting_counted=False)
    batch = batch_of([myopic], statistics_of(MANIFEST), (True, True))
    assert with_lateness_priced(batch, myopic).factor[0] == 0.0


def test_an_edge_that_is_usually_busy_is_not_believed_to_stay_empty_while_a_payload_is_on_its_way() -> None:
    quiet = replace(situation(0.25), segment_s=(0.1,) * 5, backlog_mean_s=0.0)
    busy = replace(quiet, backlog_mean_s=1.5, backlog_time_constant_s=0.2)
    offloads = [(plan_of(OPEN_LOOP.table(s)).decision(0, 0, 0, 0.0, 0.0)).is_offload for s in (quiet, busy)]
    assert offloads == [True, False]


def test_a_rule_that_does_not_optimise_knows_no_ages() -> None:
    table = rule_named("threshold-static:2,0.8").table(situation(0.4))
    assert table.age_edges_s == ()
    assert table.is_same(rule_named("threshold-static:2,0.8").table(situation(None)))


def test_the_default_rule_is_open_loop_where_there_is_a_deadline() -> None:
    s = situation(0.4)
    assert rule_named("multi-step").table(s).is_same(OPEN_LOOP.table(s))


def test_devices_with_and_without_a_deadline_are_planned_together_as_they_are_alone() -> None:
    every = [situation(0.4), situation(None, 2), situation(0.2, 3), situation(None, 4)]
    for s, evaluation in zip(every, OPEN_LOOP.evaluate(every), strict=True):
        assert evaluation.plan_table.is_same(OPEN_LOOP.table(s))
        assert (evaluation.plan_table.table.ndim == 4) == (not evaluation.plan_table.age_edges_s)


def test_a_deadline_that_nothing_meets_leaves_no_accuracy_to_wait_for() -> None:
    table = OPEN_LOOP.table(situation(1e-4))
    assert table.age_edges_s == ()  # all ages are alike
    assert not any(table.exits_run) or (table.table[1, 1 : 1 + MANIFEST.bin_count] == Decision.EXIT).all()


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_deadline_is_refused(deadline_s: float) -> None:
    with pytest.raises(SettingsError, match="deadline_s"):
        Weights(deadline_s=deadline_s)


@pytest.mark.parametrize("rule", [OPEN_LOOP, ONE_TIME])
def test_keeping_a_table_for_another_deadline_costs_and_keeping_ones_own_does_not(rule) -> None:
    s = situation(0.6)
    now = rule.evaluate([s])[0]

    def lost_s(old: PlanTable) -> float:
        return regret_s(old, now, s, backlog_s=0.1, queue_length=1)

    assert lost_s(rule.table(s)) == 0.0
    near_s, far_s = (lost_s(rule.table(situation(deadline_s))) for deadline_s in (0.601, 1.2))
    assert near_s < PlannerSettings().plan_threshold_s < far_s


def test_a_table_without_ages_can_be_weighed_against_one_with_them_but_not_the_other_way_round() -> None:
    timed, plain = situation(0.4), situation(None)
    lost = regret_s(OPEN_LOOP.table(plain), OPEN_LOOP.evaluate([timed])[0], timed, backlog_s=0.1, queue_length=0)
    assert 0.0 < lost < 3.0
    assert regret_s(OPEN_LOOP.table(timed), OPEN_LOOP.evaluate([plain])[0], plain, backlog_s=0.1, queue_length=0) == (
        math.inf
    )


def test_an_edge_that_is_gone_is_never_kept() -> None:
    s = situation(0.6)
    gone = replace(s, tail_s=None)
    assert (OPEN_LOOP.table(s).table >= Decision.OFFLOAD_TENSOR).any()
    assert regret_s(OPEN_LOOP.table(s), OPEN_LOOP.evaluate([gone])[0], gone, backlog_s=0.0, queue_length=0) > 1e3
