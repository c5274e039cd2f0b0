"""Batches in any order of events: every tail has one end, nobody is overtaken, nobody is late by a batch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.batching import BatchSettings
from edge.tail_queue import Tail, TailQueue
from twinsplit.errors import DeadlineError, EdgeFullError

MODEL = "a" * 64
TAIL_S = (0.5, 0.25, 0.125)
MOST = 4

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 2), st.one_of(st.none(), st.floats(0.05, 4.0))),
        st.tuples(st.just("serve"), st.just(0), st.floats(0.2, 1.5)),
        st.tuples(st.just("cancel"), st.integers(0, 40), st.none()),
    ),
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(EVENTS)
def test_every_tail_has_one_end_in_the_order_of_arrival(events: list[tuple[str, int, float | None]]) -> None:
    queue: TailQueue[int] = TailQueue(20, {MODEL: TAIL_S}, 0.0, BatchSettings(MOST, ((MODEL, 1),)))
    now_s = 0.0
    admitted: list[Tail[int]] = []
    started: list[int] = []
    left: list[int] = []

    def serve(relative: float) -> None:
        nonlocal now_s
        turn = queue.start_next(now_s)
        left.extend(tail.work for tail in turn.expired)
        if turn.tail is None:
            return
        batch = [turn.tail, *turn.others]
        assert len(batch) <= (MOST if turn.tail.cut >= 1 else 1)
        assert {tail.cut for tail in batch} == {turn.tail.cut}
        predicted_s = queue.backlog_s(now_s) - queue._waiting_s
        if len(batch) > 1:
            assert all(t.deadline_at_s is None or now_s + predicted_s <= t.deadline_at_s + 1e-9 for t in batch)
        started.extend(tail.work for tail in batch)
        service_s = (relative if len(batch) > 1 else 1.0) * sum(TAIL_S[tail.cut] for tail in batch)
        now_s += service_s
        queue.finish(now_s, service_s)

    for number, (kind, index, value) in enumerate(events):
        if kind == "admit":
            tail = Tail(MODEL, index, "o", number, now_s, None if value is None else now_s + value)
            try:
                queue.admit(tail, now_s)
                admitted.append(tail)
            except (EdgeFullError, DeadlineError):
                pass
        elif kind == "serve":
            serve(value or 1.0)
        elif index < len(admitted) and queue.cancel(admitted[index], now_s):
            left.append(admitted[index].work)
        assert queue.backlog_s(now_s) >= 0.0
        assert len(admitted) == len(started) + len(left) + queue.queue_length
    while queue.queue_length:
        serve(1.0)
    assert started == sorted(started)
    assert sorted(started + left) == [tail.work for tail in admitted]
    assert queue.backlog_s(now_s) == pytest.approx(0.0, abs=1e-9)
    assert queue.speed_factor == pytest.approx(1.0)
