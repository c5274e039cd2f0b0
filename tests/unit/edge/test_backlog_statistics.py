from __future__ import annotations

import math
import random

import pytest

from edge.backlog_statistics import ArrivedWork, BacklogStatistics
from twinsplit.reckoning import BacklogState, predicted_backlog_s


def test_arrived_work_leaves_each_window_after_its_length() -> None:
    arrived = ArrivedWork()
    arrived.add(0.1, 0.0)
    arrived.add(0.2, 0.5)
    assert arrived.within_horizons_s(0.6) == pytest.approx((0.2, 0.3, 0.3))
    assert arrived.within_horizons_s(1.2) == pytest.approx((0.0, 0.2, 0.3))
    assert arrived.within_horizons_s(4.2) == pytest.approx((0.0, 0.0, 0.2))
    assert arrived.within_horizons_s(9.0) == (0.0, 0.0, 0.0)


def test_nothing_known_yet_means_no_mean_and_drain_only() -> None:
    statistics = BacklogStatistics(0.0)
    assert statistics.mean_s == 0.0
    assert statistics.busy_share == 0.0
    state = BacklogState(0.5, 0.0, statistics.mean_s, statistics.time_constant_s)
    assert predicted_backlog_s(state, 0.3) == pytest.approx(0.2)


def test_a_constant_backlog_becomes_the_mean_within_seconds() -> None:
    statistics = BacklogStatistics(0.0)
    for step in range(1, 41):
        statistics.advance(step * 0.1, waiting_s=0.5, in_service_s=0.0, is_busy=True)
    assert statistics.mean_s == pytest.approx(0.5)


def test_the_mean_follows_the_draining_path_exactly() -> None:
    in_one_step, in_many = BacklogStatistics(0.0), BacklogStatistics(0.0)
    in_one_step.advance(2.0, waiting_s=0.0, in_service_s=1.0, is_busy=True)
    for step in range(1, 201):
        left_s = max(1.0 - (step - 1) * 0.01, 0.0)
        in_many.advance(step * 0.01, waiting_s=0.0, in_service_s=left_s, is_busy=True)
    assert in_one_step.mean_s == pytest.approx(in_many.mean_s, rel=0.02)
    assert in_one_step.mean_s == pytest.approx(0.25, rel=0.1)


def test_the_busy_share_approaches_the_share_of_time_in_service() -> None:
    statistics = BacklogStatistics(0.0)
    for step in range(400):
        statistics.advance(step * 0.1 + 0.03, waiting_s=0.0, in_service_s=0.0, is_busy=True)
        statistics.advance(step * 0.1 + 0.1, waiting_s=0.0, in_service_s=0.0, is_busy=False)
    assert statistics.busy_share == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("time_constant_s", [0.5, 2.0])
def test_the_time_constant_of_an_exponentially_reverting_backlog_is_found(time_constant_s: float) -> None:
    rng = random.Random(3)
    estimates = []
    statistics = BacklogStatistics(0.0)
    keep = math.exp(-0.25 / time_constant_s)
    value_s = 1.0
    for step in range(1, 4001):
        statistics.advance(step * 0.25, waiting_s=value_s, in_service_s=0.0, is_busy=True)
        value_s = max(1.0 + (value_s - 1.0) * keep + rng.gauss(0.0, 0.1) * math.sqrt(1 - keep * keep), 0.0)
        if step > 1000:
            estimates.append(statistics.time_constant_s)
    assert sum(estimates) / len(estimates) == pytest.approx(time_constant_s, rel=0.3)


def test_a_long_silence_is_forgotten_without_a_step_per_sample() -> None:
    statistics = BacklogStatistics(0.0)
    statistics.advance(1.0, waiting_s=1.0, in_service_s=0.0, is_busy=True)
    statistics.advance(1e7, waiting_s=0.0, in_service_s=0.0, is_busy=False)
    assert statistics.mean_s == pytest.approx(0.0, abs=1e-9)
    assert statistics.time_constant_s < 0.1


def test_a_clock_reading_of_the_past_changes_nothing() -> None:
    statistics = BacklogStatistics(0.0)
    statistics.advance(1.0, waiting_s=0.5, in_service_s=0.0, is_busy=True)
    before = statistics.mean_s
    statistics.advance(0.5, waiting_s=9.0, in_service_s=0.0, is_busy=True)
    assert statistics.mean_s == before
