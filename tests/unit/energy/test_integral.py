"""Joules between instants, and where they are unknown."""

from __future__ import annotations

import math

import pytest

from twinsplit.energy import EnergyIntegral, MeterReading


def of_watts(*samples: tuple[float, float | None], max_gap_s: float = 1.5) -> EnergyIntegral:
    integral = EnergyIntegral(max_gap_s)
    for at_s, watts in samples:
        integral.add(at_s, MeterReading(watts=watts))
    return integral


def of_joules(*samples: tuple[float, float], max_gap_s: float = 1.5) -> EnergyIntegral:
    integral = EnergyIntegral(max_gap_s)
    for at_s, joules in samples:
        integral.add(at_s, MeterReading(joules=joules))
    return integral


def test_power_is_joined_by_straight_lines() -> None:
    integral = of_watts((0.0, 2.0), (1.0, 4.0), (2.0, 4.0))
    assert integral.joules_between(0.0, 1.0) == pytest.approx(3.0)
    assert integral.joules_between(0.0, 0.5) == pytest.approx(1.25)
    assert integral.joules_between(0.5, 1.5) == pytest.approx(1.75 + 2.0)
    assert integral.watts(2.0) == 4.0


def test_a_counter_grows_evenly_between_two_looks() -> None:
    integral = of_joules((0.0, 100.0), (1.0, 103.0), (2.0, 104.0))
    assert integral.joules_between(0.5, 1.5) == pytest.approx(1.5 + 0.5)
    assert integral.watts(2.0) == pytest.approx(1.0)


def test_where_both_are_told_the_counter_counts() -> None:
    integral = EnergyIntegral(1.5)
    integral.add(0.0, MeterReading(watts=50.0, joules=10.0))
    assert integral.add(1.0, MeterReading(watts=50.0, joules=13.0)).joules == pytest.approx(3.0)


def test_what_no_sample_covers_is_unknown() -> None:
    integral = of_watts((1.0, 2.0), (2.0, 2.0))
    assert integral.joules_between(0.5, 1.5) is None
    assert integral.joules_between(1.5, 2.5) is None
    assert integral.joules_between(1.8, 1.2) is None
    assert integral.joules_between(1.0, 1.0) == 0.0
    assert EnergyIntegral(1.0).joules_between(0.0, 0.0) is None


def test_a_gap_beyond_the_bound_makes_every_span_that_touches_it_unknown() -> None:
    integral = of_watts((0.0, 2.0), (1.0, 2.0), (4.0, 2.0), (5.0, 2.0))
    assert integral.joules_between(0.0, 1.0) == pytest.approx(2.0)
    assert integral.joules_between(4.0, 5.0) == pytest.approx(2.0)
    assert integral.joules_between(0.5, 1.1) is None
    assert integral.joules_between(0.0, 5.0) is None


def test_a_meter_that_fails_is_down_until_it_is_back_and_what_was_between_stays_unknown() -> None:
    integral = of_joules((0.0, 10.0), (0.5, 11.0))
    for at_s in (0.7, 0.9):
        assert integral.add(at_s, None) is None
    assert (integral.is_up(0.9), integral.losses, integral.watts(0.9)) == (False, 1, None)
    assert integral.add(1.0, MeterReading(joules=12.0)) is None
    assert integral.is_up(1.0)
    assert integral.watts(1.0) is None
    assert integral.add(1.5, MeterReading(joules=13.0)).joules == pytest.approx(1.0)
    assert integral.joules_between(0.0, 1.5) is None
    assert integral.joules_between(1.0, 1.5) == pytest.approx(1.0)


def test_a_meter_that_hangs_is_down_too() -> None:
    integral = of_watts((0.0, 2.0), (1.0, 2.0))
    assert integral.is_up(2.5)
    assert not integral.is_up(2.6)


@pytest.mark.parametrize(
    "reading",
    [
        MeterReading(),
        MeterReading(watts=0.0),
        MeterReading(watts=-1.0),
        MeterReading(watts=math.nan),
        MeterReading(watts=math.inf),
        MeterReading(joules=math.nan),
        MeterReading(joules=-5.0),
    ],
)
def test_what_cannot_be_is_unknown_and_never_zero(reading: MeterReading) -> None:
    integral = of_watts((0.0, 2.0), (1.0, 2.0))
    assert integral.add(1.5, reading) is None
    assert not integral.is_up(1.5)


def test_a_counter_that_was_reset_tells_nothing_of_the_time_between() -> None:
    integral = of_joules((0.0, 50.0), (1.0, 51.0), (2.0, 0.5), (3.0, 1.5))
    assert integral.joules_between(0.0, 2.0) is None
    assert integral.joules_between(2.0, 3.0) == pytest.approx(1.0)


def test_a_coarse_counter_has_news_only_when_it_steps() -> None:
    integral = of_joules((0.0, 10.0), (0.2, 10.0), (0.4, 10.0), (0.8, 12.0))
    assert integral.joules_between(0.0, 0.8) == pytest.approx(2.0)
    assert integral.newest_at_s == 0.8
    stuck = of_joules((0.0, 10.0), *((0.1 * k, 10.0) for k in range(1, 30)))
    assert not stuck.is_up(2.9)


def test_clocks_that_stand_still_or_go_back_add_nothing() -> None:
    integral = of_watts((0.0, 2.0), (1.0, 2.0))
    assert integral.add(1.0, MeterReading(watts=9.0)) is None
    assert integral.add(0.5, MeterReading(watts=9.0)) is None
    assert integral.joules_between(0.0, 1.0) == pytest.approx(2.0)


def test_memory_is_bounded_and_the_newest_samples_are_kept() -> None:
    integral = EnergyIntegral(1.5, kept_samples=100)
    for second in range(1000):
        integral.add(float(second), MeterReading(watts=3.0))
    assert integral.joules_between(960.0, 999.0) == pytest.approx(117.0)
    assert integral.joules_between(0.0, 999.0) is None
