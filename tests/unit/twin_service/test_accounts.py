"""What tasks cost in parts, and what hindsight and open-loop would have made of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.learning.made_up_tasks import made_up_task
from tests.unit.twin_service.made_up_twins import MANIFEST
from tests.unit.workload.test_conditions import CONDITIONS
from twin_service.accounts import GAIN_MEMORY_TASKS, Accounts, CostPart, hindsight_regret_s
from twin_service.decision.situation import Weights
from twin_service.learning.promotion import live_gain_s
from twin_service.workload.replayed import Replayed
from twinsplit.types import NO_EVIDENCE, Decision, Outcome, Reason, TaskRecord

WEIGHTS = Weights(alpha_s=2.0, beta_s_per_joule=0.1, penalty_s=3.0)
WHOLE = MANIFEST.p_whole_right(NO_EVIDENCE)
ANSWERED = TaskRecord(
    task_id=1,
    frame="",
    arrived_at_s=10.0,
    started_at_s=10.1,
    ended_at_s=10.4,
    outcome=Outcome.EXIT,
    reason=Reason.EXIT_CONFIDENT,
    stop_epoch=1,
    evidence=NO_EVIDENCE,
    confidence=0.7,
    energy_joules=0.5,
)


def booked(*tasks: TaskRecord, weights: Weights = WEIGHTS) -> Accounts:
    accounts = Accounts()
    for task in tasks:
        accounts.task_ended(task, MANIFEST, weights)
    return accounts


def total_s(accounts: Accounts) -> float:
    """Cost as the glossary has it."""
    return sum(accounts.cost_s.values()) - accounts.whole_network_s


def test_the_parts_of_an_answer_add_up_to_its_cost() -> None:
    accounts = booked(ANSWERED)
    expected_s = 2.0 * (WHOLE - 0.7) + 0.4 + 0.1 * 0.5
    assert math.isclose(total_s(accounts), expected_s)
    assert math.isclose(accounts.cost_s[CostPart.LATENCY], 0.4)
    assert math.isclose(accounts.cost_s[CostPart.ENERGY], 0.05)
    assert accounts.cost_s[CostPart.LOSS] == 0.0
    assert accounts.costed == 1


@pytest.mark.parametrize("outcome", [Outcome.DROPPED, Outcome.FAILED])
def test_a_lost_task_counts_accuracy_0_and_the_penalty(outcome: Outcome) -> None:
    accounts = booked(replace(ANSWERED, outcome=outcome, confidence=None))
    assert math.isclose(total_s(accounts), 2.0 * WHOLE + 0.4 + 0.05 + 3.0)


def test_an_answer_after_the_deadline_counts_as_wrong() -> None:
    late, in_time = (booked(ANSWERED, weights=replace(WEIGHTS, deadline_s=s)) for s in (0.3, 0.5))
    assert math.isclose(total_s(late) - total_s(in_time), 2.0 * 0.7)


def test_unknown_energy_is_left_out_and_unknown_accuracy_leaves_the_task_out() -> None:
    assert booked(replace(ANSWERED, energy_joules=None)).cost_s[CostPart.ENERGY] == 0.0
    accounts = booked(replace(ANSWERED, confidence=None))
    assert (accounts.costed, total_s(accounts)) == (0, 0.0)


def task(**changed: object) -> Replayed:
    """Two steps of 0.1 s each; hindsight: the tensor at epoch 1 brings 1.5 - 0.1."""
    nan = np.nan
    offload_s = np.array([[nan, 0.5], [1.5, 0.6], [nan, nan]], np.float32)
    fields: dict[str, object] = {
        "exit_s": np.array([nan, 1.0, 1.1], np.float32),
        "offload_s": offload_s,
        "step_cost_s": np.array([0.1, 0.1], np.float32),
        "finish_s": 1.25,
        # Open-loop goes on at epoch 0, and leaves by the exit at epoch 1.
        "base_tensor": np.array([-1e9, 0.9, -1e9], np.float32),
        "base_input": np.array([0.4, 0.4, -1e9], np.float32),
        "base_going_on": np.array([1.1, 0.95, 1.25], np.float32),
    }
    return made_up_task(1, np.random.default_rng(0), epochs=3, **{**fields, **changed})


@pytest.mark.parametrize(
    ("epoch", "decision", "regret_s"),
    [
        (1, Decision.OFFLOAD_TENSOR, 0.0),
        (1, Decision.OFFLOAD_INPUT, 0.9),
        (0, Decision.OFFLOAD_INPUT, 0.9),
        (1, Decision.EXIT, 0.5),
        (2, Decision.EXIT, 0.5),
        (2, Decision.CONTINUE, 0.35),
    ],
)
def test_regret_is_what_the_best_stop_would_have_brought_more(epoch: int, decision: Decision, regret_s: float) -> None:
    found = hindsight_regret_s(task(taken_epoch=epoch, taken=decision))
    assert found is not None
    assert math.isclose(found, regret_s, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("deadline_s", "epoch", "decision", "regret_s"),
    [
        (0.26, 1, Decision.OFFLOAD_TENSOR, 0.0),
        (0.24, 1, Decision.OFFLOAD_TENSOR, 1.05 - 0.4),
        (0.24, 2, Decision.CONTINUE, 0.0),
        (0.18, 2, Decision.CONTINUE, 0.9 + 0.2),
        (0.18, 1, Decision.EXIT, 0.0),
        (0.1, 1, Decision.EXIT, 0.5 + 0.1),
    ],
)
def test_to_hindsight_an_answer_after_the_deadline_is_worth_nothing(
    deadline_s: float, epoch: int, decision: Decision, regret_s: float
) -> None:
    # Ages: 20, 120 and 220 ms at its epochs, 70 with the answer to the input, 250 with that to the tensor. Accuracy
    # is worth 1 s of any answer from the edge.
    late = task(
        taken_epoch=epoch,
        taken=decision,
        alpha_s=2.0,
        waited_s=0.02,
        reached_s=np.array([0.0, 0.1, 0.2], np.float32),
        latency_s=np.array([[np.nan, 0.05], [0.13, 0.05], [np.nan, np.nan]], np.float32),
        accuracy=np.full((3, 2), 0.5, np.float32),
        conditions=replace(CONDITIONS, deadline_s=deadline_s),
    )
    found = hindsight_regret_s(late)
    assert found is not None
    assert math.isclose(found, regret_s, abs_tol=1e-6)


def test_a_stop_without_a_number_has_no_regret() -> None:
    assert hindsight_regret_s(task(taken_epoch=0, taken=Decision.EXIT)) is None
    accounts = Accounts()
    accounts.task_replayed(task(taken_epoch=0, taken=Decision.EXIT), MANIFEST)
    assert accounts.regret_s.cumulative()[0][-1] == ("+Inf", 0)
    assert accounts.open_loop_gain_s is None


def test_gain_over_open_loop_is_a_mean_that_forgets() -> None:
    better, worse = (task(taken_epoch=1, taken=d) for d in (Decision.OFFLOAD_TENSOR, Decision.OFFLOAD_INPUT))
    gains_s = 0.5, -0.4
    assert [live_gain_s(one, MANIFEST) for one in (better, worse)] == [pytest.approx(s) for s in gains_s]
    accounts = Accounts()
    for _ in range(3):
        accounts.task_replayed(better, MANIFEST)
    accounts.task_replayed(worse, MANIFEST)
    assert math.isclose(accounts.open_loop_gain_s or 0.0, (3 * gains_s[0] + gains_s[1]) / 4, abs_tol=1e-6)
    for _ in range(10 * GAIN_MEMORY_TASKS):
        accounts.task_replayed(worse, MANIFEST)
    assert math.isclose(accounts.open_loop_gain_s or 0.0, gains_s[1], abs_tol=1e-3)
