"""A program that asks one server over and over: ``python -m benchmarks.oip_program WAY HOST:PORT``.

For each line on standard input, a :class:`Task` as JSON, it makes one turn of calls and writes their times and the last
output as JSON. It imports nothing but what its way needs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from twinsplit.oip.messages import InferenceRequest, NamedTensor
from twinsplit.oip.service import INFER_METHOD, infer_call
from twinsplit.oip.v2 import inference_pb2
from twinsplit.tensor import decode, encode
from twinsplit.transport.allocation import keep_freed_memory
from twinsplit.transport.channel import await_reachable, open_channel
from twinsplit.transport.limits import channel_options
from twinsplit.transport.tail_stream import InferRequest
from twinsplit.transport.tail_stream import infer_call as stream_call

MESSAGE_BYTES = 16 << 20
TURN_CALLS = 10
CALL_TIMEOUT_S = 30.0

Tensor = NDArray[np.float32]
Ask = Callable[["Task", Tensor], Awaitable[Tensor]]


class Task(NamedTuple):
    """What is asked in one turn."""

    model: str
    """Name of the tail."""
    input: str
    shape: tuple[int, ...]
    digest: str
    """Of the whole model; for the stream."""
    cut: int

    @property
    def tensor(self) -> Tensor:
        """The payload, always the same."""
        return np.random.default_rng(1).standard_normal(self.shape, dtype=np.float32)


def ask_plainly(address: str) -> Callable[[Task, Tensor], Tensor]:
    """As any program does it: blocking calls, messages by protobuf's library."""
    channel = grpc.insecure_channel(address, options=channel_options(MESSAGE_BYTES))
    call = channel.unary_unary(
        INFER_METHOD,
        request_serializer=inference_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=inference_pb2.ModelInferResponse.FromString,
    )

    def ask(task: Task, tensor: Tensor) -> Tensor:
        request = inference_pb2.ModelInferRequest(model_name=task.model)
        request.inputs.add(name=task.input, datatype="FP32", shape=tensor.shape)
        request.raw_input_contents.append(tensor.tobytes())
        answer = call(request, wait_for_ready=True, timeout=CALL_TIMEOUT_S)
        if answer.raw_output_contents:
            return np.frombuffer(answer.raw_output_contents[0], np.float32)
        return np.array(answer.outputs[0].contents.fp32_contents, np.float32)

    return ask


def ask_by_own_messages(channel: grpc.aio.Channel) -> Ask:
    """By twinsplit's messages of the protocol."""
    call = infer_call(channel)

    async def ask(task: Task, tensor: Tensor) -> Tensor:
        payload = NamedTensor(task.input, "FP32", tensor.shape, tensor.data.cast("B"))
        answer = await call(InferenceRequest(task.model, inputs=(payload,)), timeout=CALL_TIMEOUT_S)
        return np.frombuffer(answer.outputs[0].data, np.float32)

    return ask


def ask_by_stream(channel: grpc.aio.Channel) -> Ask:
    """By the edge's own stream."""
    call: Any = stream_call(channel)
    count = 0

    async def ask(task: Task, tensor: Tensor) -> Tensor:
        nonlocal count
        count += 1
        await call.write(InferRequest(count, task.digest, task.cut, tensor=encode(tensor, "float32")))
        answer = await call.read()
        header, data = answer.tensor
        found: Any = decode(header, data, MESSAGE_BYTES)
        return np.asarray(found, np.float32)

    return ask


AWAITED: dict[str, Callable[[grpc.aio.Channel], Ask]] = {"stream": ask_by_stream, "oip-own": ask_by_own_messages}


def main(way: str, address: str) -> None:
    """Take turns until standard input ends."""
    keep_freed_memory()
    if way in AWAITED:
        asyncio.run(_turns(AWAITED[way], address))
    else:
        plainly = ask_plainly(address)
        for line in sys.stdin:
            task, tensor = _read(line)
            times = []
            for _ in range(TURN_CALLS):
                began_s = time.perf_counter()
                output = plainly(task, tensor)
                times.append(time.perf_counter() - began_s)
            _write(times, output)


async def _turns(way: Callable[[grpc.aio.Channel], Ask], address: str) -> None:
    # A channel belongs to the loop in which it was made.
    channel = open_channel(address, max_message_bytes=MESSAGE_BYTES)
    # A stream that begins before there is a connection ends with the first try to make one that fails.
    await await_reachable(channel, address, timeout_s=CALL_TIMEOUT_S)
    ask = way(channel)
    while line := await asyncio.to_thread(sys.stdin.readline):
        task, tensor = _read(line)
        times = []
        for _ in range(TURN_CALLS):
            began_s = time.perf_counter()
            output = await ask(task, tensor)
            times.append(time.perf_counter() - began_s)
        _write(times, output)


def _read(line: str) -> tuple[Task, Tensor]:
    task = Task(**json.loads(line))
    return task, task.tensor


def _write(times: list[float], output: Tensor) -> None:
    print(json.dumps({"times_s": times, "output": output.reshape(-1).tolist()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
