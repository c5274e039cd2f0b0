"""A twin that says what a test tells it, and a program that submits frames to a device; device and edge are real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample
from twinsplit.model.manifest import Manifest, manifest_digest
from twinsplit.plan import NO_REPRESENTATION, QUEUE_LEVELS, Contingency, Plan
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc, twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import backlog_to_wire, plan_to_wire
from twinsplit.transport.server import start_server
from twinsplit.types import Decision

EDGE_ID = "edge"
LEASE_S = 60.0
PATIENCE_S = 40.0


class ScriptedTwin(twin_pb2_grpc.TwinServiceServicer):
    """Takes one device, keeps what it says, and says what a test wants."""

    def __init__(self) -> None:
        self.heard: list[twin_pb2.AttachDeviceRequest] = []
        self._has_news = asyncio.Condition()
        self._to_say: asyncio.Queue[twin_pb2.AttachDeviceResponse] = asyncio.Queue()
        self._plan_ids = 0

    async def AttachDevice(self, requests: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        speaker = asyncio.ensure_future(self._speak(context))
        try:
            while isinstance(message := await context.read(), twin_pb2.AttachDeviceRequest):
                if message.WhichOneof("kind") == "hello":
                    welcome = twin_pb2.Welcome(heartbeat_s=5.0)
                    await context.write(twin_pb2.AttachDeviceResponse(lease_s=LEASE_S, welcome=welcome))
                async with self._has_news:
                    self.heard.append(message)
                    self._has_news.notify_all()
        finally:
            speaker.cancel()

    async def hear(self, kind: str, **wanted: Any) -> Any:
        """The first message of ``kind`` with these fields; waits for it."""

        def found() -> Any:
            for message in self.heard:
                said = getattr(message, kind)
                if message.WhichOneof("kind") == kind and all(getattr(said, k) == v for k, v in wanted.items()):
                    return said
            return None

        async with self._has_news:
            await asyncio.wait_for(self._has_news.wait_for(lambda: found() is not None), PATIENCE_S)
        return found()

    async def send_plan(self, plan: Plan, backlog_s: float = 0.0) -> int:
        """Send ``plan`` under a new id; the id."""
        self._plan_ids += 1
        now_s = time.monotonic()
        message = plan_to_wire(plan, BacklogState(backlog_s, now_s), now_s)
        message.plan_id = self._plan_ids
        await self._to_say.put(twin_pb2.AttachDeviceResponse(lease_s=LEASE_S, plan=message))
        return self._plan_ids

    async def send_backlog(self, backlog_s: float) -> None:
        """Send a backlog update; ``backlog_s`` does not drain within a test."""
        now_s = time.monotonic()
        backlog = backlog_to_wire(BacklogState(backlog_s, now_s, mean_s=backlog_s, time_constant_s=1e3), now_s)
        update = twin_pb2.BacklogUpdate(backlog=backlog)
        await self._to_say.put(twin_pb2.AttachDeviceResponse(lease_s=LEASE_S, backlog=update))

    async def _speak(self, context: Any) -> None:
        while True:
            await context.write(await self._to_say.get())


@contextlib.asynccontextmanager
async def scripted_twin() -> AsyncIterator[tuple[ScriptedTwin, str]]:
    """The twin and its address."""
    twin = ScriptedTwin()
    server = await start_server(
        lambda grpc_server: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, grpc_server), f"{HOST}:0"
    )
    try:
        yield twin, server.address
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def running(*services: ServiceProcess) -> AsyncIterator[None]:
    """Start them and wait until they are ready; stop them whatever happens."""
    try:
        for service in services:
            service.start()
        for service in services:
            await asyncio.to_thread(service.wait_until_ready)
        yield
    finally:
        for service in services:
            service.ask_to_stop()
        for service in services:
            await asyncio.to_thread(service.stop)


def edge_process(models: Path, folder: Path, *flags: str) -> tuple[ServiceProcess, str]:
    """``python -m edge`` without a twin, and its address."""
    port, http_port = free_ports(2)
    arguments = ["-m", "edge", f"--models={models}", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"]
    return ServiceProcess("edge", [*arguments, "--drain-s=0", *flags], folder, http_port), f"{HOST}:{port}"


def device_process(model: Path, twin: str, edge: str, folder: Path, *flags: str) -> tuple[ServiceProcess, str]:
    """``python -m device`` that takes submitted frames, and its address."""
    port, http_port = free_ports(2)
    arguments = [
        *("-m", "device", "--id=device", f"--model={model}", f"--twin={twin}", f"--edge={edge}", "--source=submit"),
        # Where an offload is too late is not what these tests ask.
        *(f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}", "--drain-s=0", "--answer-timeout-s=20"),
    ]
    return ServiceProcess("device", [*arguments, *flags], folder, http_port), f"{HOST}:{port}"


async def edge_connected(device: ServiceProcess) -> None:
    """Return when the device has measured the way to its edge, and so is connected to it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while sample(await asyncio.to_thread(device.metrics), "twinsplit_uplink_round_trip_seconds") is None:
        assert time.monotonic() < deadline_s, "the device does not connect to its edge"
        await asyncio.sleep(0.02)


class Submitter:
    """A local program with a stream to a device."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = device_pb2_grpc.DeviceServiceStub(channel).Submit()
        self._count = 0

    async def submit(self, frame: bytes) -> dict[str, Any]:
        """One frame in, its task as the JSON-lines sink would have it."""
        await self.send(frame)
        return await self.answer()

    async def send(self, frame: bytes) -> None:
        self._count += 1
        await self._call.write(device_pb2.SubmitRequest(request_id=self._count, data=frame))

    async def answer(self) -> dict[str, Any]:
        response = await asyncio.wait_for(self._call.read(), PATIENCE_S)
        assert response is not grpc.aio.EOF, "the device ended the stream"
        assert not response.HasField("error"), response.error.text
        task: dict[str, Any] = json.loads(response.task_json)
        return task


@contextlib.asynccontextmanager
async def submitting(address: str) -> AsyncIterator[Submitter]:
    """A program that submits frames to the device at ``address``."""
    async with open_channel(address) as channel:
        yield Submitter(channel)


def plan_for(
    manifest: Manifest,
    manifest_bytes: bytes,
    edge: str,
    decisions: dict[int, Decision],
    *,
    representation: int = NO_REPRESENTATION,
    exits_run: Sequence[bool] | None = None,
    band_edges_s: tuple[float, ...] = (),
    bands: Sequence[int] | None = None,
) -> Plan:
    """A plan that takes ``decisions`` by epoch, whatever the evidence (an EXIT where there is some) and queue.

    Args:
        representation: of every payload of ``decisions``.
        bands: backlog bands in which the decisions hold; ``None``: all.
    """
    epochs = manifest.held_segments + 1
    shape = (epochs, manifest.evidence_count, QUEUE_LEVELS, len(band_edges_s) + 1)
    table = np.full(shape, Decision.CONTINUE, dtype=np.uint8)
    tensors, inputs = [NO_REPRESENTATION] * epochs, [NO_REPRESENTATION] * epochs
    where = list(range(len(band_edges_s) + 1)) if bands is None else list(bands)
    for epoch, decision in decisions.items():
        first_evidence = 1 if decision is Decision.EXIT else 0
        table[epoch, first_evidence:, :, where] = decision
        if decision is Decision.OFFLOAD_TENSOR:
            tensors[epoch] = representation
        if decision is Decision.OFFLOAD_INPUT:
            inputs[epoch] = representation
    return Plan(
        plan_id=1,
        model_digest=manifest_digest(manifest_bytes),
        rule="scripted",
        edge_id=EDGE_ID,
        edge_address=edge,
        exits_run=tuple(exits_run or (False,) * len(manifest.exits)),
        band_edges_s=band_edges_s,
        table=table,
        tensor_representations=tuple(tensors),
        input_representations=tuple(inputs),
        lease_s=LEASE_S,
        contingency=Contingency(exit_thresholds=(2.0,) * len(manifest.exits)),
    )
