import math
import random

import numpy as np
import pytest

from twin_service.break_points import (
    PlanBreakPoints,
    SortedIntervals,
    lost_s,
    neighbours_s,
    queue_shares,
    queue_shares_at_start,
    tolerated_s,
)
from twin_service.decision.regret import BacklogRegret
from twinsplit.plan import QUEUE_LEVELS

EDGES_S = (0.1, 0.3)
NO_QUEUE = queue_shares(0)


def points_of(slopes: tuple[float, float], going_on: float = 1.0) -> PlanBreakPoints:
    """The same break points at both epochs with any queue."""
    slope = np.broadcast_to(slopes, (2, QUEUE_LEVELS, 2))
    return PlanBreakPoints(EDGES_S, BacklogRegret(slope, np.full((2, QUEUE_LEVELS, 3), going_on)))


def test_on_the_same_side_of_every_break_point_nothing_is_lost() -> None:
    points = points_of((0.5, 0.2))
    assert (
        lost_s(points.at(1, NO_QUEUE), 0.15, 0.25)
        == lost_s(points.at(1, NO_QUEUE), 0.0, 0.09)
        == lost_s(points.at(1, NO_QUEUE), 0.7, 0.3)
        == 0.0
    )


def test_each_break_point_passed_costs_its_slope_times_the_way_beyond_it() -> None:
    points = points_of((0.5, 0.2))
    assert lost_s(points.at(1, NO_QUEUE), 0.0, 0.2) == pytest.approx(0.5 * 0.1)
    assert lost_s(points.at(1, NO_QUEUE), 0.0, 0.4) == pytest.approx(0.5 * 0.3 + 0.2 * 0.1)
    assert lost_s(points.at(1, NO_QUEUE), 0.4, 0.0) == pytest.approx(0.5 * 0.1 + 0.2 * 0.3)


def test_break_points_that_cost_nothing_do_not_count() -> None:
    points = points_of((0.0, 0.2))
    assert points.at(0, NO_QUEUE) == ((0.3, 0.2),)
    assert neighbours_s(points.at(0, NO_QUEUE), 0.05) == (-math.inf, 0.3)


def test_neighbours_hold_every_backlog_that_decides_alike() -> None:
    points = points_of((0.5, 0.2))
    assert neighbours_s(points.at(1, NO_QUEUE), 0.05) == (-math.inf, 0.1)
    assert neighbours_s(points.at(1, NO_QUEUE), 0.1) == (0.1, 0.3)
    assert neighbours_s(points.at(1, NO_QUEUE), 0.9) == (0.3, math.inf)


@pytest.mark.parametrize("held_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_what_is_tolerated_loses_just_as_much_as_may_be_lost(held_s: float) -> None:
    points = points_of((0.5, 0.2))
    low_s, high_s = tolerated_s(points.at(1, NO_QUEUE), held_s, 0.01)
    assert low_s < held_s < high_s
    for end_s in (low_s, high_s):
        if math.isfinite(end_s):
            assert lost_s(points.at(1, NO_QUEUE), held_s, end_s) == pytest.approx(0.01)
    assert math.isfinite(low_s) or math.isfinite(high_s)


def test_without_break_points_everything_is_tolerated() -> None:
    assert tolerated_s(points_of((0.0, 0.0)).at(0, NO_QUEUE), 0.2, 0.0) == (-math.inf, math.inf)


def test_every_likely_queue_length_counts_by_its_share() -> None:
    slope = np.zeros((1, QUEUE_LEVELS, 2))
    slope[0, 0, 0], slope[0, 1, 1] = 0.4, 0.8
    going_on = np.ones((1, QUEUE_LEVELS, 3))
    going_on[0, 1] = 0.5
    points = PlanBreakPoints(EDGES_S, BacklogRegret(slope, going_on))
    assert points.at(0, (0.75, 0.25, 0.0, 0.0)) == [(0.1, pytest.approx(0.3)), (0.3, pytest.approx(0.2))]
    assert points.share_going_on(0, (0.75, 0.25, 0.0, 0.0), 0.2) == pytest.approx(0.875)


def test_queues_that_nobody_adds_to_stay_as_they_are_and_long_ones_are_alike() -> None:
    assert queue_shares(1) == (0.0, 1.0, 0.0, 0.0)
    assert queue_shares(3) == queue_shares(9) == (0.0, 0.0, 0.0, 1.0)


def test_arrivals_are_poisson() -> None:
    none, one, two, more = queue_shares(0, 0.5)
    assert (none, one, two) == pytest.approx((math.exp(-0.5), 0.5 * math.exp(-0.5), 0.125 * math.exp(-0.5)))
    assert none + one + two + more == pytest.approx(1.0)
    assert queue_shares(1, 0.5) == pytest.approx((0.0, none, one, two + more))


def test_who_starts_waits_no_longer() -> None:
    assert queue_shares_at_start(2, 0.5) == queue_shares(1, 0.5)
    first = queue_shares_at_start(0, 0.5)
    some = 1.0 - math.exp(-0.5)
    assert first[:2] == pytest.approx((0.5 * math.exp(-0.5) / some, 0.125 * math.exp(-0.5) / some))
    assert first[2] == pytest.approx(0.5**3 / 6.0 * math.exp(-0.5) / some)
    assert sum(first) == pytest.approx(1.0)
    assert queue_shares_at_start(0, 20.0)[-1] == pytest.approx(1.0, abs=1e-5)
    assert queue_shares_at_start(0, 0.0) == queue_shares(0)


def test_the_share_that_goes_on_is_that_of_the_band() -> None:
    going_on = np.broadcast_to((0.0, 0.4, 1.0), (1, QUEUE_LEVELS, 3))
    points = PlanBreakPoints(EDGES_S, BacklogRegret(np.zeros((1, QUEUE_LEVELS, 2)), going_on))
    assert [points.share_going_on(0, NO_QUEUE, backlog_s) for backlog_s in (0.05, 0.1, 0.9)] == [0.0, 0.4, 1.0]


def test_a_value_finds_just_the_intervals_that_do_not_hold_it() -> None:
    rng = random.Random(1)
    intervals = SortedIntervals()
    truth: dict[str, tuple[float, float]] = {}
    for _ in range(2000):
        device_id = f"d{rng.randrange(60)}"
        if rng.random() < 0.2:
            intervals.discard(device_id)
            truth.pop(device_id, None)
        else:
            low = -math.inf if rng.random() < 0.2 else rng.randrange(10) / 10
            high = math.inf if rng.random() < 0.2 else rng.randrange(10) / 10 + 1e-9
            intervals.put(device_id, low, high)
            truth[device_id] = (low, high)
        value = rng.randrange(10) / 10
        outside = sorted(d for d, (low, high) in truth.items() if not low <= value < high)
        assert sorted(set(intervals.left_by(value))) == outside
    assert len(intervals) == len([1 for low, high in truth.values() if (low, high) != (-math.inf, math.inf)])
