"""Devices and edges attach to a real twin service over gRPC, on free loopback ports."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner

from tests.integration.device_bench import until
from tests.unit.twin_service.made_up_twins import DIGEST, EDGE_ADDRESS, EXIT_S, MANIFEST_BYTES, SEGMENT_S
from twin_service.cli import twin as twin_command
from twin_service.documents import Desired
from twin_service.reader import reading
from twin_service.service import TwinService, start_twin
from twin_service.settings import TwinSettings
from twin_service.tables import device_text, listing_table
from twinsplit import __version__
from twinsplit.errors import PeerError, StaleWriteError, UnknownTwinError
from twinsplit.rpc.v1 import edge_pb2, errors_pb2, twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import plan_from_wire
from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES
from twinsplit.transport.status import error_from_rpc
from twinsplit.transport.tls import TlsFiles

PATIENCE_S = 20.0
NOW = 5.0
"""What these devices' clocks say."""


@asynccontextmanager
async def running(state: Path, **changes: object) -> AsyncIterator[TwinService]:
    settings = TwinSettings(listen="127.0.0.1:0", http_listen="127.0.0.1:0", state=state, **changes)
    twin = await start_twin(settings)
    try:
        yield twin
    finally:
        await twin.stop()


class Peer:
    """A device or an edge with a stream to the twin."""

    def __init__(self, channel: grpc.aio.Channel, is_edge: bool = False) -> None:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        self.call = stub.AttachEdge() if is_edge else stub.AttachDevice()
        self._request = twin_pb2.AttachEdgeRequest if is_edge else twin_pb2.AttachDeviceRequest

    async def say(self, **message: object) -> None:
        await self.call.write(self._request(clock=twin_pb2.ClockEcho(sent_s=NOW), **message))

    async def hear(self, kind: str) -> object:
        """The next message of ``kind``; others are passed over."""
        while True:
            response = await asyncio.wait_for(self.call.read(), PATIENCE_S)
            assert response is not grpc.aio.EOF, f"the stream ended while waiting for {kind}"
            if response.WhichOneof("kind") == kind:
                return getattr(response, kind)


def hello(device_id: str = "cam", **changes: object) -> twin_pb2.DeviceHello:
    return twin_pb2.DeviceHello(
        device_id=device_id,
        model_digest=bytes.fromhex(DIGEST),
        segment_s=SEGMENT_S,
        exit_s=EXIT_S,
        goodput_bytes_per_s=1e6,
        round_trip_s=0.002,
        **changes,
    )


def edge_hello() -> twin_pb2.EdgeHello:
    return twin_pb2.EdgeHello(
        edge_id="edge",
        advertise_address=EDGE_ADDRESS,
        models=[twin_pb2.EdgeModel(model_digest=bytes.fromhex(DIGEST), tail_s=[0.03, 0.02, 0.01])],
        backlog=backlog_report(0.0),
    )


def backlog_report(backlog_s: float) -> twin_pb2.BacklogReport:
    backlog = edge_pb2.Backlog(backlog_s=backlog_s, mean_s=0.02, time_constant_s=1.0)
    return twin_pb2.BacklogReport(backlog=backlog, arrived_work_s=[0.0, 0.0, 0.0], speed_factor=1.0)


async def attached_edge(channel: grpc.aio.Channel) -> Peer:
    edge = Peer(channel, is_edge=True)
    await edge.say(hello=edge_hello())
    await edge.hear("welcome")
    return edge


async def attached_device(channel: grpc.aio.Channel, **changes: object) -> tuple[Peer, object]:
    device = Peer(channel)
    await device.say(hello=hello(**changes))
    welcome = await device.hear("welcome")
    if welcome.needs_manifest:
        await device.say(manifest=twin_pb2.ManifestUpload(manifest_json=MANIFEST_BYTES))
    return device, await device.hear("plan")


async def test_a_device_gets_a_plan_that_names_the_edge(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        _, plan = await attached_device(channel)
        made = plan_from_wire(plan)
        assert (made.edge_id, made.edge_address, made.rule) == ("edge", EDGE_ADDRESS, "multi-step")
        assert made.model_digest == DIGEST
        assert plan.HasField("backlog")


async def test_whoever_asks_is_told_of_edges_that_hold_a_model_and_of_a_device(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        asked = twin_pb2.DescribeServiceRequest(device_id="cam", model_digest=bytes.fromhex(DIGEST))
        alone = await stub.DescribeService(asked)
        assert (list(alone.edges), alone.is_device_attached, alone.device_model_digest) == ([], False, b"")
        assert (alone.version, alone.max_message_bytes) == (__version__, CONTROL_MESSAGE_BYTES)
        assert abs(alone.unix_ns - time.time_ns()) < 60e9
        edge = await attached_edge(channel)
        device, _ = await attached_device(channel)
        both = await stub.DescribeService(asked)
        assert both.edges == [twin_pb2.AttachedEdge(edge_id="edge", advertise_address=EDGE_ADDRESS, has_model=True)]
        assert (both.is_device_attached, both.device_model_digest.hex()) == (True, DIGEST)
        other = await stub.DescribeService(twin_pb2.DescribeServiceRequest(model_digest=bytes(32)))
        assert [each.has_model for each in other.edges] == [False]
        edge.call.cancel()
        device.call.cancel()
        for _ in range(500):
            left = await stub.DescribeService(asked)
            if not (left.edges or left.is_device_attached):
                break
            await asyncio.sleep(0.01)
        assert (list(left.edges), left.is_device_attached) == ([], False)
        assert left.device_model_digest.hex() == DIGEST, "what it announced stays known"


async def test_the_manifest_is_asked_for_once_and_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        _, first = await attached_device(channel)
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        device = Peer(channel)
        await device.say(hello=hello())
        welcome = await device.hear("welcome")
        assert not welcome.needs_manifest
        second = await device.hear("plan")
        assert second.plan_id > first.plan_id


async def test_a_bad_message_is_refused_by_name_and_the_stream_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        device = Peer(channel)
        await device.say(heartbeat=twin_pb2.DeviceHeartbeat())
        refusal = await device.hear("error")
        assert refusal.code == errors_pb2.ERROR_CODE_BAD_MESSAGE
        assert "hello" in refusal.text
        await device.say(hello=hello(device_id="no name"))
        assert "device_id" in (await device.hear("error")).text
        await device.say(hello=hello())
        await device.hear("welcome")
        await device.say(manifest=twin_pb2.ManifestUpload(manifest_json=b"{}"))
        assert (await device.hear("error")).code == errors_pb2.ERROR_CODE_WRONG_DIGEST
        await device.say(manifest=twin_pb2.ManifestUpload(manifest_json=MANIFEST_BYTES))
        await device.hear("plan")
        await device.say(progress=twin_pb2.ProgressReport(task_id=1, epoch=99))
        assert "epoch" in (await device.hear("error")).text
        await device.say(poll=twin_pb2.PollRequest(task_id=1, epoch=1))
        assert (await device.hear("poll")).epoch == 1


async def test_a_live_read_asks_the_device_and_a_silent_one_is_answered_by_the_twin(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        device, _ = await attached_device(channel)
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        request = twin_pb2.GetTwinRequest(device_id="cam", live_if_older_than_s=0.0, timeout_s=PATIENCE_S)
        read = asyncio.ensure_future(stub.GetTwin(request))
        asked = await device.hear("live")
        started = twin_pb2.StartReport(task_id=3, started_age_s=0.15, queue_length=2)
        await device.say(
            live=twin_pb2.LiveReport(
                read_id=asked.read_id, queue_length=2, started=started, epoch=1, reached_age_s=0.05
            )
        )
        response = await read
        fields = {field.name: field for field in response.twin.fields}
        assert response.is_live
        assert fields["queue_length"].reported == 2
        assert fields["epoch"].reported == 1
        assert fields["epoch"].source == twin_pb2.SOURCE_LIVE
        request.timeout_s = 0.05
        silent = await stub.GetTwin(request)
        assert not silent.is_live
        assert silent.twin.device_id == "cam"


async def test_a_backlog_that_changes_a_decision_ahead_is_sent_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, rule="open-loop") as twin, open_channel(twin.address) as channel:
        edge = await attached_edge(channel)
        device, plan = await attached_device(channel)
        assert plan_from_wire(plan).band_edges_s, "this model's plan must depend on the backlog"
        await device.say(start=twin_pb2.StartReport(task_id=1, started_age_s=0.0, queue_length=1))
        await edge.say(backlog=backlog_report(0.001))
        await edge.say(backlog=backlog_report(20.0))
        update = await device.hear("backlog")
        assert update.backlog.backlog_s == 20.0


async def test_an_edge_hears_up_to_which_backlog_its_devices_decide_by_it(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        edge = await attached_edge(channel)
        await attached_device(channel)
        await edge.say(backlog=twin_pb2.BacklogReport(backlog=edge_pb2.Backlog(backlog_s=0.1, time_constant_s=1.0)))
        interest = await edge.hear("interest")
        assert 0.0 < interest.ceiling_s < 10.0


async def test_what_is_desired_is_written_with_the_version_that_was_read(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_device(channel)
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        document = (await stub.GetTwin(twin_pb2.GetTwinRequest(device_id="cam"))).twin
        written = await stub.SetDesired(
            twin_pb2.SetDesiredRequest(device_id="cam", version=document.version, alpha_s=1.0)
        )
        assert written.version == document.version + 1
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.SetDesired(twin_pb2.SetDesiredRequest(device_id="cam", version=document.version, alpha_s=2.0))
        assert failure.value.code() is grpc.StatusCode.ABORTED
        assert isinstance(error_from_rpc(failure.value, twin.address), StaleWriteError)


async def test_readers_see_all_twins_and_changes_as_they_come(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_edge(channel)
        await attached_device(channel)
        async with reading(twin.address, TlsFiles()) as reader:
            listing = await reader.listing()
            assert [view.device_id for view in listing.devices] == ["cam"]
            assert "multi-step" in listing_table(listing)
            watched = reader.watch(0.05)
            assert len((await anext(watched)).devices) == 1
            await attached_device(channel, device_id="dock")
            # How much of what it says falls into one look is the machine's affair.
            while len((seen := await anext(watched)).devices) < 2:
                pass
            assert [view.device_id for view in seen.devices] == ["cam", "dock"]
            await watched.aclose()
            view, _ = await reader.device("cam")
            assert f"plan {view.plan_id} by multi-step" in device_text(view, is_live=False)
            with pytest.raises(UnknownTwinError):
                await reader.device("nobody")


async def test_a_twin_that_is_not_there_is_a_peer_error() -> None:
    async with reading("127.0.0.1:1", TlsFiles()) as reader:
        with pytest.raises(PeerError, match="does not answer"):
            await reader.listing()


async def test_the_stream_that_attached_last_speaks_for_a_device(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        old, _ = await attached_device(channel)
        await attached_device(channel)
        assert await old.call.code() is grpc.StatusCode.ABORTED
        async with reading(twin.address, TlsFiles()) as reader:
            view, _ = await reader.device("cam")
        assert view.is_attached


async def test_an_edge_that_goes_away_is_planned_without(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        edge = await attached_edge(channel)
        device, _ = await attached_device(channel)
        edge.call.cancel()
        assert (await device.hear("plan")).edge_id == ""
        await attached_edge(channel)
        assert (await device.hear("plan")).edge_id == "edge"


async def test_what_cannot_be_written_once_is_written_later_and_nothing_else_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, save_s=0.02) as twin, open_channel(twin.address) as channel:
        core, tried = twin.exchange.core, []

        def fail(_limit: int | None = None) -> bool:
            tried.append(True)
            raise OverflowError("float too large to pack with f format")

        monkeypatch.setattr(core, "save", fail)
        await attached_device(channel)
        await until(lambda: len(tried) >= 2)
        monkeypatch.undo()
        await until(lambda: [each.device_id for each in core.kept._memory.documents()] == ["cam"])


async def test_a_chore_that_ends_by_a_defect_is_said_by_readiness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async with running(tmp_path) as twin:
        assert (await asyncio.to_thread(status_of, f"http://{twin.http_address}/readyz"))[0] == 200
        monkeypatch.setattr(twin.exchange, "next_lesson", fail)

        await until(lambda: bool(twin._lacks))
        code, text = await asyncio.to_thread(status_of, f"http://{twin.http_address}/readyz")
        assert code == 503
        assert "learning has ended by a defect" in text


def status_of(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_a_person_gives_one_device_weights_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_device(channel)
        command = ["desire", "cam", "--twin", twin.address]
        done = await asyncio.to_thread(CliRunner().invoke, twin_command, [*command, "--alpha-s", "0.5"])
        assert done.exit_code == 0, done.output
        assert "cam" in done.output
        done = await asyncio.to_thread(CliRunner().invoke, twin_command, [*command, "--deadline-s", "0.2"])
        assert done.exit_code == 0, done.output
        assert twin.exchange.core.archive.document("cam").desired == Desired(alpha_s=0.5, deadline_s=0.2)
        for wrong in ([], ["--alpha-s", "nan"], ["--alpha-s", "-1"], ["--beta-s-per-joule", "1e39"]):
            done = await asyncio.to_thread(CliRunner().invoke, twin_command, [*command, *wrong])
            assert done.exit_code == 2, done.output
        with pytest.raises(UnknownTwinError):
            async with reading(twin.address, TlsFiles()) as reader:
                await reader.desire("nobody", Desired(alpha_s=1.0))
