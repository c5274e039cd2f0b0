"""Device to edge and back on loopback: the tail stream beside four baselines (design section 10).

    python -m benchmarks.transport [--rounds 300] [--json FILE]

Each way has a device process and an edge process of its own, so that none works on the heap that another left behind.
For each payload size they take turns in an order drawn anew each time, so that whatever disturbs the machine disturbs
all of them alike:

- ``tcp``: blocking sockets, the length before the payload;
- ``plain``: a ``grpc.aio`` bidirectional stream of the same raw bytes, with identity serializers, as anyone gets it;
- ``bare``: the same with the malloc thresholds that the services set;
- ``field``: a stream of ordinary protobuf messages with a bytes field, with those thresholds;
- ``ours``: a float32 tensor encoded, sent as InferRequest, decoded at the edge, encoded, sent back as InferResponse
  with a backlog, and decoded, with those thresholds.

Ours is judged against ``bare``.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click
import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.tensor import decode, encode
from twinsplit.transport.allocation import keep_freed_memory
from twinsplit.transport.channel import open_channel
from twinsplit.transport.limits import channel_options, server_options
from twinsplit.transport.server import start_server
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call, register_edge_service

SIZES = (9_000, 150_000, 600_000, 2_400_000)
METHODS = ("tcp", "plain", "bare", "field", "ours")
TURN_ECHOES = 10
"""Echoes in one turn; the first two bring the processes back into the caches and are not counted."""
TURN_WARM_UP = 2
WARM_UP_TURNS = 2
MESSAGE_BYTES = 8 << 20
BARE_SERVICE = "twinsplit.benchmark.Bare"
DIGEST = "00" * 32
MEDIAN_GOAL = (1.15, 0.10e-3)
P95_GOAL = (1.25, 0.20e-3)
"""(Ratio to the bare stream, seconds above it): the larger one counts."""

_EOF: Any = vars(grpc.aio)["EOF"]


async def _serve(way: str) -> None:
    if way == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=_tcp_echo, args=(listener,), daemon=True).start()
        await _say_and_wait(f"127.0.0.1:{listener.getsockname()[1]}")
    elif way == "ours":
        ours = await start_server(
            lambda server: register_edge_service(server, infer=_echo_tail, describe=_describe),
            "127.0.0.1:0",
            max_message_bytes=MESSAGE_BYTES,
        )
        await _say_and_wait(ours.address)
        await ours.stop()
    else:
        server = grpc.aio.server(options=server_options(MESSAGE_BYTES))
        raw = grpc.stream_stream_rpc_method_handler(_echo_raw)
        field = grpc.stream_stream_rpc_method_handler(
            _echo_field,
            request_deserializer=edge_pb2.InferRequest.FromString,
            response_serializer=edge_pb2.InferResponse.SerializeToString,
        )
        handlers = {"Echo": field if way == "field" else raw}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(BARE_SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await _say_and_wait(f"127.0.0.1:{port}")
        await server.stop(None)


async def _say_and_wait(address: str) -> None:
    print(address, flush=True)
    # The other end of the pipe closes when the device's side has finished or died.
    await asyncio.to_thread(sys.stdin.read)


def _tcp_echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (payload := _receive(connection)) is not None:
        connection.sendall(struct.pack("<I", len(payload)))
        connection.sendall(payload)


def _receive(connection: socket.socket) -> bytearray | None:
    head = connection.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    payload = bytearray(struct.unpack("<I", head)[0])
    view, at = memoryview(payload), 0
    while at < len(payload):
        at += connection.recv_into(view[at:])
    return payload


async def _echo_raw(_requests: Any, context: Any) -> None:
    while (data := await context.read()) is not _EOF:
        await context.write(data)


async def _echo_field(_requests: Any, context: Any) -> None:
    while (request := await context.read()) is not _EOF:
        await context.write(
            edge_pb2.InferResponse(request_id=request.request_id, header=request.header, data=request.data)
        )


async def _echo_tail(_requests: AsyncIterator[InferRequest], context: Any) -> None:
    while (request := await context.read()) is not _EOF:
        tensor = decode(request.tensor.header, request.tensor.data, 1 << 24)
        backlog = BacklogState(0.1, time.monotonic())
        await context.write(InferResponse(request.request_id, None, 0.0, 0.0, backlog, encode(tensor, "float32")))


async def _describe(_request: edge_pb2.DescribeRequest, _context: Any) -> edge_pb2.DescribeResponse:
    return edge_pb2.DescribeResponse()


class _Device:
    """Sends one payload in one way and gets it back."""

    def __init__(self, way: str, address: str) -> None:
        self._count = 0
        self.echo = getattr(self, way)
        if way == "tcp":
            host, port = address.split(":")
            self._socket = socket.create_connection((host, int(port)))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif way == "ours":
            self._call: Any = infer_call(open_channel(address, max_message_bytes=MESSAGE_BYTES))
        else:
            channel: Any = grpc.aio.insecure_channel(address, options=channel_options(MESSAGE_BYTES))
            serializers: tuple[Any, Any] = (None, None)
            if way == "field":
                serializers = (edge_pb2.InferRequest.SerializeToString, edge_pb2.InferResponse.FromString)
            self._call = channel.stream_stream(f"/{BARE_SERVICE}/Echo", *serializers)()

    async def close(self) -> None:
        """End the stream in order, so that neither side has a cancelled call to speak of."""
        if hasattr(self, "_call"):
            await self._call.done_writing()
            while await self._call.read() is not _EOF:
                pass
        else:
            self._socket.close()

    async def tcp(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        self._socket.sendall(struct.pack("<I", len(data)))
        self._socket.sendall(data)
        answer = _receive(self._socket)
        assert answer is not None
        assert len(answer) == len(data)

    async def bare(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        await self._call.write(data)
        answer = await self._call.read()
        assert len(answer) == len(data)

    plain = bare

    async def field(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        self._count += 1
        await self._call.write(
            edge_pb2.InferRequest(request_id=self._count, model_digest=bytes(32), cut=1, budget_s=1.0, data=data)
        )
        answer = await self._call.read()
        assert len(answer.data) == len(data)

    async def ours(self, tensor: NDArray[np.float32], _data: bytes) -> None:
        self._count += 1
        await self._call.write(InferRequest(self._count, DIGEST, 1, 1.0, tensor=encode(tensor, "float32")))
        answer = await self._call.read()
        decoded = decode(answer.tensor.header, answer.tensor.data, 1 << 24)
        assert decoded.shape == tensor.shape


async def _take_turns(way: str, address: str) -> None:
    """Time one turn of echoes per line on standard input, the size of the payload in bytes."""
    device = _Device(way, address)
    values = np.random.default_rng(1)
    size = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        if size != int(line):
            size = int(line)
            tensor = values.standard_normal((1, size // 4), dtype=np.float32)
            data = tensor.tobytes()
        times = []
        for _ in range(TURN_ECHOES):
            began_s = time.perf_counter()
            await device.echo(tensor, data)
            times.append(time.perf_counter() - began_s)
        print(json.dumps(times[TURN_WARM_UP:]), flush=True)
    await device.close()


def _run_pair(way: str) -> None:
    if way not in ("tcp", "plain"):
        keep_freed_memory()
    with _process("--serve", way) as edge:
        address = _pipe(edge.stdout).readline().strip()
        asyncio.run(_take_turns(way, address))


def _process(role: str, way: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.transport", role, way]
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def measure(rounds: int, *, seed: int = 1) -> dict[str, Any]:
    """Run all pairs of processes; medians, 95th percentiles (seconds) and whether the goals are met, by size.

    Args:
        rounds: echoes of each way and size that are counted, at least.
        seed: of the order.
    """
    draw = random.Random(seed)
    turns = WARM_UP_TURNS + math.ceil(rounds / (TURN_ECHOES - TURN_WARM_UP))
    rows = []
    with ExitStack() as running:
        pairs = {way: running.enter_context(_process("--pair", way)) for way in METHODS}
        for size in SIZES:
            times: dict[str, list[float]] = {way: [] for way in METHODS}
            for turn in range(turns):
                for way in draw.sample(METHODS, len(METHODS)):
                    _pipe(pairs[way].stdin).write(f"{size}\n")
                    _pipe(pairs[way].stdin).flush()
                    found = json.loads(_pipe(pairs[way].stdout).readline())
                    if turn >= WARM_UP_TURNS:
                        times[way] += found
            rows.append(_judged(size, times))
    return {"rounds": rounds, "seed": seed, "rows": rows}


def _judged(size: int, times: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"bytes": size}
    for way in METHODS:
        median, p95 = np.percentile(times[way], (50, 95))
        row[way] = {"median_s": float(median), "p95_s": float(p95)}
    for key, (ratio, extra_s) in (("median_s", MEDIAN_GOAL), ("p95_s", P95_GOAL)):
        bare_s, ours_s = row["bare"][key], row["ours"][key]
        row[f"{key}_ratio"] = ours_s / bare_s
        row[f"{key}_is_met"] = bool(ours_s <= max(ratio * bare_s, bare_s + extra_s))
    return row


@click.command()
@click.option("--rounds", default=300, show_default=True, help="Echoes of each way and size.")
@click.option("--seed", default=1, show_default=True, help="Seed of the order.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures here too.")
@click.option("--serve", type=click.Choice(METHODS), hidden=True)
@click.option("--pair", type=click.Choice(METHODS), hidden=True)
def main(rounds: int, seed: int, path: Path | None, serve: str | None, pair: str | None) -> None:
    """Round trips of tensors on loopback: ours beside raw TCP, a bare stream and a bytes field."""
    if serve is not None:
        if serve not in ("tcp", "plain"):
            keep_freed_memory()
        asyncio.run(_serve(serve))
        return
    if pair is not None:
        _run_pair(pair)
        return
    found = measure(rounds, seed=seed)
    print(f"{'bytes':>9}  " + "  ".join(f"{method + ' ms (p95)':>16}" for method in METHODS) + "  ours/bare (p95)")
    for row in found["rows"]:
        cells = (f"{row[m]['median_s'] * 1e3:7.3f} ({row[m]['p95_s'] * 1e3:6.3f})" for m in METHODS)
        verdict = "met" if row["median_s_is_met"] and row["p95_s_is_met"] else "MISSED"
        ratios = f"{row['median_s_ratio']:.2f} ({row['p95_s_ratio']:.2f})"
        print(f"{row['bytes']:>9}  " + "  ".join(cells) + f"  {ratios} {verdict}")
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
