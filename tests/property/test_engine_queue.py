"""Whatever happens to back ends and tails, every tail that was taken leaves once, and nothing is left over."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engine.back_end_load import BackEndLoad, Flight
from edge.engine.queue import MOST_TRIES, EngineQueue
from edge.tail_queue import Tail
from twinsplit.errors import RefusedError

pytestmark = pytest.mark.slow
MODEL = "a" * 64
LIMIT = 2
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "answer", "fail", "die", "back", "cancel", "wait"]),
        st.integers(0, 5),
        st.floats(0.0, 0.4),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, back_ends=st.integers(1, 3))
def test_every_tail_that_was_taken_leaves_exactly_once(steps: list[tuple[str, int, float]], back_ends: int) -> None:
    loads: list[BackEndLoad[int]] = [BackEndLoad(place, LIMIT, 0.1) for place in range(back_ends)]
    queue = EngineQueue[int](4, {MODEL: (0.2, 0.1)}, loads, 0.0)
    now_s = 0.0
    for place in range(back_ends):
        queue.set_ready(place, True, now_s)
    taken: list[Tail[int]] = []
    left: Counter[int] = Counter()
    under_way: list[Flight[int]] = []
    sent: Counter[int] = Counter()

    def dispatch() -> None:
        found = queue.dispatch(now_s)
        for flight in found.flights:
            assert loads[flight.place].is_ready
            sent[flight.tail.work] += 1
        under_way.extend(found.flights)
        left.update(tail.work for tail in (*found.expired, *found.stranded))

    def move(flight: Flight[int]) -> None:
        under_way.remove(flight)
        if not queue.move(flight, now_s):
            left[flight.tail.work] += 1

    for kind, number, amount in steps:
        now_s += amount if kind == "wait" else 0.001
        if kind == "admit":
            deadline_s = now_s + 1.0 if number % 2 else None
            tail = Tail[int](MODEL, number % 2, number, len(taken), now_s, deadline_s)
            try:
                queue.admit(tail, now_s)
            except RefusedError:
                continue
            taken.append(tail)
        elif kind in ("answer", "fail") and under_way:
            flight = under_way[number % len(under_way)]
            if kind == "answer":
                under_way.remove(flight)
                queue.finished(flight, now_s)
                left[flight.tail.work] += 1
            else:
                move(flight)
        elif kind == "die":
            place = number % back_ends
            queue.set_ready(place, False, now_s)
            for flight in [each for each in under_way if each.place == place]:
                move(flight)
        elif kind == "back":
            queue.set_ready(number % back_ends, True, now_s)
        elif kind == "cancel" and taken:
            tail = taken[number % len(taken)]
            if tail.is_wanted and not left[tail.work]:
                if queue.cancel(tail, now_s):
                    left[tail.work] += 1
                else:
                    flight = next(each for each in under_way if each.tail is tail)
                    under_way.remove(flight)
                    queue.failed(flight, now_s)
                    left[tail.work] += 1
        dispatch()
        assert all(len(load.flights) <= LIMIT for load in loads)
        assert queue.queue_length == len(taken) - sum(left.values())
        assert queue.backlog_s(now_s) >= 0.0
    for flight in under_way:
        queue.finished(flight, now_s)
        left[flight.tail.work] += 1
    left.update(tail.work for tail in queue.drain(now_s))
    assert left == dict.fromkeys((tail.work for tail in taken), 1)
    assert max(sent.values(), default=0) <= MOST_TRIES
    assert queue.queue_length == 0
    assert not queue._tries
    assert not queue._expected_wait_s
