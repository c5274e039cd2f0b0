from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_tasks import MANIFEST, made_up_tasks
from test_lessons import constant

from twin_service.learning.lessons import lessons_of
from twin_service.learning.options import GateOptions
from twin_service.learning.promotion import (
    FOLDS,
    Gain,
    LiveWatch,
    Scores,
    folds_of,
    gain_of,
    refused_because,
    scores_of,
    with_utility,
)

OPTIONS = GateOptions()
CLEAR, NOTHING, WORSE = Gain(0.01, 0.001), Gain(0.0, 0.001), Gain(-0.01, 0.001)
GOOD = Scores(500, 1.0, 2.0, 2.0, CLEAR, CLEAR, CLEAR, CLEAR)


def test_a_part_of_the_tasks_is_held_out_and_always_the_same() -> None:
    at_s = np.arange(0.0, 20_000.0, 0.7)
    folds = folds_of(at_s)
    assert np.bincount(folds).tolist() == pytest.approx([len(at_s) / FOLDS] * FOLDS, rel=0.15)
    assert np.array_equal(folds[5000:], folds_of(at_s[5000:]))


def test_tasks_of_one_moment_are_held_out_together() -> None:
    assert len(set(folds_of(np.linspace(100.0, 109.9, 30)).tolist())) == 1


def test_the_error_of_a_mean_grows_with_the_likeness_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    alone = rng.normal(0.0, 1.0, 3000)
    in_bursts = np.repeat(rng.normal(0.0, 1.0, 60), 50)
    assert gain_of(alone).error == pytest.approx(1.0 / np.sqrt(3000), rel=0.4)
    assert gain_of(in_bursts).error == pytest.approx(1.0 / np.sqrt(60), rel=0.4)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, tasks=5), "too-few-tasks"),
        (replace(GOOD, error_gain_over_zero=Gain(0.0019, 0.001)), "no-better-than-zero"),
        (replace(GOOD, error_gain_over_serving=NOTHING), "no-better-than-serving"),
        (replace(GOOD, utility_gain_over_zero=NOTHING), "brings-less-than-open-loop"),
        (replace(GOOD, utility_gain_over_zero=WORSE), "brings-less-than-open-loop"),
        (replace(GOOD, utility_gain_over_serving=NOTHING), None),
        (replace(GOOD, utility_gain_over_serving=WORSE), "brings-less-than-serving"),
        (replace(GOOD, utility_gain_over_serving=None, utility_gain_over_zero=None), None),
    ],
)
def test_weights_serve_only_if_nothing_speaks_against_them(scores, reason) -> None:
    assert refused_because(scores, OPTIONS) == reason


def test_the_net_that_knows_the_bias_predicts_better_than_none_and_than_one_that_overdoes_it() -> None:
    lessons = lessons_of(made_up_tasks(300, offload_bias_s=-0.2), MANIFEST)
    right, wrong = constant(0.0, -0.2), constant(0.0, -0.5)
    scores = scores_of(lessons, right, wrong, OPTIONS, is_counterfactual=True)
    assert scores.candidate_error < scores.zero_error < scores.serving_error
    assert scores.error_gain_over_zero.is_above(0.0, 2.0)
    assert scores.error_gain_over_serving.is_above(0.0, 2.0)
    assert scores.held_out_gain > 0.5


def test_following_the_net_that_knows_the_bias_brings_more_than_open_loop() -> None:
    lessons = lessons_of(made_up_tasks(300, offload_bias_s=-0.2), MANIFEST)
    right, wrong = constant(0.0, -0.2), constant(0.0, 0.5)
    scores = scores_of(lessons, right, wrong, OPTIONS, is_counterfactual=True)
    scores = with_utility(scores, lessons, lessons.followed_s(right)[:, 0], wrong)
    assert scores.utility_gain_over_zero is not None
    assert scores.utility_gain_over_zero.is_above(0.0, 2.0)
    assert scores.utility_gain_over_serving is not None
    assert scores.utility_gain_over_serving.is_above(0.0, 2.0)


def test_a_net_that_says_nothing_new_is_no_better_than_zero() -> None:
    lessons = lessons_of(made_up_tasks(300), MANIFEST)
    scores = scores_of(lessons, constant(0.0, 0.0), None, OPTIONS, is_counterfactual=True)
    assert refused_because(scores, OPTIONS) == "no-better-than-zero"


def test_without_counterfactuals_only_what_was_done_is_judged() -> None:
    lessons = lessons_of(made_up_tasks(300, offload_bias_s=-0.2), MANIFEST)
    lessons.offload_s[:, 1:] += 100.0  # never done there: these tasks were offloaded at once
    scores = scores_of(lessons, constant(0.0, -0.2), None, OPTIONS, is_counterfactual=False)
    assert scores.candidate_error < 0.01 < scores.zero_error < 0.1


def watch_after(before: list[float], after: list[float]) -> list[bool]:
    watch = LiveWatch(OPTIONS)
    assert not any(watch.ended(gain) for gain in before)
    watch.promoted()
    return [watch.ended(gain) for gain in after]


def test_weights_that_cost_more_than_open_loop_are_rolled_back() -> None:
    rng = np.random.default_rng(0)
    verdicts = watch_after(list(rng.normal(0.0, 0.01, 300)), list(rng.normal(-0.02, 0.03, 200)))
    assert not any(verdicts[: OPTIONS.least_watched_tasks - 1])
    assert any(verdicts)


def test_weights_that_bring_more_stay() -> None:
    rng = np.random.default_rng(1)
    assert not any(watch_after(list(rng.normal(0.0, 0.01, 300)), list(rng.normal(0.02, 0.03, 400))))


def test_after_a_roll_back_nothing_is_on_probation() -> None:
    watch = LiveWatch(OPTIONS)
    watch.promoted()
    assert watch.is_on
    watch.rolled_back()
    assert not watch.is_on
    assert not any(watch.ended(-1.0) for _ in range(200))
