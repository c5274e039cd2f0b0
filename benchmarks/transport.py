"""Device to edge and back on loopback: the tail stream beside three baselines, in two processes (design section 10).

    python -m benchmarks.transport [--rounds 300] [--json FILE] [--default-malloc]

For each payload size every round times one echo of each way, in an order drawn anew, so that whatever disturbs the
machine disturbs all of them alike:

- ``tcp``: blocking sockets, the length before the payload;
- ``bare``: a ``grpc.aio`` bidirectional stream of the same raw bytes, with identity serializers;
- ``field``: the same stream of ordinary protobuf messages with a bytes field;
- ``ours``: a float32 tensor encoded, sent as InferRequest, decoded at the edge, encoded, sent back as InferResponse
  with a backlog, and decoded.

Both processes set the malloc thresholds that the services set (``--default-malloc`` leaves glibc's own), and ours is
judged against ``bare`` with the very same thresholds. What a stream costs without anything of twinsplit is shown by

- ``plain``: as ``bare``, in two processes of its own with glibc's thresholds, half before and half after the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

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
WAYS = ("tcp", "bare", "field", "ours")
"""Timed in one pair of processes, in random order."""
METHODS = ("tcp", "plain", "bare", "field", "ours")
WARM_UP = 20
MESSAGE_BYTES = 8 << 20
BARE_SERVICE = "twinsplit.benchmark.Bare"
DIGEST = "00" * 32
MEDIAN_GOAL = (1.15, 0.10e-3)
P95_GOAL = (1.25, 0.20e-3)
"""(Ratio to the bare stream, seconds above it): the larger one counts."""

_EOF: Any = vars(grpc.aio)["EOF"]


async def _serve(is_default_malloc: bool) -> None:
    if not is_default_malloc:
        keep_freed_memory()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_tcp_echo, args=(listener,), daemon=True).start()
    bare = grpc.aio.server(options=server_options(MESSAGE_BYTES))
    handlers = {
        "Raw": grpc.stream_stream_rpc_method_handler(_echo_raw),
        "Field": grpc.stream_stream_rpc_method_handler(
            _echo_field,
            request_deserializer=edge_pb2.InferRequest.FromString,
            response_serializer=edge_pb2.InferResponse.SerializeToString,
        ),
    }
    bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(BARE_SERVICE, handlers),))
    bare_port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    ours = await start_server(
        lambda server: register_edge_service(server, infer=_echo_tail, describe=_describe),
        "127.0.0.1:0",
        max_message_bytes=MESSAGE_BYTES,
    )
    print(
        json.dumps({"tcp": listener.getsockname()[1], "bare": f"127.0.0.1:{bare_port}", "ours": ours.address}),
        flush=True,
    )
    # The parent's end of the pipe closes when it has finished or died.
    await asyncio.to_thread(sys.stdin.read)
    await ours.stop()
    await bare.stop(None)


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
    """The four ways to send one payload and get it back."""

    def __init__(self, ports: dict[str, Any]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", ports["tcp"]))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bare = grpc.aio.insecure_channel(ports["bare"], options=channel_options(MESSAGE_BYTES))
        self._ours = open_channel(ports["ours"], max_message_bytes=MESSAGE_BYTES)
        bare: Any = self._bare
        self._raw_call: Any = bare.stream_stream(f"/{BARE_SERVICE}/Raw")()
        self._field_call: Any = bare.stream_stream(
            f"/{BARE_SERVICE}/Field",
            request_serializer=edge_pb2.InferRequest.SerializeToString,
            response_deserializer=edge_pb2.InferResponse.FromString,
        )()
        self._tail_call = infer_call(self._ours)
        self._count = 0

    async def close(self) -> None:
        self._socket.close()
        for call in (self._raw_call, self._field_call, self._tail_call):
            call.cancel()
        await self._bare.close(None)
        await self._ours.close(None)

    async def tcp(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        self._socket.sendall(struct.pack("<I", len(data)))
        self._socket.sendall(data)
        answer = _receive(self._socket)
        assert answer is not None
        assert len(answer) == len(data)

    async def bare(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        await self._raw_call.write(data)
        answer = await self._raw_call.read()
        assert len(answer) == len(data)

    async def field(self, _tensor: NDArray[np.float32], data: bytes) -> None:
        self._count += 1
        await self._field_call.write(
            edge_pb2.InferRequest(request_id=self._count, model_digest=bytes(32), cut=1, budget_s=1.0, data=data)
        )
        answer = await self._field_call.read()
        assert len(answer.data) == len(data)

    async def ours(self, tensor: NDArray[np.float32], _data: bytes) -> None:
        self._count += 1
        await self._tail_call.write(InferRequest(self._count, DIGEST, 1, 1.0, tensor=encode(tensor, "float32")))
        answer: Any = await self._tail_call.read()
        decoded = decode(answer.tensor.header, answer.tensor.data, 1 << 24)
        assert decoded.shape == tensor.shape


async def _measure(
    ports: dict[str, Any], rounds: int, seed: int, ways: Sequence[str]
) -> dict[str, dict[int, list[float]]]:
    device = _Device(ports)
    draw = random.Random(seed)
    values = np.random.default_rng(seed)
    times: dict[str, dict[int, list[float]]] = {way: {} for way in ways}
    order = list(ways)
    for size in SIZES:
        tensor = values.standard_normal((1, size // 4), dtype=np.float32)
        data = tensor.tobytes()
        for number in range(WARM_UP + rounds):
            draw.shuffle(order)
            for method in order:
                began_s = time.perf_counter()
                await getattr(device, method)(tensor, data)
                if number >= WARM_UP:
                    times[method].setdefault(size, []).append(time.perf_counter() - began_s)
    await device.close()
    return times


def _timed(rounds: int, seed: int, ways: Sequence[str], is_default_malloc: bool) -> dict[str, dict[int, list[float]]]:
    command = [sys.executable, "-m", "benchmarks.transport", "--serve"]
    with subprocess.Popen(
        [*command, *(["--default-malloc"] if is_default_malloc else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as edge:
        assert edge.stdout is not None
        return asyncio.run(_measure(json.loads(edge.stdout.readline()), rounds, seed, ways))


def _timed_plain(rounds: int, seed: int) -> dict[int, list[float]]:
    # The thresholds of this process are set for good, so the device's side needs a process of its own too.
    command = [sys.executable, "-m", "benchmarks.transport", "--plain", "--rounds", str(rounds), "--seed", str(seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {int(size): times for size, times in json.loads(done.stdout).items()}


def measure(rounds: int, *, seed: int = 1, is_default_malloc: bool = False) -> dict[str, Any]:
    """Run all pairs of processes; medians, 95th percentiles (seconds) and whether the goals are met, by size."""
    half = (rounds + 1) // 2
    before = _timed_plain(half, seed)
    if not is_default_malloc:
        keep_freed_memory()
    times = _timed(rounds, seed, WAYS, is_default_malloc)
    after = _timed_plain(half, seed + 1)
    times["plain"] = {size: before[size] + after[size] for size in SIZES}
    rows = []
    for size in SIZES:
        row: dict[str, Any] = {"bytes": size}
        for method in METHODS:
            median, p95 = np.percentile(times[method][size], (50, 95))
            row[method] = {"median_s": float(median), "p95_s": float(p95)}
        for key, (ratio, extra_s) in (("median_s", MEDIAN_GOAL), ("p95_s", P95_GOAL)):
            bare_s, ours_s = row["bare"][key], row["ours"][key]
            row[f"{key}_ratio"] = ours_s / bare_s
            row[f"{key}_is_met"] = bool(ours_s <= max(ratio * bare_s, bare_s + extra_s))
        rows.append(row)
    return {"rounds": rounds, "seed": seed, "default_malloc": is_default_malloc, "rows": rows}


@click.command()
@click.option("--rounds", default=300, show_default=True, help="Echoes of each method and size.")
@click.option("--seed", default=1, show_default=True, help="Seed of order and values.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures here too.")
@click.option("--default-malloc", is_flag=True, help="Leave glibc's malloc thresholds alone.")
@click.option("--serve", is_flag=True, hidden=True)
@click.option("--plain", is_flag=True, hidden=True)
def main(rounds: int, seed: int, path: Path | None, default_malloc: bool, serve: bool, plain: bool) -> None:
    """Round trips of tensors on loopback: ours beside raw TCP, a bare stream and a bytes field."""
    if serve:
        asyncio.run(_serve(default_malloc))
        return
    if plain:
        print(json.dumps(_timed(rounds, seed, ("bare",), True)["bare"]))
        return
    found = measure(rounds, seed=seed, is_default_malloc=default_malloc)
    print(f"{'bytes':>9}  " + "  ".join(f"{method + ' ms (p95)':>16}" for method in METHODS) + "  ours/bare (p95)")
    for row in found["rows"]:
        cells = (f"{row[m]['median_s'] * 1e3:7.3f} ({row[m]['p95_s'] * 1e3:6.3f})" for m in METHODS)
        verdict = "met" if row["median_s_is_met"] and row["p95_s_is_met"] else "MISSED"
        print(
            f"{row['bytes']:>9}  "
            + "  ".join(cells)
            + f"  {row['median_s_ratio']:.2f} ({row['p95_s_ratio']:.2f}) {verdict}"
        )
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
