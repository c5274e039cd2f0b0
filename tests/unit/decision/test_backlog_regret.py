"""What decisions by a wrong backlog cost: the price at which backlog updates are weighed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.decision.situations import manifest_of, situation_of
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.optimising import ONE_TIME, OPEN_LOOP
from twin_service.decision.reduction import Pruning
from twin_service.decision.regret import backlog_regret
from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable, interpolated
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import Decision

MANIFEST = manifest_of()
BINS = MANIFEST.bin_count


def situation(seed: int = 0, **changes: object) -> Situation:
    return replace(situation_of(MANIFEST, seed), **changes)


def table_of(decisions: np.ndarray, observation: Observation = Observation.EACH_EPOCH) -> PlanTable:
    """Decisions (K, E, Q, bands) with a break point at 0.2 s; both exits are run."""
    nothing = (0,) * len(decisions)
    return PlanTable(decisions, (0.2,), (True, True), nothing, nothing, observation, (0.1, 0.2, 0.3, 0.4, 0.5))


def all_go_on() -> np.ndarray:
    return np.full((6, MANIFEST.evidence_count, QUEUE_LEVELS, 2), Decision.CONTINUE, dtype=np.uint8)


def unweighed(table: PlanTable, **changes: object) -> np.ndarray:
    """Slopes (K,) without a queue, by a rule that does not say what decisions are worth."""
    return backlog_regret(table, Evaluation(table, Pruning()), situation(**changes)).slope[:, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_slopes_say_what_payoffs_say_around_a_break_point(seed: int) -> None:
    s = situation(seed)
    evaluation = OPEN_LOOP.evaluate([s])[0]
    table = evaluation.plan_table
    assert evaluation.payoffs_with is not None
    worth, grid_s = evaluation.payoffs_with(table)
    slope = backlog_regret(table, evaluation, s).slope[0]  # (Q, edges) at service start, where there is no evidence
    for queue, edge in zip(*np.nonzero(table.table[0, 0, :, 1:] != table.table[0, 0, :, :-1]), strict=True):
        at_s = table.band_edges_s[edge] + np.array([-0.05, 0.05])
        below, above = interpolated(worth[table.table[0, 0, queue, [edge, edge + 1]], 0, queue, :, 0], grid_s, at_s)
        lost_s = max(below[0] - above[0], above[1] - below[1])
        assert lost_s > 0.0
        assert slope[queue, edge] * 0.05 == pytest.approx(lost_s)


def test_without_payoffs_each_sample_whose_decision_changes_loses_a_second_a_second() -> None:
    decisions = all_go_on()
    decisions[1, 1, :, 0] = Decision.OFFLOAD_TENSOR
    slope = unweighed(table_of(decisions))
    assert slope[1] == pytest.approx(MANIFEST.exits[0].prior[0])
    assert slope[[0, 2, 3, 4, 5]].tolist() == [0.0] * 5


def test_evidence_counts_from_the_epoch_of_its_exit_until_the_next_one() -> None:
    decisions = all_go_on()
    decisions[0, 1:, :, 0] = Decision.OFFLOAD_TENSOR  # nobody has evidence at service start
    decisions[2, : 1 + BINS, :, 0] = Decision.OFFLOAD_TENSOR  # everybody has that of the second exit by now
    assert unweighed(table_of(decisions)).tolist() == [0.0] * 6


def test_samples_that_have_left_do_not_count_at_later_epochs() -> None:
    decisions = all_go_on()
    decisions[1, 1:BINS] = Decision.EXIT  # only the best bin goes on, whatever the backlog
    decisions[2, :, :, 0] = Decision.OFFLOAD_TENSOR
    regret = backlog_regret(table_of(decisions), Evaluation(table_of(decisions), Pruning()), situation())
    assert regret.going_on[1, 0].tolist() == pytest.approx([MANIFEST.exits[0].prior[-1]] * 2)
    assert regret.slope[2, 0, 0] == pytest.approx(1.0), "of those that get there"


def test_a_rule_that_decides_at_service_start_loses_there_as_far_as_tasks_get() -> None:
    decisions = all_go_on()
    decisions[1, 1] = Decision.EXIT
    decisions[2, :, :, 0] = Decision.OFFLOAD_TENSOR
    slope = unweighed(table_of(decisions, Observation.SERVICE_START))
    assert slope[0] == pytest.approx(1.0 - MANIFEST.exits[0].prior[0])
    assert slope[1:].tolist() == [0.0] * 5


def test_a_one_time_rule_has_break_points_at_service_start_only() -> None:
    s = situation()
    evaluation = ONE_TIME.evaluate([s])[0]
    regret = backlog_regret(evaluation.plan_table, evaluation, s)
    assert regret.slope[0].any()
    assert not regret.slope[1:].any()


def test_with_a_deadline_what_makes_an_answer_late_weighs_more() -> None:
    s = situation()
    timed = replace(s, weights=replace(s.weights, deadline_s=0.6))
    slopes = []
    for each in (s, timed):
        evaluation = OPEN_LOOP.evaluate([each])[0]
        slopes.append(backlog_regret(evaluation.plan_table, evaluation, each).slope)
    assert np.isfinite(slopes[1]).all()
    assert slopes[1].max() > slopes[0].max()


def test_a_table_without_break_points_loses_nothing() -> None:
    s = situation(tail_s=None)
    evaluation = OPEN_LOOP.evaluate([s])[0]
    assert backlog_regret(evaluation.plan_table, evaluation, s).slope.size == 0


def test_above_the_ceiling_hardly_anything_is_lost() -> None:
    s = situation(busy_share=0.3)
    evaluation = OPEN_LOOP.evaluate([s])[0]
    edges_s = np.array(evaluation.plan_table.band_edges_s)
    regret = backlog_regret(evaluation.plan_table, evaluation, s)
    assert regret.ceiling_s in edges_s
    idle = regret.slope[:, 0].sum(axis=0)
    assert idle[edges_s > regret.ceiling_s].sum() <= 0.05 * idle.sum()
    assert idle[edges_s < regret.ceiling_s].sum() > 0.0


def test_what_no_decision_depends_on_has_no_ceiling() -> None:
    table = table_of(all_go_on())
    assert backlog_regret(table, Evaluation(table, Pruning()), situation()).ceiling_s == 0.0
