from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up_tasks import HEAD_ONLY, MANIFEST, made_up_task, made_up_tasks

from twin_service.decision.learned import NO_CORRECTION, decide
from twin_service.decision.value_net import ValueNet
from twin_service.decision.values import Payoffs
from twin_service.learning.lessons import lessons_of
from twinsplit.errors import ReplayError
from twinsplit.types import Decision


def one(**changed):
    return made_up_task(1, np.random.default_rng(0), noise_s=0.0, **changed)


def constant(going_on_s: float, offloading_s: float) -> ValueNet:
    *hidden, (weights, offsets) = ValueNet.zero().layers
    return ValueNet((*hidden, (weights, offsets + np.array([going_on_s, offloading_s], np.float32))))


def test_tasks_come_in_the_order_of_time() -> None:
    lessons = lessons_of(made_up_tasks(20)[::-1], MANIFEST)
    assert lessons.at_s.tolist() == list(range(1, 21))


@pytest.mark.parametrize("correction", [NO_CORRECTION, (0.05, -0.1), (-0.2, 0.1)])
def test_following_a_rule_brings_what_happens_where_it_stops(correction) -> None:
    tasks = made_up_tasks(60, seed=3)
    followed = lessons_of(tasks, MANIFEST).followed_s(constant(*correction))
    for task, found in zip(tasks, followed, strict=True):
        spent_s = 0.0
        for epoch in range(task.epochs):
            exit_s = float(task.exit_s[epoch])
            payoffs = Payoffs(
                float(task.base_tensor[epoch]),
                float(task.base_input[epoch]),
                -math.inf if math.isnan(exit_s) else exit_s,
                float(task.base_going_on[epoch]),
            )
            decision = decide(payoffs, correction if epoch < task.epochs - 1 else NO_CORRECTION)
            if decision is not Decision.CONTINUE or epoch == task.epochs - 1:
                break
            spent_s += float(task.step_cost_s[epoch])
        brought = {
            Decision.CONTINUE: task.finish_s,
            Decision.EXIT: exit_s,
            Decision.OFFLOAD_TENSOR: float(task.offload_s[epoch, 0]),
            Decision.OFFLOAD_INPUT: float(task.offload_s[epoch, 1]),
        }[decision]
        assert found[0] == pytest.approx(brought - spent_s)


def test_what_a_task_brought_is_its_taken_payoff_less_the_way_there() -> None:
    task = one(taken_epoch=2, taken=Decision.EXIT)
    lessons = lessons_of([task], MANIFEST)
    assert lessons.taken_total_s[0] == pytest.approx(0.5 - float(np.sum(task.step_cost_s[:2])))
    whole = one(taken_epoch=5, taken=Decision.CONTINUE)
    assert lessons_of([whole], MANIFEST).taken_total_s[0] == pytest.approx(
        whole.finish_s - float(np.sum(whole.step_cost_s))
    )


def test_a_sample_that_shows_itself_to_be_easy_is_no_merit_of_going_on() -> None:
    plain, shown = one(alpha_s=2.0), one(alpha_s=2.0, evidence=np.array([0, 0, 1, 1, 1, 1], np.int16))
    rose_s = 2.0 * (MANIFEST.p_whole_right(1) - MANIFEST.p_whole_right(0))
    steps_s = [lessons_of([task], MANIFEST).step_cost_s[0] for task in (plain, shown)]
    assert rose_s != 0.0
    assert steps_s[1] - steps_s[0] == pytest.approx([0.0, rose_s, 0.0, 0.0, 0.0])


def test_offloading_is_what_the_payload_with_the_better_expectation_really_brought() -> None:
    task = one()
    task.base_tensor[0], task.base_input[0] = 1.0, 1.1
    task.offload_s[0] = (3.0, 0.7)
    lessons = lessons_of([task], MANIFEST)
    assert (lessons.offload_base_s[0, 0], lessons.offload_s[0, 0]) == (1.1, 0.7)


def test_at_the_end_of_the_whole_network_nothing_is_corrected() -> None:
    lessons = lessons_of(made_up_tasks(3), MANIFEST)
    going_on, offloading = lessons.corrections_s(constant(1.0, 2.0))
    assert (going_on[:, :-1] == 1.0).all()
    assert (offloading[:, :-1] == 2.0).all()
    assert not going_on[:, -1].any()
    assert not offloading[:, -1].any()


def test_a_device_with_the_head_alone_must_stop_at_its_end() -> None:
    task = made_up_task(1, np.random.default_rng(0), epochs=4, finish_s=math.nan, noise_s=0.0)
    task.base_tensor[-1], task.offload_s[-1, 0] = 0.9, 0.8
    task.base_going_on[-1] = math.nan
    lessons = lessons_of([task], HEAD_ONLY)
    assert lessons.followed_s(constant(0.0, 0.0))[0, -1] == pytest.approx(0.8)
    assert lessons.corrections_s(constant(0.0, 2.0))[1][0, -1] == 2.0


def test_tasks_of_another_model_are_refused() -> None:
    with pytest.raises(ReplayError, match="epochs"):
        lessons_of([one()], HEAD_ONLY)
    with pytest.raises(ReplayError, match="none"):
        lessons_of([], MANIFEST)
    with pytest.raises(ReplayError, match="evidence"):
        lessons_of([one(evidence=np.full(6, 99, np.int16))], MANIFEST)


@pytest.mark.parametrize("name", ["base_going_on", "step_cost_s", "backlog_s", "queue"])
def test_numbers_that_are_none_are_refused(name) -> None:
    task = one()
    broken = np.array(getattr(task, name))
    broken[1] = math.nan
    with pytest.raises(ReplayError, match="NaN"):
        lessons_of([replace(task, **{name: broken})], MANIFEST)


def test_following_a_rule_through_no_task_at_all_brings_nothing() -> None:
    lessons = lessons_of(made_up_tasks(3), MANIFEST)
    nobody = lessons.part(np.zeros(lessons.size, dtype=bool))

    assert nobody.followed_s(constant(0.1, 0.2)).shape == (0, lessons.epochs)
