"""An edge's spans lie on the device's time line, between sending and answer, whatever the two clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tail_queue import TailEnd
from edge.tail_trace import DeviceTime, TailTrace
from edge.tail_work import TailResult
from twinsplit.errors import DeadlineError
from twinsplit.reckoning import BacklogState
from twinsplit.tensor import EncodedTensor, TensorHeader
from twinsplit.tracing.context import SpanContext
from twinsplit.tracing.span import SpanKind
from twinsplit.transport.tail_stream import TraceClock

ORIGIN_NS = 1_700_000_000_000_000_000
OUTPUT = EncodedTensor(TensorHeader((1, 2), "float32", "float32", "none", 0.0, 0), bytes(8))
BACKLOG = BacklogState(0.0, 0.0)

WAYS_S = st.floats(0.0, 0.5)


@given(
    offset_s=st.floats(-1e5, 1e5),
    tasks=st.lists(st.tuples(WAYS_S, WAYS_S, WAYS_S), min_size=1, max_size=40),
)
def test_no_span_begins_before_its_payload_was_sent_nor_ends_after_its_answer_was_in(
    offset_s: float, tasks: list[tuple[float, float, float]]
) -> None:
    """``offset_s``: the edge's clock less the device's; neither way has to be as long as the other."""
    times = DeviceTime()
    sent_s = 10.0
    for upload_s, edge_s, reply_s in tasks:
        arrived_s = sent_s + upload_s
        answered_s = arrived_s + edge_s + reply_s
        clock = TraceClock(sent_s, ORIGIN_NS)
        shown_s = times.arrival_s(clock, arrived_s + offset_s)
        assert sent_s <= shown_s + 1e-9
        assert shown_s + edge_s <= answered_s + 1e-9
        sent_s += 0.7


def test_the_time_between_arrivals_is_kept_and_the_soonest_came_at_once() -> None:
    times = DeviceTime()
    assert times.arrival_s(TraceClock(1.0, ORIGIN_NS), 501.02) == pytest.approx(1.0)
    assert times.arrival_s(TraceClock(2.0, ORIGIN_NS), 502.07) == pytest.approx(2.05)
    assert times.arrival_s(TraceClock(3.0, ORIGIN_NS), 503.00) == pytest.approx(3.0)
    assert times.arrival_s(TraceClock(4.0, ORIGIN_NS), 504.02) == pytest.approx(4.02)


def test_old_arrivals_are_forgotten_since_clocks_part() -> None:
    times = DeviceTime()
    times.arrival_s(TraceClock(1.0, ORIGIN_NS), 100.0)
    for number in range(2, 30):
        shown_s = times.arrival_s(TraceClock(float(number), ORIGIN_NS), 100.5 + number)
    assert shown_s == pytest.approx(29.0)


def _trace() -> TailTrace:
    parent = SpanContext(7, 8)
    return TailTrace(parent.sibling(), parent, 2.0, ORIGIN_NS, {"twinsplit.cut": 1})


def test_a_finished_tail_shows_its_waiting_and_its_service() -> None:
    trace = _trace()
    own, queue, tail = trace.spans(TailResult(TailEnd.FINISHED, OUTPUT, None, 0.25, 0.5, BACKLOG))
    assert (own.name, own.kind, own.parent, own.is_parent_remote) == ("edge", SpanKind.SERVER, trace.parent, True)
    assert (own.start_unix_ns - ORIGIN_NS, own.end_unix_ns - ORIGIN_NS) == (2_000_000_000, 2_750_000_000)
    assert (queue.name, queue.start_unix_ns, queue.end_unix_ns) == ("edge queue", own.start_unix_ns, tail.start_unix_ns)
    assert (tail.name, tail.end_unix_ns) == ("tail", own.end_unix_ns)
    assert {queue.parent, tail.parent} == {own.context}
    assert {span.error for span in (own, queue, tail)} == {None}


@pytest.mark.parametrize(
    ("result", "error", "names"),
    [
        (
            TailResult(TailEnd.EXPIRED, None, DeadlineError("late"), 0.5, 0.0, BACKLOG),
            "DEADLINE",
            ["edge", "edge queue"],
        ),
        (TailResult(TailEnd.CANCELLED, None, None, 0.5, 0.1, BACKLOG), "cancelled", ["edge", "edge queue", "tail"]),
        (
            TailResult(TailEnd.FAILED, None, ValueError("secret"), 0.0, 0.1, BACKLOG),
            "INTERNAL",
            ["edge", "edge queue", "tail"],
        ),
    ],
)
def test_a_tail_without_an_answer_says_why_by_name(result: TailResult, error: str, names: list[str]) -> None:
    spans = _trace().spans(result)
    assert [span.name for span in spans] == names
    assert spans[0].error == error


def test_a_refusal_takes_no_time() -> None:
    (own,) = _trace().refused(DeadlineError("no"))
    assert own.start_unix_ns == own.end_unix_ns
    assert own.error == "DEADLINE"
