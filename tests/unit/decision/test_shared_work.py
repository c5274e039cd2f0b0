"""What is reckoned once for several devices, sets of exits or questions is what each would have got for itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision.optimising import LOAD_ONLY, OPEN_LOOP, Optimising, exit_sets
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import present_payoffs
from twin_service.decision.tables import QUEUES
from twin_service.decision.utility import batch_of

MANIFEST = manifest_of(6, (2, 4), seed=3)


@pytest.mark.parametrize("rule", [OPEN_LOOP, LOAD_ONLY])
def test_an_evaluations_own_payoffs_are_those_reckoned_anew_for_its_table(rule: Optimising) -> None:
    for evaluation in rule.evaluate([situation_of(MANIFEST, seed) for seed in range(4)]):
        assert evaluation.own is not None
        assert evaluation.payoffs_with is not None
        own, anew = evaluation.own(), evaluation.payoffs_with(evaluation.plan_table)
        for one, other in zip(own, anew, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_payoffs_with_other_exits_are_reckoned_anew() -> None:
    evaluation = OPEN_LOOP.evaluate([situation_of(MANIFEST, 1)])[0]
    assert evaluation.payoffs_with is not None
    other = replace(evaluation.plan_table, exits_run=tuple(not run for run in evaluation.plan_table.exits_run))
    found, expected = evaluation.payoffs_of(other), evaluation.payoffs_with(other)
    assert found is not None
    assert np.array_equal(found[0], expected[0])
    assert not np.allclose(found[0], evaluation.payoffs_with(evaluation.plan_table)[0])


def test_an_evaluation_that_is_kept_holds_no_arrays_of_its_batch() -> None:
    evaluation = OPEN_LOOP.evaluate([situation_of(MANIFEST, 1)])[0].without_payoffs()
    assert evaluation.own is None
    assert evaluation.payoffs_of(evaluation.plan_table) is not None, "they are reckoned anew"


def test_pruned_payoffs_are_no_ones_own() -> None:
    reduced = replace(OPEN_LOOP, is_reduced=True)
    assert all(e.own is None for e in reduced.evaluate([situation_of(MANIFEST, seed) for seed in range(2)]))


@pytest.mark.parametrize("is_reduced", [True, False])
def test_devices_weighed_together_get_the_tables_that_each_gets_alone(is_reduced: bool) -> None:
    rule = replace(OPEN_LOOP, is_reduced=is_reduced)
    situations = [situation_of(MANIFEST, seed, tensors_only=seed % 3 == 0) for seed in range(6)]
    for together, s in zip(rule.evaluate(situations), situations, strict=True):
        assert together.plan_table.is_same(rule.evaluate([s])[0].plan_table)


def test_a_situation_with_several_sets_of_exits_has_the_terms_of_each_alone() -> None:
    s, statistics = situation_of(MANIFEST, 5), statistics_of(MANIFEST)
    sets = exit_sets(len(MANIFEST.exits))
    backlogs = np.tile([0.0, 0.3], (len(sets), 1))
    together = present_payoffs(batch_of([s] * len(sets), statistics, sets), QUEUES, backlogs, is_reduced=False)
    for place, exits_run in enumerate(sets):
        alone = present_payoffs(batch_of([s], statistics, exits_run[None]), QUEUES, backlogs[:1], is_reduced=False)
        np.testing.assert_allclose(together.dense(place), alone.dense(0), rtol=1e-12)


def test_rows_of_a_batch_are_the_batch_of_those_devices() -> None:
    situations, statistics = [situation_of(MANIFEST, seed) for seed in range(4)], statistics_of(MANIFEST)
    sets = exit_sets(len(MANIFEST.exits))
    found = batch_of(situations, statistics, sets[:4]).rows(np.array([2, 0]))
    expected = batch_of([situations[2], situations[0]], statistics, sets[[2, 0]])
    backlogs = np.tile([0.0, 0.3], (2, 1))
    for place in range(2):
        one, other = (
            present_payoffs(each, QUEUES, backlogs, is_reduced=False).dense(place) for each in (found, expected)
        )
        assert np.array_equal(one, other)
    assert found.size == 2
