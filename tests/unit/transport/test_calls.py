"""Calls are counted by method and status, and bytes that are no message end none in gRPC's own way."""

from typing import Any

import grpc
import pytest

from twinsplit.rpc.v1 import edge_pb2
from twinsplit.telemetry.histogram import Histogram
from twinsplit.transport.calls import CallCount, CallWatch


def test_calls_are_counted_by_method_and_status() -> None:
    calls = CallCount()
    for _ in range(3):
        calls.note_start("Infer")
    calls.note_end("Infer", "OK", 2.0)
    calls.note_end("Infer", "CANCELLED", 4.0)
    found = [(name, dict(labels), value) for name, labels, value in calls.samples()]
    assert ("twinsplit_rpc_started_total", {"method": "Infer"}, 3) in found
    assert ("twinsplit_rpc_handled_total", {"method": "Infer", "status": "OK"}, 1) in found
    assert ("twinsplit_rpc_handled_total", {"method": "Infer", "status": "CANCELLED"}, 1) in found
    (duration,) = [value for _, _, value in found if isinstance(value, Histogram)]
    rows, total = duration.cumulative()
    assert (rows[-1], total) == (("+Inf", 2), 6.0)


class Context:
    """Keeps what a call was ended with."""

    async def abort(self, status: grpc.StatusCode, text: str, trailing: object) -> None:
        self.end = status, text, trailing


def watched(handler: Any) -> Any:
    return CallWatch(CallCount()).around("/service/Method", handler)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_single_message_that_cannot_be_read_is_refused_by_name_and_no_handler_sees_it(
    is_streaming: bool,
) -> None:
    async def answer(request: object, context: object) -> object:
        raise AssertionError("nothing was asked")

    async def answers(request: object, context: object) -> Any:
        raise AssertionError("nothing was asked")
        yield

    kind = "unary_stream" if is_streaming else "unary_unary"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    handler = watched(make(answers if is_streaming else answer, edge_pb2.DescribeRequest.FromString))
    context, request = Context(), handler.request_deserializer(b"\x0f")
    called = getattr(handler, kind)(request, context)
    if is_streaming:
        assert [each async for each in called] == []
    else:
        await called
    status, text, trailing = context.end
    assert (status, trailing) == (grpc.StatusCode.INVALID_ARGUMENT, (("twinsplit-error-code", "BAD_MESSAGE"),))
    assert "DecodeError" not in text


async def test_in_a_stream_it_is_an_empty_message_and_good_ones_stay_as_they_are() -> None:
    make = grpc.stream_stream_rpc_method_handler
    handler = watched(make(lambda requests, context: None, edge_pb2.InferRequest.FromString))
    good = edge_pb2.InferRequest(request_id=3)
    assert handler.request_deserializer(good.SerializeToString()) == good
    assert handler.request_deserializer(b"\x08\x03\x0f") == edge_pb2.InferRequest()
