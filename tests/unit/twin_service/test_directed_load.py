"""What was directed to an edge and does not show yet, and the mean backlog that it makes."""

from __future__ import annotations

from math import exp

import pytest

from twin_service.directed_load import DirectedLoad, mean_backlog_s
from twinsplit.reckoning import BACKLOG_MEAN_HORIZON_S as HORIZON_S


def test_what_was_directed_is_seen_as_time_goes_on():
    load = DirectedLoad()
    load.placed("cam", "a", 0.2, 100.0)
    assert load.unseen("a", 100.0) == pytest.approx(0.2)
    assert load.unseen("a", 100.0 + HORIZON_S) == pytest.approx(0.2 * exp(-1.0))
    load.placed("cam", "a", 0.2, 110.0)
    assert load.unseen("a", 110.0) == pytest.approx(0.2 * exp(-10.0 / HORIZON_S)), "it was there before"


def test_a_device_that_moves_is_missing_where_it_was():
    load = DirectedLoad()
    load.placed("cam", "a", 0.2, 0.0)
    load.placed("cam", "b", 0.3, 1000.0)
    assert load.unseen("a", 1000.0) == pytest.approx(-0.2)
    assert load.unseen("b", 1000.0) == pytest.approx(0.3)
    load.placed("cam", None, 0.0, 1000.0)
    assert load.unseen("b", 1000.0) == pytest.approx(0.0)


def test_a_better_estimate_counts_as_if_it_had_been_known_from_the_start():
    late, known = DirectedLoad(), DirectedLoad()
    late.placed("cam", "a", 1.0, 0.0)
    known.placed("cam", "a", 0.25, 0.0)
    late.offers("cam", 0.25, 7.0)
    late.offers("nobody", 0.25, 7.0)
    assert late.unseen("a", 9.0) == pytest.approx(known.unseen("a", 9.0))


def test_what_left_is_seen_to_be_missing_by_itself_and_an_edge_may_begin_anew():
    load = DirectedLoad()
    load.placed("cam", "a", 0.2, 0.0)
    load.gone("cam")
    load.placed("cam", "b", 0.2, 1.0)
    assert load.unseen("a", 1.0) > 0.0
    load.forget("a")
    assert load.unseen("a", 1.0) == 0.0


@pytest.mark.parametrize(("others_share", "devices_share"), [(0.0, 0.3), (0.4, 0.2), (0.3, 0.6)])
def test_the_mean_is_pollaczek_khinchines(others_share: float, devices_share: float):
    job_s, tail_s = 0.03, 0.01

    def waiting_s(*shares: tuple[float, float]) -> float:
        return sum(share * size_s / 2.0 for share, size_s in shares) / (1.0 - sum(share for share, _ in shares))

    alone_s, both_s = waiting_s((others_share, job_s)), waiting_s((others_share, job_s), (devices_share, tail_s))
    assert mean_backlog_s(alone_s, others_share, devices_share, tail_s) == pytest.approx(both_s)
    seen = others_share + devices_share
    assert mean_backlog_s(both_s, seen, -devices_share, tail_s) == pytest.approx(alone_s, abs=1e-12)


def test_more_is_worse_beyond_what_an_edge_can_do_too():
    means = [mean_backlog_s(0.05, 0.5, added / 10.0, 0.01) for added in range(40)]
    assert means == sorted(set(means))
    assert mean_backlog_s(0.05, 0.5, -3.0, 0.01) >= 0.0
