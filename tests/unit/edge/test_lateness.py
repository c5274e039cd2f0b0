from __future__ import annotations

import itertools
import random

import pytest

from edge.lateness import Lateness
from tests.unit.edge.test_tail_queue import make_queue, make_tail
from twinsplit.errors import DeadlineError


def noted(late_s: list[float], now_s: float = 0.0) -> Lateness:
    lateness = Lateness()
    for each in late_s:
        lateness.note(each, now_s)
    return lateness


def test_nothing_is_allowed_for_before_anything_was_seen_or_while_all_is_early() -> None:
    assert Lateness().allowance_s(5.0) == 0.0
    assert noted([-0.1] * 1000).allowance_s(0.0) == 0.0


def test_what_is_always_as_late_is_allowed_for_as_it_is() -> None:
    assert noted([0.02] * 1000).allowance_s(0.0) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("mean_s", [0.0, 0.01])
def test_ninety_eight_of_a_hundred_are_no_later_than_allowed_for(mean_s: float) -> None:
    draw = random.Random(3)
    lateness = Lateness()
    within = 0
    for count in range(5000):
        late_s = draw.gauss(mean_s, 0.005)
        within += count >= 1000 and late_s <= lateness.allowance_s(0.0)
        lateness.note(late_s, 0.0)
    assert 0.98 * 4000 < within < 4000


def test_what_is_early_makes_nothing_later() -> None:
    draw = random.Random(3)
    assert noted([draw.uniform(-1.0, 0.0) for _ in range(1000)]).allowance_s(0.0) == 0.0


def test_one_stall_counts_for_little_and_what_is_long_ago_for_less() -> None:
    lateness = noted([0.0] * 100 + [60.0])
    allowed_s = lateness.allowance_s(0.0)
    assert 0.0 < allowed_s < 0.02
    assert lateness.allowance_s(5.0) < 0.01 * allowed_s


def test_an_edge_that_was_late_and_refuses_nearly_everything_for_it_comes_back() -> None:
    lateness, now_s = noted([0.2] * 100), 0.0
    admitted_after_s: list[float] = []
    while now_s < 6.0:
        now_s += 0.0005
        if lateness.allowance_s(now_s) < 0.1:
            admitted_after_s.append(now_s)
            lateness.note(0.001, now_s)
    assert admitted_after_s[0] > 0.5, "not at once"
    gaps = itertools.pairwise(admitted_after_s)
    back_s = next(at_s for at_s, later_s in gaps if later_s - at_s < 0.01)
    assert back_s < 3.0
    assert len(admitted_after_s) > 5000


def test_few_that_are_late_are_allowed_for_as_many_are() -> None:
    draw = random.Random(3)
    lateness, now_s, within = Lateness(), 0.0, 0
    for count in range(2000):
        now_s += 0.05  # twenty a second
        late_s = draw.expovariate(100.0)
        within += count >= 100 and late_s <= lateness.allowance_s(now_s)
        lateness.note(late_s, now_s)
    assert within > 0.95 * 1900


def test_a_queue_whose_tails_end_late_promises_less_until_that_is_long_ago() -> None:
    queue = make_queue()
    now_s = 0.0
    queue.admit(make_tail(cut=1, deadline_s=now_s + 0.41), now_s)  # the tail after cut 1 takes 0.2 s
    queue.start_next(now_s)
    for _ in range(400):
        # Stopped tails teach nothing about speed, but were late all the same.
        now_s += 0.25
        queue.finish(now_s, None)
        queue.admit(make_tail(cut=1), now_s)
        queue.start_next(now_s)
    with pytest.raises(DeadlineError, match=r"410\.0 ms are left but the answer would take 4[45]\d\.\d ms"):
        queue.admit(make_tail(cut=1, deadline_s=now_s + 0.41), now_s)
    queue.admit(make_tail(cut=1, deadline_s=now_s + 0.47), now_s)
    queue.finish(now_s, None)
    later_s = now_s + 10.0
    queue.start_next(later_s)
    queue.admit(make_tail(cut=1, deadline_s=later_s + 0.41), later_s)
