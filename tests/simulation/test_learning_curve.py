"""Learning curves: the tasks needed at equal error, and who learns faster in a small scenario."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scenario import read_scenario
from benchmarks.simulator.learning_curve import CurveSizes, held_out_lessons, learning_curves, reached_at, tasks_needed
from benchmarks.simulator.teaching import Teaching
from twin_service.learning.promotion import brought_s, errors_of

HEAVY = read_scenario(Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios" / "heavy-tailed.yaml")
SIZES = (100, 400, 1600)


def test_tasks_needed_lie_between_sizes_on_a_logarithmic_scale() -> None:
    assert reached_at(SIZES, np.array([3.0, 1.0, 0.5]), 2.0) == pytest.approx(200.0)


def test_the_first_size_that_is_good_enough_counts_though_a_later_one_is_worse() -> None:
    assert reached_at(SIZES, np.array([3.0, 1.0, 2.5]), 1.0) == pytest.approx(400.0)


def test_what_is_good_enough_at_once_needs_no_more_than_the_least_size() -> None:
    assert reached_at(SIZES, np.array([3.0, 1.0, 0.5]), 4.0) == 100.0


def test_what_is_never_good_enough_needs_more_than_the_largest_size() -> None:
    assert math.isinf(reached_at(SIZES, np.array([3.0, 2.0, 1.5]), 1.0))
    errors = {
        "learned": np.array([[2.0, 1.0, 0.6]]),
        "learned-one-head": np.array([[2.0, 1.0, 0.6]]),
        "learned-factual": np.array([[9.0, 4.0, 1.5]]),
    }

    worse_than_nothing, as_nothing, *_ = tasks_needed(SIZES, errors, zero_error=1.0)

    assert as_nothing["error"] == 1.0
    assert as_nothing["needed"]["learned"]["tasks"] == pytest.approx(400.0)
    assert as_nothing["needed"]["learned-factual"] == {
        "tasks": None,
        "more_than_tasks": 1600,
        "factor": None,
        "factor_more_than": pytest.approx(4.0),
    }
    assert worse_than_nothing["error"] == pytest.approx(1.5)
    assert worse_than_nothing["needed"]["learned-factual"]["factor"] == pytest.approx(1600 / 200)


def test_where_learning_gains_nothing_no_tasks_are_compared() -> None:
    errors = {teaching.value: np.array([[2.0, 1.5, 1.2]]) for teaching in Teaching}
    assert tasks_needed(SIZES, errors, zero_error=1.0) == []


@pytest.mark.slow
def test_with_counterfactual_labels_less_is_needed() -> None:
    found = learning_curves(HEAVY, [1, 2], CurveSizes((100, 600), 400, steps=300), workers=1)

    assert found["held_out"]["tasks"] >= 390
    last = {name: points[-1] for name, points in found["curves"].items()}
    assert last["learned"]["tasks"] == 600
    assert last["learned"]["error"] < last["learned-factual"]["error"]
    assert last["learned"]["utility_over_open_loop_s"] > last["learned-factual"]["utility_over_open_loop_s"]
    assert len(last["learned"]["error_by_run"]) == 2
    first = found["curves"]["learned"][0]
    assert last["learned"]["error"] < first["error"]


@pytest.mark.slow
def test_nothing_learnt_is_judged_as_open_loop_whatever_the_net() -> None:
    held_out = held_out_lessons(HEAVY, 120)
    going_on, _ = brought_s(held_out, None, is_counterfactual=True)
    followed = held_out.followed_s(None)

    assert going_on[:, :-1] == pytest.approx(followed[:, 1:] - held_out.step_cost_s)
    assert errors_of(held_out, None, brought_s(held_out, None, is_counterfactual=True), 1.0).shape == (held_out.size,)
