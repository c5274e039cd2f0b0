"""Bad frames and bad plans to a real device: each refused by its name, and a good one right after is taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fuzz import bad_frames
from tests.fuzz.mutations import UNREADABLE, floats_in, floats_of
from tests.fuzz.refusals import wrong_about
from tests.integration.device_bench import running_device, until, write_network
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.rpc.v1 import device_pb2, twin_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


class RawTwin:
    """A twin that can say any bytes, and keeps what the device says."""

    def __init__(self) -> None:
        self.hellos = 0
        self.heard: asyncio.Queue[twin_pb2.AttachDeviceRequest] = asyncio.Queue()
        self.to_say: asyncio.Queue[bytes] = asyncio.Queue()
        self.address = ""

    def register(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            self._attach, request_deserializer=twin_pb2.AttachDeviceRequest.FromString
        )
        handlers = grpc.method_handlers_generic_handler("twinsplit.rpc.v1.TwinService", {"AttachDevice": handler})
        server.add_generic_rpc_handlers((handlers,))

    async def refusal(self, name: str) -> Any:
        """The next message of the device that is an error."""
        while True:
            try:
                message = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            except asyncio.TimeoutError:
                raise AssertionError(f"{name}: taken") from None
            if message.WhichOneof("kind") == "error":
                return message.error

    async def _attach(self, requests: Any, context: Any) -> None:
        # Each stream has its own, or the speaker of one that has just ended would take what is meant for the next.
        self.to_say = asyncio.Queue()
        speaker = asyncio.ensure_future(self._speak(context, self.to_say))
        try:
            while isinstance(message := await context.read(), twin_pb2.AttachDeviceRequest):
                if message.WhichOneof("kind") == "hello":
                    welcome = bad_frames.twin_says(welcome=twin_pb2.Welcome(heartbeat_s=5.0))
                    await self.to_say.put(welcome.SerializeToString())
                    self.hellos += 1
                await self.heard.put(message)
        finally:
            speaker.cancel()

    async def _speak(self, context: Any, to_say: asyncio.Queue[bytes]) -> None:
        while True:
            await context.write(await to_say.get())


@asynccontextmanager
async def raw_twin() -> AsyncIterator[RawTwin]:
    twin = RawTwin()
    server = await start_server(twin.register, "127.0.0.1:0")
    twin.address = server.address
    try:
        yield twin
    finally:
        await server.stop()


@pytest.mark.slow
async def test_each_bad_frame_is_refused_by_its_name_and_a_good_one_after_it_is_answered(model: Path) -> None:
    wrong, good = [], bad_frames.picture()
    async with running_device(model) as bench, open_channel(bench.device.address) as channel:
        call = channel.stream_stream(
            "/twinsplit.rpc.v1.DeviceService/Submit", response_deserializer=device_pb2.SubmitResponse.FromString
        )()
        for request_id, bad in enumerate(bad_frames.bad_submissions(), 1000):
            await call.write(bad.data)
            refusal = await asyncio.wait_for(call.read(), PATIENCE_S)
            wrong += wrong_about(bad, [refusal.error] if refusal.HasField("error") else [])
            await call.write(bad_frames.submission(request_id, good))
            answer = await asyncio.wait_for(call.read(), PATIENCE_S)
            assert (answer.request_id, answer.HasField("error")) == (request_id, False), bad.name
            assert json.loads(answer.task_json)["label"], bad.name
        call.cancel()
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
async def test_each_bad_message_of_a_twin_is_refused_by_its_name_and_a_good_plan_after_it_stands(model: Path) -> None:
    digest, wrong = manifest_digest(read_manifest(model)[1]), []
    async with raw_twin() as twin, running_device(model, twin=twin.address) as bench:
        await until(lambda: twin.hellos == 1)
        for plan_id, bad in enumerate(bad_frames.bad_twin_messages(digest), 1000):
            await twin.to_say.put(bad.data)
            good = bad_frames.twin_says(plan=bad_frames.plan(digest, plan_id))
            await twin.to_say.put(good.SerializeToString())
            refusal = await twin.refusal(bad.name)
            wrong += wrong_about(bad, [refusal])
            await until(lambda plan_id=plan_id: (bench.device.status()["plan"] or {}).get("plan_id") == plan_id)
        assert twin.hellos == 1, "the stream went on"
        assert twin.heard.empty() or all(m.WhichOneof("kind") != "error" for m in twin.heard._queue)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
async def test_a_twin_whose_bytes_are_no_message_loses_the_stream_and_the_device_attaches_again(model: Path) -> None:
    digest = manifest_digest(read_manifest(model)[1])
    whole = bad_frames.twin_says(plan=bad_frames.plan(digest, 1)).SerializeToString()
    async with raw_twin() as twin, running_device(model, twin=twin.address) as bench:
        for count, mutate in enumerate(UNREADABLE.values(), 1):
            await until(lambda count=count: twin.hellos == count)
            await twin.to_say.put(mutate(whole))
        await until(lambda: twin.hellos == 1 + len(UNREADABLE))
        await twin.to_say.put(whole)
        await until(lambda: (bench.device.status()["plan"] or {}).get("plan_id") == 1)


def test_every_number_that_a_twin_can_send_is_tried() -> None:
    found = floats_in(bad_frames.twin_says(plan=bad_frames.plan("ab" * 32, 1)))
    of_plans = floats_of(twin_pb2.AttachDeviceResponse.DESCRIPTOR)
    elsewhere = {"ListedEdge.tail_s", "Welcome.heartbeat_s", *bad_frames.TOLERATED}
    assert found == of_plans - elsewhere
