from __future__ import annotations

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
