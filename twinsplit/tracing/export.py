"""Spans into OpenTelemetry's SDK and out by its own OTLP exporter. The only module that imports OpenTelemetry.

Headers, authority and compression towards the collector come from the variables that OpenTelemetry defines, such as
``OTEL_EXPORTER_OTLP_HEADERS``; so do more attributes of the resource (``OTEL_RESOURCE_ATTRIBUTES``) and the size of the
queue (``OTEL_BSP_MAX_QUEUE_SIZE``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.trace import SpanContext as OtelContext

from twinsplit import __version__
from twinsplit.credentials import without_password
from twinsplit.telemetry.logs import EventLog
from twinsplit.tracing import context, span

SEND_TIMEOUT_S = 5.0
"""One batch, with everything that is tried for it."""
LAST_SPANS_S = 2.0
"""A stopping service waits this long for its last spans."""
REPEATED_LINE_S = 60.0

_log = EventLog("tracing")
_KINDS = {
    span.SpanKind.INTERNAL: SpanKind.INTERNAL,
    span.SpanKind.CLIENT: SpanKind.CLIENT,
    span.SpanKind.SERVER: SpanKind.SERVER,
}


class OtlpOutlet:
    """Spans on their way to ``url``; :meth:`put` is for one thread."""

    def __init__(self, url: str, service: str, instance: str) -> None:
        _hush()
        self._exporter = _Exporter(url)
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(
                {
                    "service.namespace": "twinsplit",
                    "service.name": f"twinsplit-{service}",
                    "service.instance.id": instance,
                    "service.version": __version__,
                }
            ),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("twinsplit", __version__)

    def put(self, spans: Iterable[span.Span]) -> None:
        """Send ``spans`` some time soon."""
        for one in spans:
            self._ids.next = one.context
            made = self._tracer.start_span(
                one.name,
                _context_of(one),
                _KINDS[one.kind],
                dict(one.attributes),
                start_time=one.start_unix_ns,
            )
            if one.error is not None:
                made.set_status(Status(StatusCode.ERROR, one.error))
            made.end(one.end_unix_ns)

    def close(self) -> None:
        """Send what is left, for at most :data:`LAST_SPANS_S`; blocks."""
        # The SDK would wait for its exporter for half a minute.
        thread = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        thread.start()
        thread.join(LAST_SPANS_S)
        if thread.is_alive():
            self._exporter.shutdown()


class _GivenIds(IdGenerator):
    """Numbers of the span that is being made: an offload's was told to the edge before."""

    def __init__(self) -> None:
        self.next = context.SpanContext.new()

    def generate_span_id(self) -> int:
        return self.next.span_id

    def generate_trace_id(self) -> int:
        return self.next.trace_id


class _Exporter(SpanExporter):
    """OpenTelemetry's exporter, with our log in place of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(url, timeout=SEND_TIMEOUT_S)
        self._is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            _log.warning(
                "spans-lost",
                limit_s=REPEATED_LINE_S,
                collector=without_password(self._url),
                spans=len(spans),
                cure="see that the collector runs there and takes OTLP over HTTP; tasks go on without",
            )
        return result

    def shutdown(self) -> None:
        if not self._is_shut:
            self._is_shut = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # not typed by the SDK


def _context_of(one: span.Span) -> Context:
    if one.parent is None:
        return Context()
    parent = OtelContext(one.parent.trace_id, one.parent.span_id, one.is_parent_remote, TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _hush() -> None:
    """The SDK would write several lines for every batch that does not arrive; we write one now and then."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL + 1)
