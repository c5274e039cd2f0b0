"""``EdgeService`` over gRPC: the one long-lived stream of a device, and its registration at an edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from twinsplit.clock import Clock
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.transport.tail_messages import InferRequest, InferResponse, TailCodec, TraceClock

__all__ = [
    "DEVICE_METADATA",
    "INFER_METHOD",
    "SERVICE",
    "DescribeHandler",
    "InferHandler",
    "InferRequest",
    "InferResponse",
    "TraceClock",
    "infer_call",
    "register_edge_service",
]

DEVICE_METADATA = "twinsplit-device"
"""Key under which a device names itself to an edge."""
SERVICE = "twinsplit.rpc.v1.EdgeService"
INFER_METHOD = f"/{SERVICE}/Infer"

InferHandler = Callable[[AsyncIterator[InferRequest], Any], Awaitable[None] | AsyncIterator[InferResponse]]
DescribeHandler = Callable[[edge_pb2.DescribeRequest, Any], Awaitable[edge_pb2.DescribeResponse]]


def infer_call(
    channel: grpc.aio.Channel, clock: Clock | None = None, *, device_id: str = ""
) -> grpc.aio.StreamStreamCall[InferRequest, InferResponse]:
    """Open the one long-lived stream to an edge: ``await call.write(request)``, ``await call.read()``.

    ``device_id``: as which the edge is to know the sender; empty: it is none of the twin's devices.
    """
    codec = TailCodec(clock)
    method: grpc.aio.StreamStreamMultiCallable[InferRequest, InferResponse] = channel.stream_stream(
        INFER_METHOD, request_serializer=codec.request_to_bytes, response_deserializer=codec.response_from_bytes
    )
    return method(None, metadata=((DEVICE_METADATA, device_id),) if device_id else None)


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
