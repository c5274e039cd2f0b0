from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from made_up_tasks import HEAD_ONLY, MANIFEST, made_up_task, made_up_tasks
from test_lessons import constant

from twin_service.decision.features import FEATURE_NAMES, STALE_IN_PLANS
from twin_service.learning.lesson import learn
from twin_service.learning.lessons import lessons_of
from twin_service.learning.options import GateOptions, LearningOptions, TrainingOptions
from twin_service.learning.training import train
from twinsplit.errors import TrainingError

pytestmark = pytest.mark.slow  # torch takes its time on first use
QUICK = TrainingOptions(steps=80, learning_rate=1e-2, slow_copy_steps=20)
OPTIONS = LearningOptions(QUICK, GateOptions(least_tasks=20))


def all_of(tasks):
    return np.ones((1, len(tasks)), dtype=bool)


def test_a_lesson_finds_the_bias_of_open_loop_and_may_serve() -> None:
    tasks = made_up_tasks(200, offload_bias_s=-0.2, step_bias_s=0.03)
    net, report = learn(tasks, MANIFEST, seed=1, options=OPTIONS)
    assert report.refused_because is None
    assert net is report.candidate
    going_on, offloading = lessons_of(tasks, MANIFEST).corrections_s(net)
    assert offloading[:, :-1].mean() == pytest.approx(-0.2, abs=0.05)
    assert going_on[:, 0].mean() == pytest.approx(-5 * 0.03, abs=0.07)
    assert report.scores.held_out_gain > 0.5
    assert json.loads(json.dumps(report.as_document()))["scores"]["tasks"] == report.scores.tasks


def test_where_open_loop_is_right_nothing_new_serves() -> None:
    net, report = learn(made_up_tasks(200, spread_s=0.0), MANIFEST, seed=1, options=OPTIONS)
    assert net is None
    assert report.refused_because == "no-better-than-zero"


def test_what_serves_already_is_not_replaced_by_its_like() -> None:
    tasks = made_up_tasks(200, offload_bias_s=-0.2)
    net, report = learn(tasks, MANIFEST, seed=1, options=OPTIONS, serving=constant(0.0, -0.2))
    assert net is None
    assert report.refused_because == "no-better-than-serving"


def test_a_lesson_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    tasks = made_up_tasks(200, offload_bias_s=-0.2)
    options = LearningOptions(TrainingOptions(steps=30), GateOptions(least_tasks=20))
    first, again, other = (learn(tasks, MANIFEST, seed=seed, options=options)[1].candidate for seed in (1, 1, 2))
    assert first.to_bytes() == again.to_bytes() != other.to_bytes()


def test_too_few_tasks_teach_nothing() -> None:
    net, report = learn(made_up_tasks(40), MANIFEST, options=OPTIONS)
    assert (net, report.refused_because) == (None, "too-few-tasks")


def test_with_one_head_offloading_stays_uncorrected() -> None:
    tasks = made_up_tasks(100, offload_bias_s=-0.2, step_bias_s=0.05)
    options = TrainingOptions(steps=100, learning_rate=1e-2, is_one_head=True)
    (trained,) = train(lessons_of(tasks, MANIFEST), all_of(tasks), seed=0, options=options)
    going_on, offloading = lessons_of(tasks, MANIFEST).corrections_s(trained.net)
    assert not offloading.any()
    assert going_on[:, 0].mean() < -0.05


def test_nets_for_plans_are_blind_to_what_is_stale_in_them() -> None:
    tasks = made_up_tasks(100, offload_bias_s=-0.2)
    lessons = lessons_of(tasks, MANIFEST)
    lessons.features[..., np.isin(FEATURE_NAMES, STALE_IN_PLANS)] = np.random.default_rng(0).random((len(tasks), 1, 4))
    for_plans, for_exact_state = (
        train(lessons, all_of(tasks), seed=0, options=replace(QUICK, ignored=ignored))[0].net
        for ignored in (QUICK.ignored, ())
    )
    before = [net.correct(lessons.features[:, 0]) for net in (for_plans, for_exact_state)]
    lessons.features[..., np.isin(FEATURE_NAMES, STALE_IN_PLANS)] = 7.0
    after = [net.correct(lessons.features[:, 0]) for net in (for_plans, for_exact_state)]
    assert before[0].any()
    assert (before[0] == after[0]).all()
    assert (before[1] != after[1]).all()


def test_without_counterfactuals_only_what_was_done_teaches() -> None:
    tasks = made_up_tasks(100, offload_bias_s=-0.2)
    for task in tasks:
        task.offload_s[1:] += 5.0  # never done: all were offloaded at once
    options = TrainingOptions(steps=100, learning_rate=1e-2, is_counterfactual=False)
    (trained,) = train(lessons_of(tasks, MANIFEST), all_of(tasks), seed=0, options=options)
    _, offloading = lessons_of(tasks, MANIFEST).corrections_s(trained.net)
    assert offloading[:, 0].mean() == pytest.approx(-0.2, abs=0.05)
    assert offloading[:, 1:-1].max() < 0.5


def test_a_device_with_the_head_alone_learns_too() -> None:
    rng = np.random.default_rng(0)
    tasks = []
    for number in range(200):
        task = made_up_task(number, rng, epochs=4, finish_s=math.nan, offload_bias_s=-0.2)
        task.base_tensor[-1], task.offload_s[-1, 0] = 0.9, 0.7
        task.base_going_on[-1] = math.nan
        tasks.append(task)
    _, report = learn(tasks, HEAD_ONLY, seed=1, options=OPTIONS)
    assert report.candidate is not None
    _, offloading = lessons_of(tasks, HEAD_ONLY).corrections_s(report.candidate)
    assert offloading[:, -1].mean() == pytest.approx(-0.2, abs=0.07)


def test_training_that_diverges_is_named_and_changes_nothing() -> None:
    options = TrainingOptions(steps=30, learning_rate=1e30)
    tasks = made_up_tasks(50, offload_bias_s=-0.2)
    with pytest.raises(TrainingError, match="diverged"):
        train(lessons_of(tasks, MANIFEST), all_of(tasks), seed=0, options=options)


def test_without_anything_to_learn_from_training_says_so() -> None:
    lessons = lessons_of(made_up_tasks(20), MANIFEST)
    with pytest.raises(TrainingError, match="nothing to learn"):
        train(lessons, np.zeros((1, 20), dtype=bool), seed=0)


def test_training_stops_where_it_is_told_to() -> None:
    steps = []

    def between_steps() -> None:
        steps.append(len(steps))
        if len(steps) == 3:
            raise InterruptedError

    tasks = made_up_tasks(50)
    with pytest.raises(InterruptedError):
        train(lessons_of(tasks, MANIFEST), all_of(tasks), seed=0, between_steps=between_steps)
    assert len(steps) == 3
