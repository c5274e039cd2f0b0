"""The two messages of ``EdgeService.Infer`` to and from their bytes without the copies of a bytes field (design 10).

What is written are *standard protobuf bytes*: what changes with every message first, then what repeats (digest, cut,
header), then the payload as the last length-delimited field, joined once when writing and taken as a view when
reading. What twinsplit itself writes is read at a glance: the numbers stand at known places, the rest is remembered by
its bytes. Everything else, any order of fields included, goes through the ordinary parser.

A message that cannot be read is delivered with ``problem`` set, never raised: raising inside a gRPC serializer would
end the stream and every other task on it.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import NamedTuple

from google.protobuf.message import DecodeError

from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import BadMessageError, RefusedError, TwinsplitError
from twinsplit.plausible import LARGEST_SECONDS
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader
from twinsplit.transport.convert import (
    backlog_from_wire,
    backlog_to_wire,
    digest_from_wire,
    digest_to_wire,
    header_from_wire,
    header_to_wire,
    seconds_from_wire,
)
from twinsplit.transport.status import error_from_wire, error_to_wire
from twinsplit.transport.tail_framing import Frame, before_payload, frame_of, varint

_ID_TAG = b"\x08"
_BUDGET = struct.Struct("<Bd")
_BUDGET_TAG = 0x21
_TIMES = struct.Struct("<BdBdBBBdBdBdBd")
"""Fields 3 to 5 of a response: waiting, service, and a backlog of four numbers, all written even where they are 0."""
_TIMES_VALUES = struct.Struct("<xdxdxxxdxdxdxd")
_TIMES_TAGS = b"\x19\x21\x2a"
_TRACE = struct.Struct("<BB55sBBBdBq")
"""Fields 7 and 8 of a request as tracing devices write them: a traceparent of version 00, and its clock."""
_TRACE_TAGS = b"\x3a\x37\x42\x12\x09\x11"
_TRACE_TAGS_AT = (0, 1, 57, 58, 59, 68)
_TRACEPARENT_BYTES = 55
_ARRIVAL = struct.Struct("<Bd")
_ARRIVAL_TAG = 0x39
"""Field 7 of a response, after its times."""
_BACKLOG_BYTES = 0x24
_BACKLOG_TAGS = b"\x09\x11\x19\x21"
"""The tags among the values: every ninth byte from the first, one length, and every ninth byte after it."""


# Tuples, since each side makes one per message and frozen dataclasses take several times as long.
class TraceClock(NamedTuple):
    """What places an edge's spans on the time line of the device that traces a task."""

    earliest_arrival_s: float
    """Earliest instant at which the payload can be at the edge, on the device's monotonic clock."""
    origin_unix_ns: int
    """Unix time at 0 of that clock."""


class InferRequest(NamedTuple):
    """One tail to finish, or with ``is_cancel`` one to forget (then only ``request_id`` counts)."""

    request_id: int
    """Unique on its stream, from 1; 0 only where ``problem`` says that the message could not be read at all."""
    model_digest: str = ""
    cut: int = 0
    budget_s: float | None = None
    """Time left until the answer is of no use, seconds; ``None``: no limit."""
    is_cancel: bool = False
    tensor: EncodedTensor | None = None
    """``None`` in cancellations and where ``problem`` is set."""
    traceparent: str = ""
    trace_clock: TraceClock | None = None
    problem: RefusedError | None = None
    """Set by the reader: why this message must be refused. Never sent."""


class InferResponse(NamedTuple):
    """The answer to one tail, or with ``error`` its refusal (then only ``backlog`` counts beside it)."""

    request_id: int
    error: TwinsplitError | None = None
    queue_wait_s: float = 0.0
    service_s: float = 0.0
    backlog: BacklogState | None = None
    """On the holder's clock; its age crosses the wire. ``None``: not told."""
    tensor: EncodedTensor | None = None
    traced_arrival_s: float = 0.0
    """Arrival as the edge's spans show it, on the device's monotonic clock; 0: it made none."""
    problem: RefusedError | None = None
    """Set by the reader: this message cannot be trusted. Never sent."""


class TailCodec:
    """Serializers of both messages. ``clock`` puts backlog readings on the wire and back by their age."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def request_to_bytes(self, request: InferRequest) -> bytes:
        """Standard protobuf bytes of ``edge.proto``'s InferRequest."""
        request_id, digest, cut, budget_s, is_cancel, tensor, traceparent, clock, _ = request
        if is_cancel or tensor is None:
            return edge_pb2.InferRequest(request_id=request_id, cancel=is_cancel).SerializeToString()
        header, data = tensor
        number = varint(request_id)
        budget = _BUDGET.pack(_BUDGET_TAG, budget_s or 0.0)
        if clock is None:
            taken_bytes = 1 + len(number) + len(budget)
            fields = _request_fields_to_bytes(digest, cut, header, traceparent, taken_bytes, len(data))
            return b"".join((_ID_TAG, number, budget, fields, data))
        # New with every task, so none of what is remembered.
        trace = _trace_to_bytes(traceparent, clock)
        taken_bytes = 1 + len(number) + len(budget) + len(trace)
        fields = _request_fields_to_bytes(digest, cut, header, "", taken_bytes, len(data))
        return b"".join((_ID_TAG, number, budget, trace, fields, data))

    def request_from_bytes(self, data: bytes) -> InferRequest:
        """Read a request; never raises, see ``problem``."""
        frame = frame_of(data)
        if frame is not None:
            request_id, at, head_end, start = frame
            rest = at + _BUDGET.size
            if request_id and rest <= head_end and data[at] == _BUDGET_TAG:
                _, budget_s = _BUDGET.unpack_from(data, at)
                trace = _trace_at(data, rest, head_end) if data[rest] == _TRACE_TAGS[0] else None
                if trace is not None:
                    rest += _TRACE.size
                fields = _request_fields(data[rest:head_end]) if 0.0 <= budget_s <= LARGEST_SECONDS else None
                if fields is not None and (trace is None or not fields[3]):
                    digest, cut, header, traceparent = fields
                    traceparent, clock = trace or (traceparent, None)
                    tensor = EncodedTensor(header, memoryview(data)[start:])
                    return InferRequest(request_id, digest, cut, budget_s or None, False, tensor, traceparent, clock)
        return _request_parsed(data, frame)

    def response_to_bytes(self, response: InferResponse) -> bytes:
        """Standard protobuf bytes of ``edge.proto``'s InferResponse."""
        request_id, error, queue_wait_s, service_s, backlog, tensor, arrival_s, _ = response
        if error is None and backlog is not None and tensor is not None:
            header, data = tensor
            number = varint(request_id)
            age_s = max(0.0, self._clock.monotonic_s() - backlog.at_s)
            times = _TIMES.pack(
                *(0x19, queue_wait_s, 0x21, service_s, 0x2A, _BACKLOG_BYTES),
                *(0x09, backlog.backlog_s, 0x11, age_s, 0x19, backlog.mean_s, 0x21, backlog.time_constant_s),
            )
            arrival = _ARRIVAL.pack(_ARRIVAL_TAG, arrival_s) if arrival_s else b""
            taken_bytes = 1 + len(number) + len(times) + len(arrival)
            fields = _response_fields_to_bytes(header, taken_bytes, len(data))
            return b"".join((_ID_TAG, number, times, arrival, fields, data))
        return edge_pb2.InferResponse(
            request_id=request_id,
            error=None if error is None else error_to_wire(error),
            queue_wait_s=queue_wait_s,
            service_s=service_s,
            backlog=None if backlog is None else backlog_to_wire(backlog, self._clock.monotonic_s()),
            header=None if tensor is None else header_to_wire(tensor.header),
            traced_arrival_s=arrival_s,
            data=b"" if tensor is None else bytes(tensor.data),
        ).SerializeToString()

    def response_from_bytes(self, data: bytes) -> InferResponse:
        """Read a response; never raises, see ``problem``."""
        frame = frame_of(data)
        if frame is not None:
            request_id, at, head_end, start = frame
            rest = at + _TIMES.size
            if (
                request_id
                and rest <= head_end
                and data[at : at + 27 : 9] == _TIMES_TAGS
                and data[at + 19] == _BACKLOG_BYTES
                and data[at + 20 : rest : 9] == _BACKLOG_TAGS
            ):
                queue_wait_s, service_s, backlog_s, age_s, mean_s, constant_s = times = _TIMES_VALUES.unpack_from(
                    data, at
                )
                # Infinity and NaN show in the sum, too; the ordinary way then names the field.
                is_possible = sum(times) <= LARGEST_SECONDS and min(times) >= 0.0 and constant_s > 0.0
                arrival_s = 0.0
                if data[rest] == _ARRIVAL_TAG and rest + _ARRIVAL.size <= head_end:
                    _, arrival_s = _ARRIVAL.unpack_from(data, rest)
                    rest += _ARRIVAL.size
                header = _response_header(data[rest:head_end]) if is_possible else None
                if header is not None:
                    backlog = BacklogState(backlog_s, self._clock.monotonic_s() - age_s, mean_s, constant_s)
                    tensor = EncodedTensor(header, memoryview(data)[start:])
                    arrival_s = _finite_or_none(arrival_s)
                    return InferResponse(request_id, None, queue_wait_s, service_s, backlog, tensor, arrival_s)
        return _response_parsed(data, frame, self._clock.monotonic_s())


def _request_parsed(data: bytes, frame: Frame | None) -> InferRequest:
    message = edge_pb2.InferRequest()
    try:
        payload = _parse(message, data, frame)
    except DecodeError:
        return InferRequest(0, problem=BadMessageError("the message is not an InferRequest; use edge.proto of v1"))
    if message.cancel:
        return InferRequest(message.request_id, is_cancel=True)
    try:
        if message.request_id == 0:
            raise BadMessageError("request_id: is missing; ids start at 1")
        return InferRequest(
            message.request_id,
            digest_from_wire(message.model_digest),
            message.cut,
            seconds_from_wire(message.budget_s, "budget_s") or None,
            False,
            EncodedTensor(_header(message), payload),
            message.traceparent,
            _trace_clock(message),
        )
    except RefusedError as error:
        return InferRequest(message.request_id, problem=error)


def _response_parsed(data: bytes, frame: Frame | None, now_s: float) -> InferResponse:
    message = edge_pb2.InferResponse()
    try:
        payload = _parse(message, data, frame)
    except DecodeError:
        problem = BadMessageError("the message is not an InferResponse; use edge.proto of v1")
        return InferResponse(0, problem=problem)
    try:
        backlog = None
        if message.HasField("backlog"):
            backlog = backlog_from_wire(message.backlog, now_s)
        if message.HasField("error"):
            return InferResponse(message.request_id, error_from_wire(message.error), backlog=backlog)
        return InferResponse(
            message.request_id,
            None,
            seconds_from_wire(message.queue_wait_s, "queue_wait_s"),
            seconds_from_wire(message.service_s, "service_s"),
            backlog,
            EncodedTensor(_header(message), payload),
            _finite_or_none(message.traced_arrival_s),
        )
    except RefusedError as error:
        return InferResponse(message.request_id, problem=error)


def _trace_to_bytes(traceparent: str, clock: TraceClock) -> bytes:
    """Fields 7 and 8 of a request."""
    text = traceparent.encode()
    if len(text) == _TRACEPARENT_BYTES:
        return _TRACE.pack(0x3A, 0x37, text, 0x42, 0x12, 0x09, clock.earliest_arrival_s, 0x11, clock.origin_unix_ns)
    wire_clock = edge_pb2.TraceClock(earliest_arrival_s=clock.earliest_arrival_s, origin_unix_ns=clock.origin_unix_ns)
    return edge_pb2.InferRequest(traceparent=traceparent, trace_clock=wire_clock).SerializeToString()


def _trace_at(data: bytes, at: int, end: int) -> tuple[str, TraceClock] | None:
    """Fields 7 and 8 if they stand at ``at`` as :func:`_trace_to_bytes` writes them; ``None``: not just so."""
    if at + _TRACE.size > end or any(data[at + i] != tag for i, tag in zip(_TRACE_TAGS_AT, _TRACE_TAGS, strict=True)):
        return None
    _, _, text, _, _, _, earliest_arrival_s, _, origin_unix_ns = _TRACE.unpack_from(data, at)
    if not (text.isascii() and math.isfinite(earliest_arrival_s)):
        return None
    return text.decode("ascii"), TraceClock(earliest_arrival_s, origin_unix_ns)


def _trace_clock(message: edge_pb2.InferRequest) -> TraceClock | None:
    """A clock that says nothing sensible costs its sender the trace, not the answer."""
    clock = message.trace_clock
    if not message.HasField("trace_clock") or not math.isfinite(clock.earliest_arrival_s):
        return None
    return TraceClock(clock.earliest_arrival_s, clock.origin_unix_ns)


def _finite_or_none(arrival_s: float) -> float:
    return arrival_s if math.isfinite(arrival_s) else 0.0


# Shapes, models and lengths of ids repeat from message to message; only affine headers are new each time.
@lru_cache(maxsize=256)
def _request_fields_to_bytes(
    digest: str, cut: int, header: TensorHeader, traceparent: str, taken_bytes: int, payload_bytes: int
) -> bytes:
    """Everything of a request between its budget, or its trace, and its payload."""
    message = edge_pb2.InferRequest(
        model_digest=digest_to_wire(digest), cut=cut, header=header_to_wire(header), traceparent=traceparent
    )
    return before_payload(message.SerializeToString(), taken_bytes, payload_bytes)


@lru_cache(maxsize=256)
def _response_fields_to_bytes(header: TensorHeader, taken_bytes: int, payload_bytes: int) -> bytes:
    """Everything of a response between its times and its payload."""
    message = edge_pb2.InferResponse(header=header_to_wire(header))
    return before_payload(message.SerializeToString(), taken_bytes, payload_bytes)


@lru_cache(maxsize=256)
def _request_fields(rest: bytes) -> tuple[str, int, TensorHeader, str] | None:
    """What the bytes after the budget say; ``None``: not just what they are expected to, or not possible."""
    try:
        message = edge_pb2.InferRequest.FromString(rest)
        fields = digest_from_wire(message.model_digest), message.cut, _header(message), message.traceparent
    except (DecodeError, RefusedError):
        return None
    has_more = (
        message.request_id or message.budget_s or message.cancel or message.data or message.HasField("trace_clock")
    )
    return None if has_more else fields


@lru_cache(maxsize=256)
def _response_header(rest: bytes) -> TensorHeader | None:
    try:
        message = edge_pb2.InferResponse.FromString(rest)
        header = _header(message)
    except (DecodeError, RefusedError):
        return None
    has_more = (
        message.request_id or message.queue_wait_s or message.service_s or message.data or message.traced_arrival_s
    )
    return None if has_more or message.HasField("error") or message.HasField("backlog") else header


def _header(message: edge_pb2.InferRequest | edge_pb2.InferResponse) -> TensorHeader:
    if not message.HasField("header"):
        raise BadMessageError("header: is missing")
    return header_from_wire(message.header)


def _parse(
    message: edge_pb2.InferRequest | edge_pb2.InferResponse, data: bytes, frame: Frame | None
) -> bytes | memoryview:
    """Read everything but the payload into ``message`` and give the payload, as a view where it comes last.

    Raises:
        DecodeError: not protobuf of this message.
    """
    if frame is not None:
        try:
            message.ParseFromString(data[: frame.head_end])
        except DecodeError:
            pass
        else:
            return memoryview(data)[frame.payload_at :]
    message.ParseFromString(data)
    payload = message.data
    message.ClearField("data")
    return payload
