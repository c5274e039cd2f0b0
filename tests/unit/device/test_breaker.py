"""The breaker opens after failures, half-opens, and closes by itself."""

from __future__ import annotations

import pytest

from device.breaker import BreakerSettings, BreakerState, CircuitBreaker

SETTINGS = BreakerSettings(failures_to_open=3, open_s=1.0, max_open_s=3.0)


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker(SETTINGS)


def opened(breaker: CircuitBreaker, now_s: float = 0.0) -> CircuitBreaker:
    for _ in range(3):
        breaker.attempted(now_s)
        breaker.failed(now_s)
    return breaker


def test_it_starts_closed_and_knows_nothing_of_the_edge(breaker):
    assert breaker.allows(0.0)
    assert not breaker.has_answered


def test_so_many_failures_in_a_row_open_it(breaker):
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert breaker.state(0.0) is BreakerState.OPEN
    assert not breaker.allows(0.0)
    assert breaker.openings == 1


def test_it_half_opens_for_one_trial(breaker):
    opened(breaker)
    assert not breaker.allows(0.99)
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    assert breaker.allows(1.0)
    breaker.attempted(1.0)
    assert not breaker.allows(1.0), "one trial at a time"


def test_a_trial_that_succeeds_closes_it(breaker):
    opened(breaker)
    breaker.attempted(1.0)
    breaker.succeeded()
    assert breaker.state(1.0) is BreakerState.CLOSED
    assert breaker.has_answered


def test_a_trial_that_fails_opens_it_for_longer_up_to_a_bound(breaker):
    opened(breaker)
    breaker.attempted(1.0)
    breaker.failed(1.5)
    assert breaker.state(3.4) is BreakerState.OPEN
    assert breaker.state(3.5) is BreakerState.HALF_OPEN
    breaker.attempted(3.5)
    breaker.failed(3.5)
    assert breaker.state(6.4) is BreakerState.OPEN, "3 s, not 4 s"
    assert breaker.state(6.5) is BreakerState.HALF_OPEN


def test_failures_of_offloads_sent_before_it_opened_do_not_prolong_it(breaker):
    opened(breaker)
    breaker.failed(0.9)
    assert breaker.state(1.0) is BreakerState.HALF_OPEN


def test_while_the_connection_is_down_it_stays_open(breaker):
    breaker.disconnected(0.0)
    assert breaker.state(100.0) is BreakerState.OPEN
    breaker.connected(100.0)
    assert breaker.state(100.0) is BreakerState.HALF_OPEN, "a new connection is tried at once"
    assert breaker.has_answered
    breaker.attempted(100.0)
    breaker.succeeded()
    assert breaker.state(100.0) is BreakerState.CLOSED


def test_a_first_connection_changes_nothing_but_that_the_edge_is_known_to_answer(breaker):
    breaker.connected(0.0)
    assert breaker.state(0.0) is BreakerState.CLOSED
    assert breaker.has_answered
    breaker.failed(0.0)
    assert not breaker.has_answered


def test_a_trial_lost_with_the_connection_frees_the_next(breaker):
    opened(breaker)
    breaker.attempted(1.0)
    breaker.disconnected(1.1)
    breaker.connected(2.0)
    assert breaker.allows(2.0)


def test_by_default_an_edge_that_answers_again_is_tried_soon_after_however_long_it_was_silent():
    breaker = opened(CircuitBreaker())
    now_s = 0.0
    for _ in range(50):
        while not breaker.allows(now_s):
            now_s += 0.1
        breaker.attempted(now_s)
        breaker.failed(now_s)
    assert not breaker.allows(now_s + 1.9)
    assert breaker.allows(now_s + 2.1)
