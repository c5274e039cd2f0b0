"""The W3C's trace context, by its own examples (Trace Context, section 3.2)."""

import pytest

from twinsplit.tracing.context import SpanContext, parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_traceparent_that_was_written_is_read() -> None:
    context = SpanContext.new()
    assert parse_traceparent(context.traceparent()) == context
    assert len(context.traceparent()) == 55


def test_the_examples_of_the_specification() -> None:
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-01") == SpanContext(int(TRACE, 16), int(PARENT, 16))
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-00") is None, "not sampled"


def test_a_later_version_is_read_by_what_it_has_in_common() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{PARENT}-01-what-the-future-holds") is not None
    assert parse_traceparent(f"cc-{TRACE}-{PARENT}-09") is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-a",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert parse_traceparent(text) is None


def test_siblings_are_of_one_trace() -> None:
    first = SpanContext.new()
    second = first.sibling()
    assert second.trace_id == first.trace_id
    assert second.span_id != first.span_id
