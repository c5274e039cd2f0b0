from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.contingency import contingency_of
from twin_service.decision.optimising import LOAD_ONLY, ONE_TIME, ONE_TIME_MYOPIC, OPEN_LOOP
from twin_service.decision.regret import regret_s
from twin_service.decision.rules import RULE_FORMS, rule_named
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.tables import PlanTable
from twinsplit.errors import SettingsError
from twinsplit.plan import Contingency, Observation, Plan, check_plan
from twinsplit.types import Decision

MANIFEST = manifest_of()
EXAMPLES = [form.replace(":K,T", ":2,0.8").replace(":K", ":2").replace(":T", ":0.8") for form in RULE_FORMS]


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
        busy_uplink=table.busy_uplink,
    )


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("manifest", [MANIFEST, manifest_of(4, ()), manifest_of(5, (1,), device_segments=3)])
@pytest.mark.parametrize("has_edge", [True, False])
def test_every_rule_makes_a_plan_that_its_device_can_obey(name, manifest, has_edge) -> None:
    for seed in range(3):
        s = replace(situation_of(manifest, seed, has_edge=has_edge), uplink_busy_share=0.1 * seed)
        table = rule_named(name).table(s)
        check_plan(plan_of(table), manifest)
        if not has_edge:
            assert (table.table < Decision.OFFLOAD_TENSOR).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_rule_sends_an_input_where_only_tensors_may_leave(name) -> None:
    for seed in range(5):
        s = replace(situation_of(MANIFEST, seed, tensors_only=True), uplink_busy_share=0.1)
        plan_table = rule_named(name).table(s)
        for table in (plan_table.table, plan_table.while_uplink_is_busy().table):
            assert (table != Decision.OFFLOAD_INPUT).all()
            assert (table[0] != Decision.OFFLOAD_TENSOR).all()  # the tensor of cut 0 is the input


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_rule_sends_a_tensor_that_shows_the_frame_where_only_tensors_may_leave(name) -> None:
    segments = [s.model_copy(update={"macs": int(s.index >= 2)}) for s in MANIFEST.segments]
    manifest = MANIFEST.model_copy(update={"segments": tuple(segments)})
    for seed in range(5):
        s = replace(situation_of(manifest, seed, tensors_only=True), uplink_busy_share=0.1)
        plan_table = rule_named(name).table(s)
        for table in (plan_table.table, plan_table.while_uplink_is_busy().table):
            assert (table[:3] < Decision.OFFLOAD_TENSOR).all()
        assert contingency_of(s, plan_table).cut not in (0, 1, 2)


@pytest.mark.parametrize(
    "name", ["", "openloop", "static", "static:x", "static:-1", "one-time-threshold:1.2", "threshold-static:1"]
)
def test_an_unknown_rule_is_refused_by_name(name) -> None:
    with pytest.raises(SettingsError, match="rule"):
        rule_named(name)


def test_device_only_and_edge_only_do_what_they_say() -> None:
    s = situation_of(MANIFEST, 1)
    assert (rule_named("device-only").table(s).table == Decision.CONTINUE).all()
    assert (rule_named("edge-only").table(s).table[0] == Decision.OFFLOAD_INPUT).all()
    static = rule_named("static:2").table(s).table
    assert (static[2] == Decision.OFFLOAD_TENSOR).all()
    assert (static[:2] == Decision.CONTINUE).all()


def test_threshold_rules_leave_at_the_exits_that_are_sure_enough() -> None:
    s = situation_of(MANIFEST, 1)
    first = MANIFEST.exits[0]
    table = rule_named("threshold-static:5,0.8").table(s)
    assert table.exits_run == (True, True)
    for b, p_right in enumerate(first.p_right):
        is_exit = table.table[1, 1 + b] == Decision.EXIT
        assert is_exit.all() == (p_right >= 0.8)
        assert is_exit.any() == (p_right >= 0.8)


def test_one_time_is_read_at_service_start_and_open_loop_at_every_epoch() -> None:
    s = situation_of(MANIFEST, 2)
    assert ONE_TIME.table(s).observation is Observation.SERVICE_START
    assert OPEN_LOOP.table(s).observation is Observation.EACH_EPOCH
    assert rule_named("multi-step").table(s).is_same(OPEN_LOOP.table(s))


def test_rules_without_evidence_decide_alike_in_every_bin_of_an_exit() -> None:
    for rule in (ONE_TIME, LOAD_ONLY, ONE_TIME_MYOPIC):
        for seed in range(10):
            table = rule.table(situation_of(MANIFEST, seed)).table
            for first in (1, 5):
                assert (table[:, first : first + 4] == table[:, [first]]).all()


def test_the_myopic_rule_ignores_its_queue_and_one_time_does_not() -> None:
    differs = False
    for seed in range(30):
        s = replace(situation_of(MANIFEST, seed), busy_share=0.7)
        myopic = ONE_TIME_MYOPIC.table(s).table
        assert (myopic == myopic[:, :, :1]).all()
        counted = ONE_TIME.table(s).table
        differs |= bool((counted != counted[:, :, :1]).any())
    assert differs


def test_a_batch_gives_each_device_the_table_it_gets_alone() -> None:
    situations = [situation_of(MANIFEST, seed) for seed in range(20)]
    for rule in (OPEN_LOOP, ONE_TIME, rule_named("one-time-threshold:0.9")):
        for s, together in zip(situations, rule.evaluate(situations), strict=True):
            assert rule.table(s).is_same(together.plan_table)


def test_the_reduction_can_be_switched_off_and_costs_no_more_than_the_bands_do() -> None:
    s = situation_of(MANIFEST, 3)
    reduced, full = (rule_named("open-loop", is_reduced=on).evaluate([s])[0] for on in (True, False))
    assert reduced.pruning.pruned > 0 == full.pruning.considered
    assert regret_s(reduced.plan_table, full, s, backlog_s=0.1, queue_length=1) < 0.003  # bands merge break points


def test_a_better_edge_is_used_more() -> None:
    s = situation_of(MANIFEST, 5)
    slow = replace(s, goodput_bytes_per_s=2e3, backlog_mean_s=0.0)
    fast = replace(s, goodput_bytes_per_s=1e9, overhead_s=0.0, backlog_mean_s=0.0, uplink_busy_s=0.0)
    offloads = [(OPEN_LOOP.table(x).table >= Decision.OFFLOAD_TENSOR).mean() for x in (slow, fast)]
    assert offloads[0] < offloads[1]


def with_rate(s: Situation, factor: float) -> Situation:
    return replace(s, goodput_bytes_per_s=s.goodput_bytes_per_s * factor)


def test_keeping_the_same_table_costs_nothing_and_a_wrong_one_costs_more_the_wronger_it_is() -> None:
    s = replace(situation_of(MANIFEST, 4), goodput_bytes_per_s=3e4, backlog_mean_s=0.1, overhead_s=0.01)
    evaluation = OPEN_LOOP.evaluate([s])[0]
    assert regret_s(evaluation.plan_table, evaluation, s, backlog_s=0.1, queue_length=0) == 0.0
    losses = []
    for factor in (0.95, 0.5, 0.05):
        old = OPEN_LOOP.table(with_rate(s, factor))
        losses.append(regret_s(old, evaluation, s, backlog_s=0.1, queue_length=0))
    assert 0.0 <= losses[0] <= losses[1] <= losses[2]
    assert losses[2] > 0.001


def test_another_set_of_exits_costs_what_it_is_worth_less() -> None:
    s = replace(situation_of(MANIFEST, 4), goodput_bytes_per_s=3e3)
    evaluation = OPEN_LOOP.evaluate([s])[0]
    assert any(evaluation.plan_table.exits_run)
    blind = LOAD_ONLY.table(s)
    lost = regret_s(replace(blind, exits_run=(False, False)), evaluation, s, backlog_s=0.1, queue_length=0)
    assert 0.001 < lost < 2.5


def test_a_plan_that_offloads_to_an_edge_that_is_gone_costs_more_than_anything() -> None:
    s = replace(situation_of(MANIFEST, 4), goodput_bytes_per_s=1e6, backlog_mean_s=0.0, overhead_s=0.0)
    gone = replace(s, tail_s=None)
    assert (OPEN_LOOP.table(s).table >= Decision.OFFLOAD_TENSOR).any()
    assert regret_s(OPEN_LOOP.table(s), OPEN_LOOP.evaluate([gone])[0], gone, backlog_s=0.0, queue_length=0) > 1e3


def test_a_table_that_cannot_be_obeyed_any_more_must_go() -> None:
    s = situation_of(MANIFEST, 4)
    edge_only = rule_named("edge-only")
    gone = replace(s, tail_s=None)
    lost = regret_s(edge_only.table(s), edge_only.evaluate([gone])[0], gone, backlog_s=0.0, queue_length=0)
    assert lost == float("inf")


def test_weights_must_be_finite_and_not_negative() -> None:
    with pytest.raises(SettingsError, match="alpha_s"):
        Weights(alpha_s=-1.0)
    with pytest.raises(SettingsError, match="beta"):
        Weights(beta_s_per_joule=float("nan"))


def test_dearer_waiting_makes_a_busy_device_stop_sooner() -> None:
    def continues(s: Situation) -> float:
        return float(np.mean(OPEN_LOOP.table(s).table == Decision.CONTINUE))

    shares = [(continues(replace(situation_of(MANIFEST, i), busy_share=b)) for b in (0.0, 0.8)) for i in range(10)]
    assert sum(idle >= busy for idle, busy in shares) >= 9


EXTREMES = {
    "a device that never ends": {"segment_s": (1e9,) * 5},
    "an uplink that hardly moves": {"goodput_bytes_per_s": 1e-9},
    "energy beyond price": {"weights": Weights(alpha_s=0.0, beta_s_per_joule=1e6, compute_watts=1e6)},
    "a deadline that nothing can meet": {"weights": Weights(alpha_s=1e6, beta_s_per_joule=1e6, deadline_s=1e-300)},
    "a backlog without end": {"backlog_mean_s": 1e9, "backlog_time_constant_s": 1e9},
}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_numbers_at_the_limits_of_what_is_taken_give_plans_that_can_be_obeyed(name: str, extreme: str) -> None:
    situation = replace(situation_of(MANIFEST, 1), **EXTREMES[extreme])
    table = rule_named(name).table(situation)
    check_plan(replace(plan_of(table), age_edges_s=table.age_edges_s), MANIFEST)
