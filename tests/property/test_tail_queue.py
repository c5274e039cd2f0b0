"""The queue against a naive one, for any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backlog_reporting import BacklogReporter, Due, ReportPolicy
from edge.tail_queue import Tail, TailQueue
from twinsplit.errors import DeadlineError, EdgeFullError
from twinsplit.reckoning import BacklogState

MODEL = "a" * 64
TAIL_S = (0.5, 0.25, 0.125)
CAPACITY = 3

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 2), st.one_of(st.none(), st.floats(0.05, 2.0))),
        st.tuples(st.just("advance"), st.just(0), st.floats(0.0, 1.0)),
        st.tuples(st.just("serve"), st.just(0), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 5), st.none()),
        st.tuples(st.just("leave"), st.integers(0, 2), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_tail_has_one_end_in_order_and_the_backlog_is_the_work_that_is_left(
    events: list[tuple[str, int, float | None]],
) -> None:
    queue: TailQueue[int] = TailQueue(CAPACITY, {MODEL: TAIL_S}, 0.0)
    now_s = 0.0
    number = 0
    waiting: list[Tail[int]] = []
    admitted: list[Tail[int]] = []
    ended: list[Tail[int]] = []
    started: list[int] = []
    refused = 0
    for kind, index, value in events:
        running = queue.in_service
        if kind == "admit":
            deadline_s = None if value is None else now_s + value
            tail = Tail(MODEL, index, number % 3, number, now_s, deadline_s)
            number += 1
            try:
                queue.admit(tail, now_s)
                admitted.append(tail)
                waiting.append(tail)
            except (EdgeFullError, DeadlineError):
                refused += 1
        elif kind == "advance":
            now_s += value or 0.0
        elif kind == "serve":
            if running is not None:
                queue.finish(now_s, None)
                ended.append(running)
            turn = queue.start_next(now_s)
            ended.extend(turn.expired)
            for tail in turn.expired:
                waiting.remove(tail)
            if turn.tail is not None:
                waiting.remove(turn.tail)
                started.append(turn.tail.work)
            else:
                assert not waiting, "work-conserving: nothing may wait while nothing is served"
        elif kind == "cancel" and admitted:
            tail = admitted[index % len(admitted)]
            if queue.cancel(tail, now_s):
                waiting.remove(tail)
                ended.append(tail)
        elif kind == "leave":
            for tail in queue.cancel_owner(index, now_s):
                waiting.remove(tail)
                ended.append(tail)
        running = queue.in_service
        left_s = 0.0
        if running is not None and running.is_wanted:
            left_s = max((running.started_at_s or 0.0) + TAIL_S[running.cut] - now_s, 0.0)
        assert queue.backlog_s(now_s) == pytest.approx(sum(TAIL_S[tail.cut] for tail in waiting) + left_s)
        assert queue.queue_length == len(waiting) + (running is not None)
        assert queue.queue_length <= CAPACITY + 1
    assert started == sorted(started)
    assert len({id(tail) for tail in ended}) == len(ended)
    assert len(ended) + queue.queue_length + refused == number


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.001, 0.5)), max_size=40), st.floats(0.0, 5.0))
def test_arrived_work_is_what_arrived_within_each_window(arrivals: list[tuple[float, float]], wait_s: float) -> None:
    queue: TailQueue[int] = TailQueue(100, {MODEL: (1.0,)}, 0.0)
    now_s = 0.0
    instants_s = []
    for gap_s, _ in arrivals:
        now_s += gap_s
        queue.admit(Tail(MODEL, 0, 0, 0, now_s), now_s)
        instants_s.append(now_s)
    now_s += wait_s
    found = queue.reading(now_s).arrived_work_s
    for horizon_s, work_s in zip((0.25, 1.0, 4.0), found, strict=True):
        assert work_s == pytest.approx(sum(1.0 for instant_s in instants_s if instant_s > now_s - horizon_s))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0.0, 0.5)), min_size=1, max_size=40),
    st.floats(0.01, 0.2),
    st.floats(0.0, 2.0),
    st.floats(0.0, 1.0),
    st.floats(0.1, 5.0),
)
def test_the_mirror_is_never_wrong_for_longer_than_the_policy_allows(
    arrivals: list[tuple[float, float]], threshold_s: float, patience_s: float, mean_s: float, time_constant_s: float
) -> None:
    def state(backlog_s: float, now_s: float) -> BacklogState:
        return BacklogState(backlog_s, now_s, mean_s, time_constant_s)

    reporter = BacklogReporter(ReportPolicy(threshold_s, patience_s), 5.0, state(0.0, 0.0))
    now_s, backlog_s, area = 0.0, 0.0, 0.0
    last_deviation_s = 0.0
    for gap_s, work_s in arrivals:
        event_at_s = now_s + gap_s
        while now_s < event_at_s:
            next_s = min(reporter.next_look_at_s(now_s), event_at_s)
            backlog_s = max(backlog_s - (next_s - now_s), 0.0)
            area += last_deviation_s * (next_s - now_s)
            now_s = next_s
            if now_s >= event_at_s:
                backlog_s += work_s
            last_deviation_s = abs(backlog_s - reporter.believed_s(now_s))
            if reporter.look(backlog_s, now_s) is not Due.NOTHING:
                reporter.sent(state(backlog_s, now_s), now_s)
                area = last_deviation_s = 0.0
        if last_deviation_s > threshold_s:
            # One look's worth of slack: between looks the deviation grows at a bounded rate.
            assert area <= threshold_s * patience_s + 0.5 * last_deviation_s
