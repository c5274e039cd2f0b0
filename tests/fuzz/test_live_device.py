"""Bad frames and bad plans to a real device: each refused by its name, and a good one right after is taken."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.fuzz import bad_frames
from tests.fuzz.mutations import IMPOSSIBLE, UNREADABLE, floats_in, floats_of
from tests.fuzz.raw_twin import PATIENCE_S, raw_twin
from tests.fuzz.refusals import wrong_about
from tests.integration.device_bench import running_device, until, write_network
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.rpc.v1 import device_pb2, twin_pb2
from twinsplit.transport.channel import open_channel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


WELCOME = bad_frames.twin_says(welcome=twin_pb2.Welcome(heartbeat_s=5.0)).SerializeToString()


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
    async with raw_twin("AttachDevice", WELCOME) as twin, running_device(model, twin=twin.address) as bench:
        await until(lambda: twin.hellos == 1)
        for plan_id, bad in enumerate(bad_frames.bad_twin_messages(digest), 1000):
            await twin.to_say.put(bad.data)
            good = bad_frames.twin_says(plan=bad_frames.plan(digest, plan_id))
            await twin.to_say.put(good.SerializeToString())
            refusal = await twin.hears("error", bad.name)
            wrong += wrong_about(bad, [refusal])
            await until(lambda plan_id=plan_id: (bench.device.status()["plan"] or {}).get("plan_id") == plan_id)
        assert twin.hellos == 1, "the stream went on"
        assert twin.heard.empty() or all(m.WhichOneof("kind") != "error" for m in twin.heard._queue)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("heartbeat_s", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_a_welcome_that_cannot_be_attaches_nobody_and_the_next_one_does(model: Path, heartbeat_s: float) -> None:
    bad = bad_frames.twin_says(welcome=twin_pb2.Welcome(heartbeat_s=heartbeat_s, needs_manifest=True))
    good = bad_frames.twin_says(welcome=twin_pb2.Welcome(heartbeat_s=0.05))
    async with (
        raw_twin("AttachDevice", bad.SerializeToString(), good.SerializeToString()) as twin,
        running_device(model, twin=twin.address) as bench,
    ):
        refusal = await twin.hears("error")
        assert "welcome.heartbeat_s" in refusal.text
        for _ in range(3):
            await twin.hears("heartbeat")
        link = bench.device.shell.link
        assert link is not None
        assert (link.is_attached, link.attached_times, twin.hellos) == (True, 1, 1)


async def test_what_is_refused_renews_no_lease(model: Path) -> None:
    bad = twin_pb2.AttachDeviceResponse(lease_s=60.0, plan=bad_frames.plan("ab" * 32, 1))
    async with (
        raw_twin("AttachDevice", twin_pb2.AttachDeviceResponse(welcome=twin_pb2.Welcome()).SerializeToString()) as twin,
        running_device(model, twin=twin.address) as bench,
    ):
        await until(lambda: twin.hellos == 1)
        renewed: list[float] = []
        bench.device.shell.lease_renewed = renewed.append
        await twin.to_say.put(bad.SerializeToString())
        await twin.to_say.put(twin_pb2.AttachDeviceResponse(lease_s=61.0).SerializeToString())
        await twin.hears("error")
        await until(lambda: bool(renewed))
        assert renewed == [61.0]


@pytest.mark.slow
async def test_a_twin_whose_bytes_are_no_message_loses_the_stream_and_the_device_attaches_again(model: Path) -> None:
    digest = manifest_digest(read_manifest(model)[1])
    whole = bad_frames.twin_says(plan=bad_frames.plan(digest, 1)).SerializeToString()
    async with raw_twin("AttachDevice", WELCOME) as twin, running_device(model, twin=twin.address) as bench:
        for count, mutate in enumerate(UNREADABLE.values(), 1):
            await until(lambda count=count: twin.hellos == count)
            await twin.to_say.put(mutate(whole))
        await until(lambda: twin.hellos == 1 + len(UNREADABLE))
        await twin.to_say.put(whole)
        await until(lambda: (bench.device.status()["plan"] or {}).get("plan_id") == 1)


def test_every_number_that_a_twin_can_send_is_tried() -> None:
    plans = (make("ab" * 32, 1) for make in (bad_frames.plan, bad_frames.plan_by_uplink))
    found = set().union(*(floats_in(bad_frames.twin_says(plan=plan)) for plan in plans))
    of_plans = floats_of(twin_pb2.AttachDeviceResponse.DESCRIPTOR)
    elsewhere = {"ListedEdge.tail_s", *bad_frames.TOLERATED}
    assert found | floats_in(bad_frames.welcome()) == of_plans - elsewhere
