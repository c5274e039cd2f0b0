from __future__ import annotations

import time

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision.features import FEATURE_COUNT, Points, features, point_features
from twin_service.decision.learned import Learned, correction_at, decide, reachable
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.regret import regret_s
from twin_service.decision.rules import rule_named
from twin_service.decision.statistics import statistics_of
from twin_service.decision.utility import NEVER, batch_of
from twin_service.decision.value_net import ValueNet
from twin_service.decision.values import Payoffs, quantised, values_of
from twinsplit.types import Decision

MANIFESTS = (manifest_of(), manifest_of(4, ()), manifest_of(5, (1,), device_segments=3))


def constant(going_on_s: float, offloading_s: float) -> ValueNet:
    *hidden, (weights, offsets) = ValueNet.zero().layers
    return ValueNet((*hidden, (weights, offsets + np.array([going_on_s, offloading_s], np.float32))))


def drawn(seed: int = 0, size_s: float = 0.05) -> ValueNet:
    rng = np.random.default_rng(seed)
    *hidden, (weights, offsets) = ValueNet.zero(seed=seed).layers
    return ValueNet((*hidden, (rng.normal(0.0, size_s, weights.shape).astype(np.float32), offsets)))


def learned(net: ValueNet | None) -> Learned:
    return Learned("learned", lambda _manifest: net)


@pytest.mark.parametrize("manifest", MANIFESTS)
@pytest.mark.parametrize("net", [None, ValueNet.zero()])
def test_without_weights_or_untrained_it_is_exactly_open_loop(manifest, net) -> None:
    for seed in range(4):
        situations = [situation_of(manifest, seed), situation_of(manifest, seed + 10)]
        for ours, theirs in zip(learned(net).evaluate(situations), OPEN_LOOP.evaluate(situations), strict=True):
            assert ours.plan_table.is_same(theirs.plan_table)


def test_untrained_weights_and_open_loop_are_worth_the_same_everywhere() -> None:
    s = situation_of(MANIFESTS[0], 2)
    ours, theirs = learned(ValueNet.zero()).evaluate([s])[0], OPEN_LOOP.evaluate([s])[0]
    assert ours.payoffs_with is not None
    assert theirs.payoffs_with is not None
    for like in (ours.plan_table, theirs.plan_table):
        assert np.array_equal(ours.payoffs_with(like)[0], theirs.payoffs_with(like)[0])


@pytest.mark.parametrize("name", ["learned", "multi-step"])
def test_both_names_take_the_weights_in_force(name) -> None:
    s = situation_of(MANIFESTS[0], 1)
    never_offload = rule_named(name, net_of=lambda _manifest: constant(0.0, -100.0))
    assert rule_named(name).table(s).is_same(OPEN_LOOP.table(s))
    table = never_offload.table(s)
    first = statistics_of(MANIFESTS[0]).seen[0]
    assert (table.table[0][first] < Decision.OFFLOAD_TENSOR).all()
    assert (OPEN_LOOP.table(s).table[0][first] >= Decision.OFFLOAD_TENSOR).any()


def test_a_correction_moves_each_side_of_the_comparison() -> None:
    payoffs = Payoffs(tensor=1.0, input=1.1, exit=0.9, going_on=1.05)
    assert decide(payoffs) is Decision.OFFLOAD_INPUT
    assert decide(payoffs, (0.1, 0.0)) is Decision.CONTINUE
    assert decide(payoffs, (0.0, -0.1)) is Decision.CONTINUE
    assert decide(payoffs, (-0.2, -0.3)) is Decision.EXIT
    assert decide(payoffs, (0.3, 0.3)) is Decision.OFFLOAD_INPUT


def test_at_a_point_what_cannot_be_done_is_not_decided_whatever_is_learnt() -> None:
    payoffs = Payoffs(tensor=NEVER, input=NEVER, exit=NEVER, going_on=0.5)
    assert decide(payoffs, (-10.0, 10.0)) is Decision.CONTINUE


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_what_a_table_is_made_of_is_what_a_point_is_decided_by(manifest) -> None:
    for seed in range(3):
        s, net = quantised(situation_of(manifest, seed)), drawn(seed)
        evaluation = learned(net).evaluate([s])[0]
        values = values_of(s)
        assert evaluation.plan_table.exits_run == values.exits_run
        dense, backlog_s = evaluation.payoffs_with(evaluation.plan_table)
        batch = batch_of([s], statistics_of(manifest), values.exits_run)
        cells = reachable(batch, batch.exits_run[0])
        assert cells.sum(axis=1)[: values.last_epoch].all()
        for epoch, evidence in np.argwhere(cells).tolist():
            for queue in (0, 1, 3):
                for column in (0, 5, 12, 19):
                    at = (epoch, evidence, queue, float(backlog_s[column]), s.uplink_busy_s)
                    payoffs = values.at(*at)
                    going_on, offloading = correction_at(net, values, payoffs, *at, s.arrived_work_s)
                    expected = dense[:, epoch, queue, column, evidence]
                    found = {
                        Decision.CONTINUE: payoffs.going_on + going_on,
                        Decision.EXIT: payoffs.exit,
                        Decision.OFFLOAD_TENSOR: payoffs.tensor + offloading,
                        Decision.OFFLOAD_INPUT: payoffs.input + offloading,
                    }
                    for decision, payoff in found.items():
                        assert payoff == pytest.approx(expected[decision], rel=1e-6, abs=2e-5)


def test_keeping_an_open_loop_table_costs_what_the_weights_say_and_keeping_its_own_costs_nothing() -> None:
    s = situation_of(MANIFESTS[0], 1)
    evaluation = learned(constant(0.0, -1.0)).evaluate([s])[0]
    kept = OPEN_LOOP.table(s)
    assert regret_s(evaluation.plan_table, evaluation, s, backlog_s=0.1, queue_length=0) == 0.0
    lost_s = regret_s(kept, evaluation, s, backlog_s=0.1, queue_length=0)
    assert 0.01 < lost_s < s.weights.alpha_s


def test_what_is_learned_sees_the_work_that_arrived() -> None:
    s = quantised(situation_of(MANIFESTS[0], 1))
    values, net = values_of(s), drawn()
    at = (1, 1, 0, 0.1, 0.0)
    quiet = correction_at(net, values, values.at(*at), *at, (0.0, 0.0, 0.0))
    busy = correction_at(net, values, values.at(*at), *at, (0.3, 1.0, 3.0))
    assert quiet != busy


def test_at_the_end_of_the_whole_network_nothing_is_corrected() -> None:
    s = quantised(situation_of(MANIFESTS[0], 1))
    values, net = values_of(s), constant(1.0, 1.0)
    at = (values.last_epoch, 1, 0, 0.1, 0.0)
    assert correction_at(net, values, values.at(*at), *at, (0.0, 0.0, 0.0)) == (0.0, 0.0)


def test_features_of_a_point_are_those_of_a_row() -> None:
    statistics = statistics_of(MANIFESTS[0])
    for lead_s in (-1e9, -0.4, 0.7, 9.0):
        row = features(
            Points(
                epoch_share=0.4,
                evidence=np.array([3]),
                p_exit_right=statistics.p_exit_right,
                p_whole_right=statistics.p_whole_right,
                queue=2,
                backlog_s=0.3,
                uplink_busy_s=0.02,
                arrived_work_s=(0.1, 0.2, 0.9),
                task_rate_per_s=1.5,
                busy_share=0.3,
                lead_s=lead_s,
            )
        )
        assert row.shape == (1, FEATURE_COUNT)
        p_exit, p_whole = statistics.p_exit_right[3], statistics.p_whole_right[3]
        point = point_features(0.4, p_exit, p_whole, True, 2, 0.3, 0.02, (0.1, 0.2, 0.9), 1.5, 0.3, lead_s)
        assert row[0].tolist() == pytest.approx(point.tolist(), rel=1e-6)


@pytest.mark.slow
def test_a_decision_at_a_point_takes_less_than_40_microseconds() -> None:
    s = quantised(situation_of(MANIFESTS[0], 1))
    values, net, at = values_of(s), drawn(), (1, 1, 0.5, 0.1, 0.01)
    spans_s = []
    for _ in range(20):
        started_s = time.thread_time()
        for _ in range(100):
            payoffs = values.at(*at)
            decide(payoffs, correction_at(net, values, payoffs, *at, (0.1, 0.2, 0.3)))
        spans_s.append((time.thread_time() - started_s) / 100)
    assert min(spans_s) < 40e-6
