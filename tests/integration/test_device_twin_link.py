"""The device's stream to a twin that a test speaks for: real gRPC, a real device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.device_bench import (
    ANY_PORT,
    PATIENCE_S,
    DeviceBench,
    running_device,
    until,
    write_frames,
    write_network,
    write_profile,
)
from tests.unit.device.made_up_device import offload_at, plan_of
from twinsplit.model.manifest import read_manifest
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import errors_pb2, twin_pb2, twin_pb2_grpc
from twinsplit.transport.convert import backlog_to_wire, digest_to_wire, plan_to_wire
from twinsplit.transport.server import start_server
from twinsplit.types import Decision, Outcome, Reason

pytestmark = pytest.mark.slow


class SpokenTwin(twin_pb2_grpc.TwinServiceServicer):
    """Welcomes devices, keeps what they say, and says what a test wants."""

    def __init__(self) -> None:
        self.heard: list[twin_pb2.AttachDeviceRequest] = []
        self.server: Any = None
        self.address = ""
        self.needs_manifest = False
        self.heartbeat_s = 5.0
        self.lease_s = 60.0
        self.poll_decision: int | None = None
        self.is_welcoming = True
        self._contexts: list[Any] = []

    async def AttachDevice(self, requests: Any, context: Any) -> None:  # noqa: N802 - the name of the RPC
        self._contexts.append(context)
        async for request in requests:
            kind = request.WhichOneof("kind")
            self.heard.append(request)
            if kind == "hello" and self.is_welcoming:
                await self.say(welcome=self.welcome(request.hello))
            elif kind == "hello":
                error = errors_pb2.Error(code=errors_pb2.ERROR_CODE_BAD_MESSAGE, text="not this device")
                await self.say(error=error)
            elif kind == "poll" and self.poll_decision is not None:
                poll = request.poll
                answer = twin_pb2.PollResponse(task_id=poll.task_id, epoch=poll.epoch, decision=self.poll_decision)
                await self.say(poll=answer)

    def welcome(self, hello: twin_pb2.DeviceHello) -> twin_pb2.Welcome:
        """One of an older version, which numbers no attachments."""
        return twin_pb2.Welcome(needs_manifest=self.needs_manifest, heartbeat_s=self.heartbeat_s)

    async def say(self, **kind: Any) -> None:
        clock = twin_pb2.ClockEcho(echo_sent_s=self.heard[-1].clock.sent_s)
        await self._contexts[-1].write(twin_pb2.AttachDeviceResponse(clock=clock, lease_s=self.lease_s, **kind))

    def all(self, kind: str) -> list[Any]:
        return [getattr(message, kind) for message in self.heard if message.WhichOneof("kind") == kind]

    async def hears(self, kind: str, count: int = 1) -> list[Any]:
        await until(lambda: len(self.all(kind)) >= count)
        return self.all(kind)

    async def stop(self) -> None:
        await self.server.stop(0.0)


@asynccontextmanager
async def spoken_twin(
    listen: str = ANY_PORT, kind: type[SpokenTwin] = SpokenTwin, **changes: Any
) -> AsyncIterator[Any]:
    twin = kind()
    for name, value in changes.items():
        setattr(twin, name, value)
    twin.server = await start_server(lambda s: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, s), listen)
    twin.address = twin.server.address
    try:
        yield twin
    finally:
        await twin.stop()


def wire_plan(bench: DeviceBench, decide: Any, **changes: Any) -> twin_pb2.Plan:
    backlog_s, epoch = changes.pop("backlog_s", 0.0), changes.pop("attachment_epoch", 0)
    options: dict[str, Any] = {"thresholds": (2.0,), "lease_s": 60.0} | changes
    made = plan_of(bench.manifest, decide, **options)
    plan: Plan = replace(made, model_digest=bench.digest, attachment_epoch=epoch)
    return plan_to_wire(plan, BacklogState(backlog_s, 0.0, backlog_s), 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


async def test_the_device_says_who_it_is_and_sends_its_manifest_when_asked(model):
    manifest, data = read_manifest(model)
    async with (
        spoken_twin(needs_manifest=True) as twin,
        running_device(model, twin=twin.address, id="cam-7", edge="127.0.0.1:9", emulate_slowdown=2.0) as bench,
    ):
        (hello,) = await twin.hears("hello")
        (upload,) = await twin.hears("manifest")
        await twin.hears("heartbeat")
    assert (hello.device_id, hello.fixed_edge_address) == ("cam-7", "127.0.0.1:9")
    assert hello.model_digest == digest_to_wire(bench.digest)
    assert (len(hello.segment_s), len(hello.exit_s)) == (manifest.segment_count, len(manifest.exits))
    assert {(e.cut, e.representation_index) for e in hello.encode_s} >= {(0, 4), (1, 0), (2, 2)}
    assert (hello.compute_watts, hello.transmit_watts, hello.is_polled) == (3.0, 1.2, False)
    assert upload.manifest_json == data


async def test_a_plan_is_obeyed_and_every_task_is_reported_once(model, frames):
    async with spoken_twin() as twin, running_device(model, twin=twin.address) as bench:
        await twin.hears("heartbeat")
        leave = wire_plan(bench, lambda e, v, q, b: Decision.EXIT if v else Decision.CONTINUE, plan_id=3)
        await twin.say(plan=leave)
        await until(lambda: bench.device.status()["plan"]["in_force"])
        await bench.submit(frames)
        records = await bench.ended(len(frames))
        await until(lambda: sum(len(t.ended) for t in twin.all("task")) == len(frames))
        status = bench.device.status()
    assert {(r.outcome, r.reason, r.plan_id) for r in records} == {(Outcome.EXIT, Reason.EXIT_CONFIDENT, 3)}
    ended = [task for report in twin.all("task") for task in report.ended]
    assert [task.task_id for task in ended] == [r.task_id for r in records]
    assert all(task.reason == "exit-confident" and task.plan_id == 3 for task in ended)
    assert status["plan"]["rule"] == "open-loop"
    assert twin.all("start"), "a task that starts on an idle device is announced"
    messages = len(twin.heard) - 2  # hello and the heartbeat after it
    assert messages <= 2 * len(frames)
    sent = bench.device.signalling.by_kind()
    assert {kind: count.messages for kind, count in sent.items()} == {
        kind: len(twin.all(kind)) for kind in ("hello", "heartbeat", "start", "task") if twin.all(kind)
    }


async def test_a_plan_that_cannot_be_obeyed_is_refused_by_name_and_the_stream_goes_on(model, frames):
    async with spoken_twin() as twin, running_device(model, twin=twin.address) as bench:
        await twin.hears("heartbeat")
        await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=1, exits_run=()))
        (error,) = await twin.hears("error")
        assert error.code == errors_pb2.ERROR_CODE_BAD_MESSAGE
        assert "exits" in error.text
        other = wire_plan(bench, offload_at(9), plan_id=2)
        other.model_digest = bytes(32)
        await twin.say(plan=other)
        await until(lambda: len(twin.all("error")) == 2)
        assert twin.all("error")[1].code == errors_pb2.ERROR_CODE_WRONG_DIGEST
        await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=3))
        await until(lambda: bench.device.status()["plan"]["in_force"])
        assert bench.device.shell.link.attached_times == 1
        assert bench.device.shell.link.plans_refused == 2


async def test_backlog_updates_reach_the_look_up(model, frames):
    def offload_when_idle(epoch: int, evidence: int, queue: int, band: int) -> Decision:
        return Decision.OFFLOAD_TENSOR if band == 0 and epoch == 1 else Decision.CONTINUE

    async with spoken_twin() as twin, running_device(model, twin=twin.address, edge="127.0.0.1:9") as bench:
        await twin.hears("heartbeat")
        await twin.say(plan=wire_plan(bench, offload_when_idle, plan_id=1))
        busy = backlog_to_wire(BacklogState(9.0, 0.0, mean_s=9.0), 0.0)
        await twin.say(backlog=twin_pb2.BacklogUpdate(backlog=busy))
        await until(lambda: (bench.device.status()["plan"]["backlog_s"] or 0.0) > 1.0)
        await bench.submit(frames[:1])
        (record,) = await bench.ended(1)
    assert record.reason is Reason.NOT_WORTH_IT
    assert bench.device.shell.link.backlog_updates == 1


async def test_when_the_twin_falls_silent_the_lease_ends_and_the_contingency_decides(model, frames):
    async with spoken_twin(lease_s=0.0) as twin, running_device(model, twin=twin.address) as bench:
        await twin.hears("heartbeat")
        await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=1, lease_s=0.2, exits_run=(False,)))
        await until(lambda: bench.device.status()["plan"]["absence"] == "lease-ended")
        await bench.submit(frames[:1])
        (record,) = await bench.ended(1)
        assert (record.reason, record.degraded) == (Reason.LEASE_ENDED, True)
        twin.lease_s = 60.0
        await twin.say(renewal=twin_pb2.LeaseRenewal())
        await until(lambda: bench.device.status()["plan"]["in_force"])


async def test_a_twin_that_dies_and_comes_back_learns_what_it_missed(model, frames):
    async with running_device(model, twin="127.0.0.1:9") as lonely:
        await lonely.submit(frames[:1])
        (record,) = await lonely.ended(1)
    assert (record.reason, record.degraded) == (Reason.NO_PLAN, True)

    async with spoken_twin() as twin:
        address = twin.address
        async with running_device(model, twin=address) as bench:
            await twin.hears("heartbeat")
            await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=4))
            await until(lambda: bench.device.status()["plan"]["in_force"])
            await bench.submit(frames[:1])
            await twin.hears("task")
            await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=5))
            await until(lambda: bench.device.status()["plan"]["plan_id"] == 5)
            await twin_dies(bench, twin)
            await bench.submit(frames[1:4])
            records = await bench.ended(4)
            assert [r.plan_id for r in records] == [4, 5, 5, 5], "the plan holds as long as its lease"
            async with spoken_twin(address) as again:
                (hello,) = await again.hears("hello")
                assert hello.last_plan_id == 5
                await until(lambda: sum(len(t.ended) for t in again.all("task")) == 3)
                ended = [task.task_id for report in again.all("task") for task in report.ended]
            assert ended == [2, 3, 4]


async def twin_dies(bench: DeviceBench, twin: SpokenTwin) -> None:
    await twin.stop()
    await until(lambda: not bench.device.status()["twin"]["is_attached"])


async def test_a_twin_that_refuses_the_device_is_tried_again(model):
    async with spoken_twin(is_welcoming=False) as twin, running_device(model, twin=twin.address) as bench:
        await twin.hears("hello", 2)
        assert not bench.device.status()["twin"]["is_attached"]
        twin.is_welcoming = True
        await until(lambda: bench.device.status()["twin"]["is_attached"])


async def test_a_live_read_is_answered_at_once(model, frames, tmp_path):
    profile = write_profile(model, tmp_path / "profile.json", 0.001)
    async with (
        spoken_twin() as twin,
        running_device(model, twin=twin.address, profile=profile, emulate_slowdown=1000.0, drain_s=0.0) as bench,
    ):
        await twin.hears("heartbeat")
        await bench.submit(frames[:2])
        await until(lambda: bench.device.status()["task"] is not None)
        await twin.say(live=twin_pb2.LiveRequest(read_id=42))
        (live,) = await twin.hears("live")
        assert (live.read_id, live.queue_length, live.started.task_id) == (42, 1, 1)
        assert live.state.entered == 2


async def test_in_polled_mode_the_twin_is_asked_at_every_epoch(model, frames):
    async with (
        spoken_twin(poll_decision=int(Decision.CONTINUE)) as twin,
        running_device(model, twin=twin.address, polled=True, poll_timeout_s=PATIENCE_S) as bench,
    ):
        (hello,) = await twin.hears("hello")
        await twin.hears("heartbeat")
        await bench.submit(frames[:2])
        records = await bench.ended(2)
    assert hello.is_polled
    assert [(p.task_id, p.epoch) for p in twin.all("poll")] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert {r.outcome for r in records} == {Outcome.DEVICE}


async def test_a_polled_twin_that_does_not_answer_is_waited_for_only_so_long(model, frames):
    async with (
        spoken_twin() as twin,
        running_device(model, twin=twin.address, polled=True, poll_timeout_s=0.05) as bench,
    ):
        await twin.hears("heartbeat")
        await bench.submit(frames[:1])
        (record,) = await bench.ended(1)
    assert record.outcome is Outcome.DEVICE
    assert 0.1 < record.latency_s < PATIENCE_S, "three times 0.05 s, and no more than it takes"


async def test_clock_readings_echo_what_was_received(model):
    async with spoken_twin(heartbeat_s=0.05) as twin, running_device(model, twin=twin.address):
        await twin.hears("heartbeat", 3)
        await twin.say(renewal=twin_pb2.LeaseRenewal())
        await twin.hears("heartbeat", len(twin.all("heartbeat")) + 2)
    first, last = twin.heard[0].clock, twin.heard[-1].clock
    assert first.sent_s > 0.0
    assert (first.echo_sent_s, first.echo_received_s) == (0.0, 0.0)
    assert last.sent_s >= last.echo_received_s > 0.0
