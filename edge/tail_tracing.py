"""Traces of an edge's tails on their way out; only imported where the edge is told to trace."""

from __future__ import annotations

from edge.tail_trace import DeviceTime, TailTrace
from edge.tail_work import TailResult
from twinsplit.tracing.context import parse_traceparent
from twinsplit.tracing.outlet import SpanOutlet
from twinsplit.transport.tail_stream import InferRequest


class TailTracing:
    """Begins traces of tails whose device traces them, and hands out their spans. It lives in the event loop."""

    def __init__(self, outlet: SpanOutlet) -> None:
        self.outlet = outlet

    @staticmethod
    def device_time() -> DeviceTime:
        """Of a new stream."""
        return DeviceTime()

    def begin(self, request: InferRequest, times: DeviceTime, arrived_at_s: float, device_id: str) -> TailTrace | None:
        """The trace of a tail; ``None``: its device does not trace it.

        Args:
            times: of the stream that it came on.
            device_id: as which the device named itself; empty: it did not.
        """
        parent = parse_traceparent(request.traceparent)
        if parent is None or request.trace_clock is None:
            return None
        return TailTrace(
            parent.sibling(),
            parent,
            times.arrival_s(request.trace_clock, arrived_at_s),
            request.trace_clock.origin_unix_ns,
            {
                "twinsplit.task_id": request.request_id,
                "twinsplit.cut": request.cut,
                **({"twinsplit.device_id": device_id} if device_id else {}),
            },
        )

    def ended(self, trace: TailTrace, result: TailResult) -> None:
        """An admitted tail has ended."""
        self.outlet.put(trace.spans(result))

    def refused(self, trace: TailTrace, error: Exception) -> None:
        """A tail was not admitted."""
        self.outlet.put(trace.refused(error))
