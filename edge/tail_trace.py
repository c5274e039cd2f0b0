"""The edge's part of a task's trace: the tail's waiting and service, told on the device's time line. Sans-IO.

Two machines' clocks differ, and a span that ends before its parent begins explains nothing. So the edge's spans are put
where the device's clock has them: its durations are its own, and what they are counted from is the arrival of the
payload. A payload cannot arrive before the device has handed it to the network; of the newest payloads, the one that
came soonest after that is taken to have come at once. Then no span begins before its payload was sent, nor ends
after its answer was in, while the time between arrivals stays what it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from edge.tail_work import TailResult
from twinsplit.tracing.context import SpanContext
from twinsplit.tracing.span import AttributeValue, Span, SpanKind
from twinsplit.transport.status import code_of
from twinsplit.transport.tail_stream import TraceClock

_KEPT_ARRIVALS = 16
"""Few enough for clocks that part by 50 us a second, and for ways that change."""


class DeviceTime:
    """What one stream shows of its device's clock."""

    def __init__(self) -> None:
        self._leads_s: deque[float] = deque(maxlen=_KEPT_ARRIVALS)

    def arrival_s(self, clock: TraceClock, arrived_at_s: float) -> float:
        """Arrival on the device's clock of a payload that came at ``arrived_at_s`` on ours."""
        self._leads_s.append(arrived_at_s - clock.earliest_arrival_s)
        return arrived_at_s - min(self._leads_s)


@dataclass(frozen=True, slots=True)
class TailTrace:
    """A tail that is being traced."""

    context: SpanContext
    """Of the edge's own span."""
    parent: SpanContext
    """The device's span of the offload."""
    arrival_s: float
    """On the device's monotonic clock."""
    origin_unix_ns: int
    """Unix time at 0 of that clock."""
    attributes: Mapping[str, AttributeValue]

    def spans(self, result: TailResult) -> list[Span]:
        """Spans of an admitted tail that has ended."""
        started_s = self.arrival_s + result.queue_wait_s
        ended_s = started_s + result.service_s
        error = None if result.output is not None else result.end.value if result.error is None else _name(result.error)
        spans = [
            self._own(ended_s, error),
            self._child("edge queue", self.arrival_s, started_s, None),
        ]
        if result.service_s > 0.0:
            spans.append(self._child("tail", started_s, ended_s, error))
        return spans

    def refused(self, error: Exception) -> list[Span]:
        """Spans of a tail that was not admitted."""
        return [self._own(self.arrival_s, _name(error))]

    def _own(self, ended_s: float, error: str | None) -> Span:
        return Span(
            "edge",
            self.context,
            self.parent,
            self._unix_ns(self.arrival_s),
            self._unix_ns(ended_s),
            self.attributes,
            SpanKind.SERVER,
            is_parent_remote=True,
            error=error,
        )

    def _child(self, name: str, began_s: float, ended_s: float, error: str | None) -> Span:
        return Span(
            name, self.context.sibling(), self.context, self._unix_ns(began_s), self._unix_ns(ended_s), error=error
        )

    def _unix_ns(self, instant_s: float) -> int:
        return self.origin_unix_ns + round(instant_s * 1e9)


def _name(error: Exception) -> str:
    return code_of(error).value
