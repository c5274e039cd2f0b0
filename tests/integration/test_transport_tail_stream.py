"""The tail stream over a real connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from twinsplit.clock import ManualClock
from twinsplit.errors import BadMessageError, EdgeFullError, UnknownModelError
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2, edge_pb2_grpc
from twinsplit.tensor import decode, encode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server
from twinsplit.transport.status import error_from_rpc
from twinsplit.transport.tail_stream import (
    INFER_METHOD,
    InferRequest,
    InferResponse,
    infer_call,
    register_edge_service,
)

DIGEST = "cd" * 32
MESSAGE_BYTES = 8 << 20


class _Edge:
    """Doubles tensors; refuses cut 9; keeps what was cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []

    async def infer(self, requests: AsyncIterator[InferRequest], context: Any) -> AsyncIterator[InferResponse]:
        async for request in requests:
            if request.problem is not None:
                yield InferResponse(request.request_id, error=request.problem)
            elif request.is_cancel:
                self.cancelled.append(request.request_id)
            elif request.cut == 9:
                yield InferResponse(request.request_id, error=EdgeFullError("the queue is full; try later"))
            else:
                assert request.tensor is not None
                tensor = decode(request.tensor.header, request.tensor.data, 1 << 20)
                backlog = BacklogState(1.0, at_s=98.0)
                yield InferResponse(request.request_id, None, 0.1, 0.2, backlog, encode(tensor * 2, "float32"))

    async def describe(self, request: edge_pb2.DescribeRequest, context: Any) -> edge_pb2.DescribeResponse:
        raise UnknownModelError("no models; name a folder in --models")


@pytest.fixture
async def edge() -> _Edge:
    return _Edge()


@pytest.fixture
async def channel(edge: _Edge) -> AsyncIterator[grpc.aio.Channel]:
    server = await start_server(
        lambda s: register_edge_service(s, infer=edge.infer, describe=edge.describe, clock=ManualClock(100.0)),
        "127.0.0.1:0",
        max_message_bytes=MESSAGE_BYTES,
    )
    async with open_channel(server.address, max_message_bytes=MESSAGE_BYTES) as channel:
        yield channel
    await server.stop()


@pytest.mark.parametrize("size", [1, 1000, 40_000, 600_000])
async def test_a_tensor_goes_there_and_back(channel: grpc.aio.Channel, size: int) -> None:
    call = infer_call(channel, ManualClock(7.0))
    tensor = np.arange(size, dtype=np.float32).reshape(1, size)
    await call.write(InferRequest(1, DIGEST, 2, 0.5, tensor=encode(tensor, "float32")))
    answer: Any = await call.read()
    assert (answer.request_id, answer.queue_wait_s, answer.service_s) == (1, 0.1, 0.2)
    assert answer.backlog == BacklogState(1.0, at_s=5.0)
    assert np.array_equal(decode(answer.tensor.header, answer.tensor.data, size), tensor * 2)
    call.cancel()


async def test_a_message_nobody_can_read_is_refused_and_the_stream_goes_on(channel: grpc.aio.Channel) -> None:
    raw: Any = channel.stream_stream(INFER_METHOD, response_deserializer=edge_pb2.InferResponse.FromString)
    call = raw()
    await call.write(b"\xff\xff\xff\xff")
    refused = await call.read()
    assert (refused.request_id, refused.error.code) == (0, 1)
    assert "InferRequest" in refused.error.text
    good = edge_pb2.InferRequest(
        request_id=2,
        model_digest=bytes.fromhex(DIGEST),
        header={"shape": [1, 1], "dtype": 1, "representation": 1, "codec": 1},
        data=bytes(4),
    )
    await call.write(good.SerializeToString())
    assert (await call.read()).request_id == 2
    call.cancel()


async def test_a_refusal_concerns_one_task(channel: grpc.aio.Channel) -> None:
    call = infer_call(channel)
    tensor = encode(np.ones((1, 2), np.float32), "float32")
    await call.write(InferRequest(1, DIGEST, 9, tensor=tensor))
    await call.write(InferRequest(2, DIGEST, 2, tensor=tensor))
    refused: Any = await call.read()
    answered: Any = await call.read()
    assert (refused.request_id, type(refused.error)) == (1, EdgeFullError)
    assert (answered.request_id, answered.error) == (2, None)
    call.cancel()


async def test_a_cancellation_arrives_and_has_no_answer(channel: grpc.aio.Channel, edge: _Edge) -> None:
    call = infer_call(channel)
    await call.write(InferRequest(1, is_cancel=True))
    await call.write(InferRequest(2, DIGEST, 9, tensor=encode(np.ones((1, 2), np.float32), "float32")))
    answer: Any = await call.read()
    assert answer.request_id == 2
    assert edge.cancelled == [1]
    call.cancel()


async def test_the_ordinary_stub_understands_the_stream(channel: grpc.aio.Channel) -> None:
    stub: Any = edge_pb2_grpc.EdgeServiceStub(channel)
    call = stub.Infer()
    tensor = np.arange(3000, dtype=np.float32)
    await call.write(
        edge_pb2.InferRequest(
            request_id=3,
            model_digest=bytes.fromhex(DIGEST),
            header={"shape": [1, 3000], "dtype": 1, "representation": 1, "codec": 1},
            data=tensor.tobytes(),
        )
    )
    answer = await call.read()
    assert np.array_equal(np.frombuffer(answer.data, np.float32), tensor * 2)
    assert answer.backlog.age_s == 2.0
    call.cancel()


async def test_describe_refuses_by_name(channel: grpc.aio.Channel) -> None:
    stub: Any = edge_pb2_grpc.EdgeServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Describe(edge_pb2.DescribeRequest())
    assert type(error_from_rpc(caught.value, "edge:1")) is UnknownModelError


async def test_many_streams_do_not_disturb_one_another(channel: grpc.aio.Channel) -> None:
    async def one(number: int) -> float:
        call = infer_call(channel)
        await call.write(InferRequest(1, DIGEST, 2, tensor=encode(np.full((1, 500), number, np.float32), "float32")))
        answer: Any = await call.read()
        call.cancel()
        return float(decode(answer.tensor.header, answer.tensor.data, 500)[0, 0])

    assert await asyncio.gather(*(one(number) for number in range(20))) == [2.0 * number for number in range(20)]


async def test_the_reason_of_a_refusal_names_the_field(channel: grpc.aio.Channel) -> None:
    raw: Any = channel.stream_stream(INFER_METHOD)
    call = raw()
    await call.write(edge_pb2.InferRequest(request_id=6, model_digest=b"short").SerializeToString())
    refused = edge_pb2.InferResponse.FromString(await call.read())
    assert (refused.request_id, "model_digest" in refused.error.text) == (6, True)
    assert refused.error.code == 1
    assert BadMessageError.code.value == "BAD_MESSAGE"
    call.cancel()
