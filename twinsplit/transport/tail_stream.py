"""``EdgeService.Infer`` without the copies of a protobuf bytes field (design section 10).

The serializers write and read *standard protobuf bytes*: the small fields first, made by the ordinary classes, then
the payload as the last length-delimited field, joined once when writing and taken as a view when reading. Any order
of fields is read; what is not understood at a glance goes through the ordinary parser.

A message that cannot be read is delivered with ``problem`` set, never raised: raising inside a gRPC serializer would
end the stream and every other task on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import BadMessageError, RefusedError, TwinsplitError
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

SERVICE = "twinsplit.rpc.v1.EdgeService"
INFER_METHOD = f"/{SERVICE}/Infer"
ALIGNMENT = 16
ALIGNED_FROM_BYTES = 4096
"""Smaller payloads are not padded: copying them costs less than the padding."""

_DATA_TAG = bytes(((15 << 3) | 2,))
_PADDING_TAG = (14 << 3) | 2
_HEAD_BYTES = 4096
"""The payload's tag is looked for in so many first bytes; with a longer head the ordinary parser does it all."""
_PADDINGS = tuple(
    bytes((_PADDING_TAG, size)) + bytes(size) for size in ((-(taken + 2)) % ALIGNMENT for taken in range(16))
)
"""Padding field by the number of other bytes before the payload, modulo 16."""


# Tuples, since each side makes one per message and frozen dataclasses take several times as long.
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
    problem: RefusedError | None = None
    """Set by the reader: this message cannot be trusted. Never sent."""


class TailCodec:
    """Serializers of both messages. ``clock`` puts backlog readings on the wire and back by their age."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def request_to_bytes(self, request: InferRequest) -> bytes:
        """Standard protobuf bytes of ``edge.proto``'s InferRequest."""
        if request.is_cancel:
            return edge_pb2.InferRequest(request_id=request.request_id, cancel=True).SerializeToString()
        head = edge_pb2.InferRequest(
            request_id=request.request_id,
            model_digest=digest_to_wire(request.model_digest),
            cut=request.cut,
            budget_s=request.budget_s or 0.0,
        ).SerializeToString()
        trace = request.traceparent and edge_pb2.InferRequest(traceparent=request.traceparent).SerializeToString()
        return _with_tensor(head, request.tensor, trace or b"")

    def request_from_bytes(self, data: bytes) -> InferRequest:
        """Read a request; never raises, see ``problem``."""
        message = edge_pb2.InferRequest()
        try:
            payload = _parse(message, data)
        except DecodeError:
            return InferRequest(0, problem=BadMessageError("the message is not an InferRequest; use edge.proto of v1"))
        if message.cancel:
            return InferRequest(message.request_id, is_cancel=True)
        try:
            request_id = message.request_id
            if request_id == 0:
                raise BadMessageError("request_id: is missing; ids start at 1")
            return InferRequest(
                request_id,
                digest_from_wire(message.model_digest),
                message.cut,
                seconds_from_wire(message.budget_s, "budget_s") or None,
                False,
                EncodedTensor(_header(message), payload),
                message.traceparent,
            )
        except RefusedError as error:
            return InferRequest(message.request_id, problem=error)

    def response_to_bytes(self, response: InferResponse) -> bytes:
        """Standard protobuf bytes of ``edge.proto``'s InferResponse."""
        error, backlog = response.error, response.backlog
        head = edge_pb2.InferResponse(
            request_id=response.request_id,
            error=None if error is None else error_to_wire(error),
            queue_wait_s=response.queue_wait_s,
            service_s=response.service_s,
            backlog=None if backlog is None else backlog_to_wire(backlog, self._clock.monotonic_s()),
        ).SerializeToString()
        return _with_tensor(head, response.tensor)

    def response_from_bytes(self, data: bytes) -> InferResponse:
        """Read a response; never raises, see ``problem``."""
        message = edge_pb2.InferResponse()
        try:
            payload = _parse(message, data)
        except DecodeError:
            return InferResponse(
                0, problem=BadMessageError("the message is not an InferResponse; use edge.proto of v1")
            )
        try:
            backlog = None
            if message.HasField("backlog"):
                backlog = backlog_from_wire(message.backlog, self._clock.monotonic_s())
            if message.HasField("error"):
                return InferResponse(message.request_id, error_from_wire(message.error), backlog=backlog)
            return InferResponse(
                message.request_id,
                None,
                seconds_from_wire(message.queue_wait_s, "queue_wait_s"),
                seconds_from_wire(message.service_s, "service_s"),
                backlog,
                EncodedTensor(_header(message), payload),
            )
        except RefusedError as error:
            return InferResponse(message.request_id, problem=error)


InferHandler = Callable[[AsyncIterator[InferRequest], Any], Awaitable[None] | AsyncIterator[InferResponse]]
DescribeHandler = Callable[[edge_pb2.DescribeRequest, Any], Awaitable[edge_pb2.DescribeResponse]]


def infer_call(
    channel: grpc.aio.Channel, clock: Clock | None = None
) -> grpc.aio.StreamStreamCall[InferRequest, InferResponse]:
    """Open the one long-lived stream to an edge: ``await call.write(request)``, ``await call.read()``."""
    codec = TailCodec(clock)
    method: grpc.aio.StreamStreamMultiCallable[InferRequest, InferResponse] = channel.stream_stream(
        INFER_METHOD, request_serializer=codec.request_to_bytes, response_deserializer=codec.response_from_bytes
    )
    return method(None)


def register_edge_service(
    server: grpc.aio.Server, *, infer: InferHandler, describe: DescribeHandler, clock: Clock | None = None
) -> None:
    """Serve ``EdgeService``: ``infer(requests, context)`` is an async generator of responses, or a coroutine that uses
    ``context.read()`` and ``context.write()``; ``describe`` takes and gives the ordinary messages."""
    codec = TailCodec(clock)
    handlers = {
        "Infer": grpc.stream_stream_rpc_method_handler(
            infer,
            request_deserializer=codec.request_from_bytes,
            response_serializer=codec.response_to_bytes,
        ),
        "Describe": grpc.unary_unary_rpc_method_handler(
            describe,
            request_deserializer=edge_pb2.DescribeRequest.FromString,
            response_serializer=edge_pb2.DescribeResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _header(message: edge_pb2.InferRequest | edge_pb2.InferResponse) -> TensorHeader:
    if not message.HasField("header"):
        raise BadMessageError("header: is missing")
    return header_from_wire(message.header)


def _with_tensor(head: bytes, tensor: EncodedTensor | None, traceparent: bytes = b"") -> bytes:
    if tensor is None:
        return head
    header, data = tensor
    fields = _header_field(header)
    size = len(data)
    if size < ALIGNED_FROM_BYTES:
        return b"".join(
            (head, fields, traceparent, _DATA_TAG, _varint(size), data) if size else (head, fields, traceparent)
        )
    tag = _DATA_TAG + _varint(size)
    return b"".join(
        (head, fields, traceparent, _PADDINGS[len(head) + len(fields) + len(traceparent) + len(tag) & 15], tag, data)
    )


@lru_cache(maxsize=256)
def _header_field(header: TensorHeader) -> bytes:
    # Field 6 of both messages. Shapes repeat; only affine headers differ from one tensor to the next.
    return edge_pb2.InferRequest(header=header_to_wire(header)).SerializeToString()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _parse(message: edge_pb2.InferRequest | edge_pb2.InferResponse, data: bytes) -> bytes | memoryview:
    """Read everything but the payload into ``message`` and give the payload, as a view of ``data`` where it comes last.

    Protobuf messages may be concatenated: if the bytes before a payload field that reaches to the end are a message,
    then that message and that payload are what the ordinary parser would find.

    Raises:
        DecodeError: not protobuf of this message.
    """
    at = data.find(_DATA_TAG, 0, _HEAD_BYTES)
    while at >= 0:
        start = _payload_start(data, at + 1)
        if start:
            try:
                message.ParseFromString(data[:at])
            except DecodeError:
                pass
            else:
                return memoryview(data)[start:]
        at = data.find(_DATA_TAG, at + 1, _HEAD_BYTES)
    message.ParseFromString(data)
    payload = message.data
    message.ClearField("data")
    return payload


def _payload_start(data: bytes, at: int) -> int:
    """Where the payload begins if the length written at ``at`` reaches exactly to the end of ``data``, else 0."""
    length = shift = 0
    for byte in data[at : at + 5]:
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return at if at + length == len(data) else 0
        shift += 7
    return 0
