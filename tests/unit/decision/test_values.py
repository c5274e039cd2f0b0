from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import present_payoffs
from twin_service.decision.utility import NEVER, batch_of
from twin_service.decision.values import OpenLoopValues, quantised, values_of
from twinsplit.types import Decision

MANIFESTS = (manifest_of(), manifest_of(4, ()), manifest_of(5, (1,), device_segments=3))


@pytest.mark.parametrize("manifest", MANIFESTS)
@pytest.mark.parametrize("tensors_only", [False, True])
def test_payoffs_at_a_point_are_those_of_an_evaluation_at_that_very_point(manifest, tensors_only) -> None:
    for seed in range(3):
        s = quantised(situation_of(manifest, seed, tensors_only=tensors_only))
        values = values_of(s)
        batch = batch_of([s], statistics_of(manifest), values.exits_run)
        backlogs = np.concatenate((values._backlog_s[::4], [20.0]))
        there = present_payoffs(batch, np.array([0.0, 2.0]), backlogs[None], is_reduced=False).dense(0)
        for epoch in range(manifest.held_segments + 1):
            for evidence in np.flatnonzero(statistics_of(manifest).seen[epoch]):
                for row, queue in enumerate((0, 2)):
                    for column, backlog_s in enumerate(backlogs):
                        found = values.at(epoch, int(evidence), queue, float(backlog_s), s.uplink_busy_s)
                        expected = there[:, epoch, row, column, evidence]
                        by_decision = (found.going_on, found.exit, found.tensor, found.input)
                        for decision in Decision:
                            if expected[decision] < NEVER / 4:
                                assert by_decision[decision] < NEVER / 4
                            else:
                                assert by_decision[decision] == pytest.approx(expected[decision], rel=1e-5, abs=2e-6)


def test_between_its_knots_going_on_is_near_an_evaluation_at_that_very_point() -> None:
    rng = np.random.default_rng(1)
    for seed in range(4):
        s = quantised(situation_of(MANIFESTS[0], seed))
        values = values_of(s)
        for _ in range(10):
            queue, backlog_s, busy_s = rng.uniform(0, 4), rng.uniform(0, 1), rng.uniform(0, values._uplink_s[-2])
            exact = batch_of([replace(s, uplink_busy_s=busy_s)], statistics_of(s.manifest), values.exits_run)
            there = present_payoffs(exact, np.array([queue]), np.array([[backlog_s]]), is_reduced=False).dense(0)
            found = values.at(1, 2, queue, backlog_s, busy_s)
            assert found.tensor == pytest.approx(there[Decision.OFFLOAD_TENSOR, 1, 0, 0, 2], abs=1e-6)
            assert found.input == pytest.approx(there[Decision.OFFLOAD_INPUT, 1, 0, 0, 2], abs=1e-6)
            assert found.going_on == pytest.approx(there[Decision.CONTINUE, 1, 0, 0, 2], abs=0.03)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_best_decision_at_a_point_is_the_one_in_the_open_loop_table(manifest) -> None:
    compared = different = 0
    for seed in range(4):
        s = quantised(situation_of(manifest, seed))
        values = values_of(s)
        table = OPEN_LOOP.table(s)
        assert values.exits_run == table.exits_run
        assert values.plan_table.is_same(table)
        assert values.tensor_representations == table.tensor_representations
        assert values.input_representations == table.input_representations
        for epoch in range(manifest.held_segments + 1):
            for evidence in np.flatnonzero(statistics_of(manifest).seen[epoch]):
                for queue in (0, 1, 3):
                    for backlog_s in (0.0, 0.03, 0.2, 1.0):
                        found = values.at(epoch, int(evidence), queue, backlog_s, s.uplink_busy_s)
                        ranked = sorted(
                            zip((found.going_on, found.exit, found.tensor, found.input), Decision, strict=True)
                        )
                        lead_s = ranked[-1][0] - ranked[-2][0]
                        if lead_s > 0.05:
                            band = int(np.searchsorted(table.band_edges_s, backlog_s, side="right"))
                            is_same = table.table[epoch, evidence, queue, band] == ranked[-1][1]
                            assert is_same or lead_s < 0.07, "the table has but so many bands"
                            compared += 1
                            different += not is_same
    assert compared > 50
    assert different <= 1


def test_rounding_twice_changes_nothing_more() -> None:
    for seed in range(20):
        once = quantised(situation_of(MANIFESTS[0], seed))
        assert quantised(once) == once


def test_rounding_moves_no_number_by_more_than_its_share() -> None:
    for seed in range(20):
        s = situation_of(MANIFESTS[0], seed)
        rounded = quantised(s, share=0.05)
        assert rounded.goodput_bytes_per_s == pytest.approx(s.goodput_bytes_per_s, rel=0.03)
        assert rounded.task_rate_per_s == pytest.approx(s.task_rate_per_s, rel=0.03, abs=0.0025)
        assert rounded.waiting_factor == pytest.approx(s.waiting_factor, rel=0.03)
        assert rounded.segment_s == pytest.approx(s.segment_s, rel=0.006)


def test_situations_that_round_alike_share_one_evaluation() -> None:
    s = situation_of(MANIFESTS[0], 3)
    near = replace(s, task_rate_per_s=s.task_rate_per_s * (1 + 1e-9), arrived_work_s=(1.0, 2.0, 3.0))
    assert values_of(s) is values_of(near)
    assert values_of(s) is not values_of(replace(s, goodput_bytes_per_s=s.goodput_bytes_per_s * 2))


def test_exits_that_are_given_are_those_reckoned_with() -> None:
    s = situation_of(MANIFESTS[0], 1)
    with_all, with_none = values_of(s, (True, True)), values_of(s, (False, False))
    assert with_all.plan_table.exits_run == (True, True)
    assert with_none.plan_table.exits_run == (False, False)
    assert with_all.at(0, 0, 0, 9.0, 0.0).going_on != with_none.at(0, 0, 0, 9.0, 0.0).going_on


@pytest.mark.slow
def test_a_point_costs_less_than_15_microseconds() -> None:
    values = OpenLoopValues(situation_of(MANIFESTS[0], 1))
    spans_s = []
    for _ in range(20):
        started_s = time.thread_time()
        for _ in range(200):
            values.at(1, 2, 1.5, 0.07, 0.01)
        spans_s.append((time.thread_time() - started_s) / 200)
    assert min(spans_s) < 15e-6


@pytest.mark.slow
def test_what_is_kept_is_bounded_whatever_has_been_asked_for() -> None:
    manifest = MANIFESTS[0]
    for seed in range(70):
        values_of(situation_of(manifest, seed))
    tracemalloc.start()
    try:
        for seed in range(70, 210):
            values_of(situation_of(manifest, seed))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 32e6
