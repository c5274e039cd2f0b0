"""The trace of one task: what the compute thread did when, and the spans that follow from it when the task has ended.

The root span is the task, from generation to outcome. Its children are the waiting, every step of the compute thread
and the offload; the edge hangs its own spans under the offload. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from device.task import AskTwin, Encode, Offload, RunExit, RunSegment, Step, Task
from twinsplit.model.manifest import Manifest
from twinsplit.tracing.context import SpanContext
from twinsplit.tracing.span import AttributeValue, Span, SpanKind
from twinsplit.types import Outcome, Reason, TaskRecord

SENT_ON = "sent-on"
"""Why an offload failed whose payload then went to another edge."""
_PREFIX = "twinsplit."
_RECORDED = (
    *("task_id", "stop_epoch", "evidence", "exit_index", "representation", "wire_bytes", "degraded", "energy_joules"),
    *("energy_source", "plan_id", "queue_length"),
)
"""Fields of the record that the root span has as attributes; of outcome, reason and payload it has the words."""


class StepTime(NamedTuple):
    """One step of the compute thread, on the device's monotonic clock."""

    step: type[Step]
    number: int
    """Index of the segment or exit; the decision epoch of a question to the twin; 0 for an encoding."""
    began_s: float
    ended_s: float


class Sending(NamedTuple):
    """One way of a payload to an edge."""

    context: SpanContext
    """Of its span, under which the edge hangs its own."""
    offload: Offload


@dataclass(slots=True)
class TaskTrace:
    """What a traced task carries besides its state."""

    origin_unix_ns: int
    """Unix time at 0 of the device's monotonic clock, the same for all spans of a task."""
    root: SpanContext
    steps: list[StepTime] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)
    """In their order; more than one: the task was sent on to another edge."""
    arrival_s: float | None = None
    """Arrival of the payload as the edge's own spans show it; ``None``: the edge makes none."""

    def step_done(self, step: Step, began_s: float, ended_s: float) -> None:
        """The compute thread has carried out ``step``, or failed to."""
        number = (
            step.index if isinstance(step, RunSegment | RunExit) else step.epoch if isinstance(step, AskTwin) else 0
        )
        self.steps.append(StepTime(type(step), number, began_s, ended_s))

    def sent(self, offload: Offload) -> str:
        """A payload goes to an edge: the traceparent that goes with it."""
        sending = Sending(self.root.sibling(), offload)
        self.sendings.append(sending)
        return sending.context.traceparent()

    def unix_ns(self, instant_s: float) -> int:
        """Unix time of an instant on the device's monotonic clock."""
        return self.origin_unix_ns + round(instant_s * 1e9)


def task_spans(
    trace: TaskTrace, task: Task, record: TaskRecord, manifest: Manifest, *, round_trip_s: float | None
) -> list[Span]:
    """All spans of an ended task.

    Args:
        round_trip_s: to the edge and back without payload, as tracked; ``None``: unknown.
    """
    return list(_Spans(trace, task, record, manifest, round_trip_s or 0.0))


class _Spans:
    def __init__(
        self, trace: TaskTrace, task: Task, record: TaskRecord, manifest: Manifest, round_trip_s: float
    ) -> None:
        self._trace = trace
        self._task = task
        self._record = record
        self._manifest = manifest
        self._round_trip_s = round_trip_s

    def __iter__(self) -> Iterator[Span]:
        record, is_lost = self._record, not self._record.outcome.is_answered
        yield self._span(
            "task",
            record.arrived_at_s,
            record.ended_at_s,
            self._root_attributes(),
            context=self._trace.root,
            error=record.reason.value if is_lost else None,
        )
        served_s = record.ended_at_s if record.started_at_s is None else record.started_at_s
        yield self._span("queue", record.arrived_at_s, served_s)
        steps = self._trace.steps
        has_failed = record.outcome is Outcome.FAILED and record.reason is Reason.COMPUTE_ERROR
        for step in steps:
            yield self._step(step, error=record.reason.value if has_failed and step is steps[-1] else None)
        yield from self._sendings()

    def _root_attributes(self) -> dict[str, AttributeValue]:
        record = self._record
        words = {"outcome": record.outcome.value, "reason": record.reason.value}
        if record.payload is not None:
            words["payload"] = record.payload.value
        numbers = {name: value for name in _RECORDED if (value := getattr(record, name)) is not None}
        return {_PREFIX + name: value for name, value in (words | numbers).items()}

    def _step(self, step: StepTime, error: str | None) -> Span:
        if step.step is RunSegment:
            # Segments are counted from 1 in words, by index in numbers (glossary).
            return self._span(
                f"segment {step.number + 1}", *step[2:], {f"{_PREFIX}segment_index": step.number}, error=error
            )
        if step.step is RunExit:
            place = self._manifest.exits[step.number].after_segment
            return self._span(f"exit {place}", *step[2:], {f"{_PREFIX}exit_index": step.number}, error=error)
        if step.step is Encode:
            attributes = {} if self._task.offload is None else self._payload_attributes(self._task.offload)
            return self._span("encode", *step[2:], attributes, error=error)
        return self._span("poll", *step[2:], {f"{_PREFIX}epoch": step.number}, kind=SpanKind.CLIENT, error=error)

    def _payload_attributes(self, offload: Offload) -> dict[str, AttributeValue]:
        entry = self._manifest.cuts[offload.cut].representations[offload.representation_index]
        return {
            f"{_PREFIX}payload": offload.payload.value,
            f"{_PREFIX}cut": offload.cut,
            f"{_PREFIX}representation": entry.name,
            f"{_PREFIX}wire_bytes": offload.wire_bytes,
        }

    def _sendings(self) -> Iterator[Span]:
        """Every offload with what is in it; then, if the last one failed, the second waiting."""
        task, record, stages, sendings = self._task, self._record, self._record.stages, self._trace.sendings
        if not sendings:
            return
        for sending, following in pairwise(sendings):
            yield self._offload(sending, following.offload.sent_at_s, SENT_ON)
        first_s, last = sendings[0].offload.sent_at_s, sendings[-1]
        is_answered = stages.edge_compute is not None
        # The upload's time is that of all sendings; one that was under way when the device stopped has none.
        ended_s = record.ended_at_s if is_answered or stages.upload is None else first_s + stages.upload
        yield self._offload(last, ended_s, None if is_answered else (task.hindrance or record.reason).value)
        if stages.edge_queue is not None and stages.edge_compute is not None:
            yield from self._way(last.context, last.offload.sent_at_s, ended_s, stages.edge_queue, stages.edge_compute)
        elif task.has_resumed:
            served_s = next((step.began_s for step in self._trace.steps if step.began_s >= ended_s), record.ended_at_s)
            yield self._span("queue", ended_s, served_s)

    def _offload(self, sending: Sending, ended_s: float, error: str | None) -> Span:
        offload = sending.offload
        address, _, port = offload.edge_address.rpartition(":")
        attributes = self._payload_attributes(offload)
        return self._span(
            "offload",
            offload.sent_at_s,
            ended_s,
            attributes | {"server.address": address.strip("[]"), "server.port": int(port)},
            context=sending.context,
            kind=SpanKind.CLIENT,
            error=error,
        )

    def _way(
        self, offload: SpanContext, sent_s: float, answered_s: float, queue_s: float, service_s: float
    ) -> Iterator[Span]:
        """There and back. Between the two lie the edge's own spans; where it makes none, what it told is shown."""
        arrival_s = self._trace.arrival_s
        is_edge_traced = arrival_s is not None
        if arrival_s is None:
            # The answer is small: its way takes half of a round trip.
            arrival_s = answered_s - service_s - queue_s - 0.5 * self._round_trip_s
        latest_s = answered_s - service_s - queue_s
        arrival_s = max(min(arrival_s, latest_s), sent_s)
        yield self._span("upload", sent_s, arrival_s, parent=offload)
        if not is_edge_traced:
            yield self._span("edge queue", arrival_s, arrival_s + queue_s, parent=offload)
            yield self._span("tail", arrival_s + queue_s, arrival_s + queue_s + service_s, parent=offload)
        yield self._span("reply", min(arrival_s + queue_s + service_s, answered_s), answered_s, parent=offload)

    def _span(
        self,
        name: str,
        began_s: float,
        ended_s: float,
        attributes: dict[str, AttributeValue] | None = None,
        *,
        context: SpanContext | None = None,
        parent: SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        error: str | None = None,
    ) -> Span:
        """A span under ``parent``, by default under the root."""
        trace = self._trace
        return Span(
            name,
            context or trace.root.sibling(),
            None if context is trace.root else parent or trace.root,
            trace.unix_ns(began_s),
            max(trace.unix_ns(ended_s), trace.unix_ns(began_s)),
            attributes or {},
            kind,
            error=error,
        )
