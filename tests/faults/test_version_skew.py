"""Services one minor version apart, over real streams: one says what the other does not know, or less than it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from benchmarks.testbed.process import HOST
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.integration.test_twin_streams import (
    MANIFEST_BYTES,
    Peer,
    attached_edge,
    hello,
    running,
)
from tests.integration.testbed_peers import (
    ScriptedTwin,
    device_process,
    edge_connected,
    edge_process,
    plan_for,
    submitting,
)
from tests.integration.testbed_peers import running as processes
from tests.unit.transport.test_version_skew import NEWER, messages_within
from twinsplit.model.manifest import read_manifest
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server
from twinsplit.types import Decision

pytestmark = pytest.mark.slow

SAID_SINCE_THE_FIRST = {"device_id", "model_digest", "segment_s", "exit_s", "goodput_bytes_per_s", "round_trip_s"}
"""What the hello of the first version has; everything else came later or may be missing."""


def as_of_an_older_version(message: twin_pb2.DeviceHello) -> twin_pb2.DeviceHello:
    for field, _ in message.ListFields():
        if field.name not in SAID_SINCE_THE_FIRST:
            message.ClearField(field.name)
    return message


def as_of_a_newer_version(message: Any) -> Any:
    """``message`` with fields that this version does not know, in it and in everything inside."""
    for inner in list(messages_within(message)):
        inner.MergeFromString(NEWER)
    return message


def ended_task(task_id: int) -> twin_pb2.EndedTask:
    return twin_pb2.EndedTask(
        task_id=task_id,
        outcome=twin_pb2.OUTCOME_DEVICE,
        reason="not-worth-it",
        started_age_s=0.31,
        arrived_age_s=0.31,
        epoch_s=[0.11, 0.21, 0.31],
        stop_epoch=3,
        evidence=1,
    )


@pytest.mark.parametrize("skewed", [as_of_an_older_version, as_of_a_newer_version])
async def test_a_twin_plans_for_and_books_a_device_of_another_version(
    tmp_path: Path, skewed: Callable[[Any], Any]
) -> None:
    is_newer = skewed is as_of_a_newer_version
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        device = Peer(channel)
        await device.say(hello=skewed(hello(device_id="cam")))
        welcome = await device.hear("welcome")
        if welcome.needs_manifest:
            await device.say(manifest=twin_pb2.ManifestUpload(manifest_json=MANIFEST_BYTES))
        assert (await device.hear("plan")).plan_id > 0
        report = twin_pb2.TaskReport(ended=[ended_task(1)])
        await device.say(task=as_of_a_newer_version(report) if is_newer else report)
        if is_newer:
            # A kind of message that this twin has never heard of is refused by name, and the stream goes on.
            await device.call.write(as_of_a_newer_version(twin_pb2.AttachDeviceRequest()))
            assert (await device.hear("error")).text
        await device.say(poll=twin_pb2.PollRequest(task_id=2))
        assert (await device.hear("poll")).task_id == 2
        assert twin.exchange.core.devices["cam"].is_attached


class NewerTwin(ScriptedTwin):
    """Adds to everything that it says what a device of this version does not know."""

    async def _speak(self, context: Any) -> None:
        # Not before the welcome: a stream takes one message at a time.
        await self.hear("hello")
        await context.write(self._unknown())
        while True:
            message: Message = as_of_a_newer_version(await self._to_say.get())
            await context.write(message)
            await context.write(self._unknown())

    @staticmethod
    def _unknown() -> twin_pb2.AttachDeviceResponse:
        """A kind of message that no version knows, which renews the lease like every other."""
        message = twin_pb2.AttachDeviceResponse(lease_s=60.0)
        message.MergeFromString(NEWER)
        return message


@asynccontextmanager
async def newer_twin() -> AsyncIterator[tuple[NewerTwin, str]]:
    """The twin and its address."""
    twin = NewerTwin()
    server = await start_server(
        lambda grpc_server: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, grpc_server), f"{HOST}:0"
    )
    try:
        yield twin, server.address
    finally:
        await server.stop()


async def test_a_device_obeys_a_twin_of_a_newer_version(tmp_path: Path) -> None:
    manifest, data = read_manifest(SHIPPED_MODEL)
    frame = next((SHIPPED_MODEL / "frames").glob("*.jpg")).read_bytes()
    representation = next(i for i, entry in enumerate(manifest.cuts[1].representations) if entry.is_offered)
    edge, edge_address = edge_process(SHIPPED_MODEL, tmp_path)
    async with newer_twin() as (twin, twin_address):
        device, device_address = device_process(
            SHIPPED_MODEL, twin_address, edge_address, tmp_path, "--answer-timeout-s=60"
        )
        async with processes(edge, device), submitting(device_address) as program:
            await twin.hear("hello")
            await edge_connected(device)
            offload = {1: Decision.OFFLOAD_TENSOR}
            plan = plan_for(manifest, data, edge_address, offload, representation=representation)
            plan_id = await twin.send_plan(plan)
            task: dict[str, Any] = {"plan_id": None}
            while task["plan_id"] != plan_id:
                task = await program.submit(frame)
            assert (task["outcome"], task["stop_epoch"]) == ("edge", 1)
            # A decision that this version does not know is refused by name, and the older plan stands.
            await twin.send_plan(replace(plan, table=np.full_like(plan.table, 9)))
            refusal = await twin.hear("error")
            assert refusal.text
            task = await program.submit(frame)
            assert (task["outcome"], task["plan_id"]) == ("edge", plan_id)
