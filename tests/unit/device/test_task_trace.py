"""Spans of tasks of every end, from the times that a device recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from device.task import AskTwin, Encode, Offload, RunExit, RunSegment, Task
from device.task_trace import StepTime, TaskTrace, task_spans
from tests.unit.device.made_up_device import EDGE, manifest_of
from twinsplit.tracing.context import SpanContext, parse_traceparent
from twinsplit.tracing.span import Span, SpanKind
from twinsplit.types import Outcome, Payload, Reason, Stages, TaskRecord

MANIFEST = manifest_of(segments=4, exits=(1, 2))
ORIGIN_NS = 1_700_000_000_000_000_000

STEPS = [
    StepTime(RunSegment, 0, 1.1, 1.2),
    StepTime(RunExit, 0, 1.2, 1.25),
    StepTime(Encode, 0, 1.25, 1.3),
]


def _offload() -> Offload:
    return Offload(Payload.TENSOR, 1, 1, EDGE, wire_bytes=12, sent_at_s=1.3)


def _record(**changes: Any) -> TaskRecord:
    record = TaskRecord(
        task_id=5,
        frame="frame",
        arrived_at_s=1.0,
        started_at_s=1.1,
        ended_at_s=1.6,
        outcome=Outcome.EDGE,
        reason=Reason.OFFLOAD_PAYS,
        stop_epoch=1,
        evidence=2,
        stages=Stages(queue=0.1, compute=0.15, encode=0.05, upload=0.1, edge_queue=0.05, edge_compute=0.15),
    )
    return replace(record, **changes)


def _spans(
    record: TaskRecord,
    steps: list[StepTime],
    *,
    arrival_s: float | None = 1.38,
    earlier: tuple[Offload, ...] = (),
    **task: Any,
) -> list[Span]:
    """Spans of a task, seen to be one tree in which no child leaves its parent."""
    trace = TaskTrace(ORIGIN_NS, SpanContext.new(), list(steps), arrival_s=arrival_s)
    for offload in (*earlier, *([task["offload"]] if "offload" in task else [])):
        assert parse_traceparent(trace.sent(offload)) == trace.sendings[-1].context
    spans = task_spans(trace, Task(5, "frame", 1.0, **task), record, MANIFEST, round_trip_s=0.02)
    by_context = {span.context: span for span in spans}
    assert len(by_context) == len(spans)
    assert [span.context for span in spans if span.parent is None] == [trace.root]
    for span in spans:
        assert span.start_unix_ns <= span.end_unix_ns
        if span.parent is not None:
            parent = by_context[span.parent]
            assert parent.start_unix_ns <= span.start_unix_ns
            assert span.end_unix_ns <= parent.end_unix_ns
    return spans


def _times(spans: list[Span]) -> list[tuple[str, float, float]]:
    return [
        (s.name, round((s.start_unix_ns - ORIGIN_NS) * 1e-9, 6), round((s.end_unix_ns - ORIGIN_NS) * 1e-9, 6))
        for s in spans
    ]


def test_an_offload_holds_the_ways_and_leaves_what_is_between_to_the_edge() -> None:
    spans = _spans(_record(), STEPS, offload=_offload())
    assert _times(spans) == [
        ("task", 1.0, 1.6),
        ("queue", 1.0, 1.1),
        ("segment 1", 1.1, 1.2),
        ("exit 1", 1.2, 1.25),
        ("encode", 1.25, 1.3),
        ("offload", 1.3, 1.6),
        ("upload", 1.3, 1.38),
        ("reply", 1.58, 1.6),
    ]
    offload = spans[5]
    assert offload.kind is SpanKind.CLIENT
    assert offload.attributes == {
        "twinsplit.payload": "tensor",
        "twinsplit.cut": 1,
        "twinsplit.representation": "uint8+zstd",
        "twinsplit.wire_bytes": 12,
        "server.address": "127.0.0.1",
        "server.port": 7001,
    }


def test_what_an_edge_without_traces_told_is_shown_half_a_round_trip_before_the_answer() -> None:
    times = _times(_spans(_record(), STEPS, arrival_s=None, offload=_offload()))
    assert times[6:] == [
        ("upload", 1.3, 1.39),
        ("edge queue", 1.39, 1.44),
        ("tail", 1.44, 1.59),
        ("reply", 1.59, 1.6),
    ]


@pytest.mark.parametrize("arrival_s", [0.2, 99.0])
def test_an_edge_that_tells_an_impossible_arrival_spoils_no_nesting(arrival_s: float) -> None:
    _spans(_record(), STEPS, arrival_s=arrival_s, offload=_offload())


def test_a_task_that_came_back_waits_twice_and_says_why() -> None:
    record = _record(outcome=Outcome.DEVICE, reason=Reason.EDGE_LOST, ended_at_s=1.9, stages=Stages(upload=0.2))
    steps = [*STEPS, StepTime(RunSegment, 1, 1.6, 1.7), StepTime(RunSegment, 2, 1.7, 1.8)]
    spans = _spans(record, steps, offload=_offload(), has_resumed=True, hindrance=Reason.EDGE_LOST)
    assert _times(spans)[-2:] == [("offload", 1.3, 1.5), ("queue", 1.5, 1.6)]
    assert (spans[-2].error, spans[0].error) == ("edge-lost", None)


def test_a_task_that_was_sent_on_shows_each_edge_that_it_went_to() -> None:
    second = replace(_offload(), sent_at_s=1.35, edge_address="[::1]:7002")
    record = _record(stages=replace(_record().stages, upload=0.1))
    spans = _spans(record, STEPS, arrival_s=1.4, earlier=(_offload(),), offload=second)
    assert _times(spans)[5:] == [
        ("offload", 1.3, 1.35),
        ("offload", 1.35, 1.6),
        ("upload", 1.35, 1.4),
        ("reply", 1.6, 1.6),
    ]
    assert (spans[5].error, spans[6].error) == ("sent-on", None)
    assert (spans[6].attributes["server.address"], spans[6].attributes["server.port"]) == ("::1", 7002)
    assert spans[7].parent == spans[6].context
    lost = _record(outcome=Outcome.DEVICE, reason=Reason.EDGE_LOST, ended_at_s=1.9, stages=Stages(upload=0.2))
    spans = _spans(lost, STEPS, earlier=(_offload(),), offload=second, has_resumed=True, hindrance=Reason.EDGE_LOST)
    assert _times(spans)[5:] == [("offload", 1.3, 1.35), ("offload", 1.35, 1.5), ("queue", 1.5, 1.9)]


def test_a_task_whose_offload_is_given_up_when_the_device_stops() -> None:
    record = _record(outcome=Outcome.FAILED, reason=Reason.SHUTDOWN, stages=Stages(queue=0.1))
    spans = _spans(record, STEPS, offload=_offload())
    assert _times(spans)[-1] == ("offload", 1.3, 1.6)
    assert {s.name for s in spans if s.error == "shutdown"} == {"task", "offload"}


def test_a_dropped_task_only_waited() -> None:
    record = _record(outcome=Outcome.DROPPED, reason=Reason.NEWER_FRAME, started_at_s=None, stop_epoch=None)
    spans = _spans(record, [])
    assert _times(spans) == [("task", 1.0, 1.6), ("queue", 1.0, 1.6)]
    assert spans[0].error == "newer-frame"
    assert "twinsplit.stop_epoch" not in spans[0].attributes


def test_the_step_that_failed_is_marked() -> None:
    record = _record(outcome=Outcome.FAILED, reason=Reason.COMPUTE_ERROR)
    spans = _spans(record, STEPS[:2])
    assert [(s.name, s.error) for s in spans if s.error] == [("task", "compute-error"), ("exit 1", "compute-error")]


def test_asking_the_twin_is_a_call() -> None:
    trace = TaskTrace(ORIGIN_NS, SpanContext.new())
    trace.step_done(AskTwin(Task(5, "frame", 1.0), 2, 0, 0), 1.1, 1.2)
    spans = _spans(_record(outcome=Outcome.DEVICE), trace.steps)
    assert (spans[-1].name, spans[-1].kind, spans[-1].attributes) == ("poll", SpanKind.CLIENT, {"twinsplit.epoch": 2})


def test_the_root_has_the_words_of_the_glossary() -> None:
    record = _record(payload=Payload.TENSOR, representation="uint8+zstd", plan_id=9, energy_joules=0.5, exit_index=None)
    assert _spans(record, STEPS, offload=_offload())[0].attributes == {
        "twinsplit.outcome": "edge",
        "twinsplit.reason": "offload-pays",
        "twinsplit.payload": "tensor",
        "twinsplit.task_id": 5,
        "twinsplit.stop_epoch": 1,
        "twinsplit.evidence": 2,
        "twinsplit.representation": "uint8+zstd",
        "twinsplit.wire_bytes": 0,
        "twinsplit.degraded": False,
        "twinsplit.energy_joules": 0.5,
        "twinsplit.plan_id": 9,
        "twinsplit.queue_length": 0,
    }
