"""Traces of a device's tasks on their way out; only imported where the device is told to trace."""

from __future__ import annotations

from device.task import Task
from device.task_trace import TaskTrace, task_spans
from twinsplit.clock import Clock
from twinsplit.model.manifest import Manifest
from twinsplit.tracing.context import SpanContext
from twinsplit.tracing.outlet import SpanOutlet
from twinsplit.types import TaskRecord


class TaskTracing:
    """Begins traces and hands out the spans of ended tasks. :meth:`begin` is for any thread, the rest for one."""

    def __init__(self, outlet: SpanOutlet, manifest: Manifest, clock: Clock) -> None:
        self.outlet = outlet
        self._manifest = manifest
        self._clock = clock

    def begin(self) -> TaskTrace:
        """The trace of a task that enters."""
        origin_unix_ns = self._clock.unix_ns() - round(self._clock.monotonic_s() * 1e9)
        return TaskTrace(origin_unix_ns, SpanContext.new())

    def ended(self, trace: TaskTrace, task: Task, record: TaskRecord, round_trip_s: float | None) -> None:
        """A task has its outcome."""
        self.outlet.put(task_spans(trace, task, record, self._manifest, round_trip_s=round_trip_s))
