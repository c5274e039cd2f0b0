"""Back-pressure: an edge that answers pings and takes streams but reads nothing never grows a device without bound."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from device.task import Offload
from device.uplink import Uplink
from tests.integration.device_bench import running_device, until, write_frames, write_network
from tests.unit.device.made_up_device import offload_at
from twinsplit.clock import SystemClock
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.tensor import encode
from twinsplit.transport.convert import digest_to_wire
from twinsplit.transport.server import start_server
from twinsplit.transport.tail_stream import InferRequest, register_edge_service
from twinsplit.types import Outcome, Payload, Reason

pytestmark = pytest.mark.slow

KEPT = 8
PAYLOAD_BYTES = 256 << 10
TASKS = 600
"""150 MB in all; a device that kept what it has given up would hold them."""
MESSAGE_BYTES = 1 << 20
WRITER_PATIENCE_S = 0.3
"""Enough for a writer that is not held up to write all that waits."""
MOST_GROWTH_BYTES = 60 << 20
"""Far more than gRPC's windows and its buffers hold, far less than all payloads."""


class StalledEdge:
    """Takes streams and reads nothing from them until it is let go."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self.streams = 0
        self.read: list[InferRequest] = []
        self.go = asyncio.Event()

    async def infer(self, _requests: object, context: Any) -> None:
        self.streams += 1
        await self.go.wait()
        while isinstance(request := await context.read(), InferRequest):
            self.read.append(InferRequest(request.request_id, is_cancel=request.is_cancel))

    async def describe(self, _request: object, _context: object) -> edge_pb2.DescribeResponse:
        return edge_pb2.DescribeResponse(edge_id="stalled", model_digests=[digest_to_wire(self._digest)])


@asynccontextmanager
async def stalled_edge(digest: str) -> AsyncIterator[tuple[StalledEdge, str]]:
    edge = StalledEdge(digest)
    server = await start_server(
        lambda each: register_edge_service(each, infer=edge.infer, describe=edge.describe),
        "127.0.0.1:0",
        max_message_bytes=MESSAGE_BYTES,
    )
    try:
        yield edge, server.address
    finally:
        edge.go.set()
        await server.stop()


class Listener:
    """What an uplink tells."""

    def __init__(self) -> None:
        self.is_connected = False
        self.losses = 0

    def responded(self, address: str, response: object) -> None:
        raise AssertionError("a stalled edge does not answer")

    def connected(self, address: str, round_trip_s: float) -> None:
        self.is_connected = True

    def disconnected(self, address: str) -> None:
        self.losses += self.is_connected
        self.is_connected = False


async def test_payloads_given_up_are_let_go_and_never_reach_the_edge() -> None:
    digest, listener = "11" * 32, Listener()
    values = np.random.default_rng(1).standard_normal((1, PAYLOAD_BYTES // 4), dtype=np.float32)
    let_go: list[int] = []
    most_living = 0
    async with stalled_edge(digest) as (edge, address):
        uplink = Uplink(digest, listener, SystemClock(), SignallingCount(), max_message_bytes=MESSAGE_BYTES)
        offload = Offload(Payload.TENSOR, 1, 0, address)
        uplink.prepare(address)
        await until(lambda: listener.is_connected and edge.streams == 1)
        process = psutil.Process()
        before_bytes = process.memory_info().rss
        for task_id in range(1, TASKS + 1):
            payload = encode(values, "float32")
            owner = np.frombuffer(bytes(payload.data), np.uint8)
            weakref.finalize(owner, let_go.append, task_id)
            uplink.send(task_id, offload, payload._replace(data=owner.data))
            del owner, payload
            if task_id > KEPT:
                uplink.cancel(task_id - KEPT, offload)
            await asyncio.sleep(0.0005)
            most_living = max(most_living, task_id - len(let_go))
        await asyncio.sleep(WRITER_PATIENCE_S)
        grown_bytes = process.memory_info().rss - before_bytes
        assert TASKS - len(let_go) >= KEPT - 1, "nothing had to wait: the edge did not stall"
        assert most_living <= KEPT + 2, "one more is being written, and one was just made"
        assert grown_bytes < MOST_GROWTH_BYTES
        edge.go.set()
        still_wanted = {(task_id, False) for task_id in range(TASKS - KEPT + 1, TASKS + 1)}
        await until(lambda: still_wanted <= {(each.request_id, each.is_cancel) for each in edge.read})
        sent = {each.request_id for each in edge.read if not each.is_cancel}
        cancelled = {each.request_id for each in edge.read if each.is_cancel}
        assert cancelled == sent - {task_id for task_id, _ in still_wanted}
        assert len(sent) < TASKS / 2
        assert listener.losses == 0
        await uplink.close()


async def test_a_device_with_a_stalled_edge_keeps_within_its_bounds_and_answers_by_itself(tmp_path: Path) -> None:
    model = write_network(tmp_path / "model")
    frames = sorted(write_frames(tmp_path / "frames").iterdir()) * 12
    _, manifest_bytes = read_manifest(model)
    bounds = {"kept_tensors": 2, "answer_timeout_s": 0.2, "queue_capacity": 16}
    async with (
        stalled_edge(manifest_digest(manifest_bytes)) as (edge, address),
        running_device(model, **bounds) as bench,
    ):
        bench.plan(offload_at(1), address, representation=0)
        await until(lambda: edge.streams == 1)
        engine = bench.device.shell.engine
        most_kept = most_waiting = 0
        submitting = asyncio.ensure_future(bench.submit(frames))
        while len(bench.records) < len(frames):
            kept, waiting = engine.look(lambda pipeline, _: (pipeline.kept_tensors, pipeline.queue_length))
            most_kept, most_waiting = max(most_kept, kept), max(most_waiting, waiting)
            await asyncio.sleep(0.002)
        await submitting
    assert sorted(record.task_id for record in bench.records) == list(range(1, len(frames) + 1))
    reasons = {record.reason for record in bench.records}
    assert Reason.EDGE_TOO_LATE in reasons, "the edge did not stall"
    assert {record.outcome for record in bench.records} <= {Outcome.DEVICE, Outcome.DROPPED}
    assert 1 <= most_kept <= bounds["kept_tensors"]
    assert most_waiting <= bounds["queue_capacity"] + bounds["kept_tensors"]
    assert not edge.read
