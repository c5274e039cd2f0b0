"""The energy integral is exact for power that changes evenly, adds up, and is unknown where there is a gap."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinsplit.energy import EnergyIntegral, MeterReading

MAX_GAP_S = 1.0
steps = st.lists(st.tuples(st.floats(0.01, 2.0), st.one_of(st.none(), st.floats(0.1, 50.0))), min_size=2, max_size=30)
shares = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))


def knots_of(taken: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """(Instant, watts; ``None``: the meter failed)."""
    at_s, knots = 5.0, []
    for seconds, watts in taken:
        at_s += seconds
        knots.append((at_s, watts))
    return knots


def told_watts(knots: list[tuple[float, float | None]]) -> EnergyIntegral:
    integral = EnergyIntegral(MAX_GAP_S)
    for at_s, watts in knots:
        integral.add(at_s, None if watts is None else MeterReading(watts=watts))
    return integral


def expected(knots: list[tuple[float, float | None]], start_s: float, end_s: float) -> float | None:
    """By definition: area under the straight lines between neighbouring samples, each of which must be known."""
    known = [at_s for at_s, watts in knots if watts is not None]
    if not known or start_s < known[0] or end_s > known[-1]:
        return None
    joules = 0.0
    for (left_s, left), (right_s, right) in pairwise(knots):
        begin_s, finish_s = max(left_s, start_s), min(right_s, end_s)
        if begin_s >= finish_s:
            continue
        if left is None or right is None or right_s - left_s > MAX_GAP_S:
            return None
        slope = (right - left) / (right_s - left_s)
        middle = left + slope * (0.5 * (begin_s + finish_s) - left_s)
        joules += middle * (finish_s - begin_s)
    return joules


@given(steps, shares)
def test_it_is_the_area_under_the_samples_or_unknown(taken, three) -> None:
    knots = knots_of(taken)
    integral = told_watts(knots)
    first_s, last_s = knots[0][0], knots[-1][0]
    start_s, end_s = sorted(first_s + share * (last_s - first_s) for share in three[:2])
    # Where a span ends on a sample to the last bit, rounding decides on which side of a gap it is.
    assume(all(min(abs(at_s - start_s), abs(at_s - end_s)) > 1e-9 for at_s, _ in knots))
    assume(end_s - start_s > 1e-9)
    found, area = integral.joules_between(start_s, end_s), expected(knots, start_s, end_s)
    assert (found is None) == (area is None)
    if found is not None and area is not None:
        assert found == pytest.approx(area, rel=1e-6, abs=1e-9)


@given(steps, shares)
def test_parts_add_up_and_more_time_never_takes_less(taken, three) -> None:
    knots = knots_of([(min(seconds, MAX_GAP_S), watts or 1.0) for seconds, watts in taken])
    integral = told_watts(knots)
    first_s, last_s = knots[0][0], knots[-1][0]
    a, b, c = sorted(min(first_s + share * (last_s - first_s), last_s) for share in three)
    left, right, whole = integral.joules_between(a, b), integral.joules_between(b, c), integral.joules_between(a, c)
    assume(left is not None and right is not None and whole is not None)
    assert left + right == pytest.approx(whole, rel=1e-6, abs=1e-9)
    assert whole >= max(left, right) - 1e-9


@given(st.lists(st.tuples(st.floats(0.01, 0.9), st.floats(0.001, 50.0)), min_size=1, max_size=30))
def test_a_counter_and_its_mean_power_tell_the_same_between_samples(taken) -> None:
    counter = EnergyIntegral(MAX_GAP_S)
    at_s, joules = 0.0, 100.0
    counter.add(at_s, MeterReading(joules=joules))
    for seconds, grown in taken:
        at_s, joules = at_s + seconds, joules + grown
        counter.add(at_s, MeterReading(joules=joules))
    assert counter.joules_between(0.0, at_s) == pytest.approx(joules - 100.0, rel=1e-6)
