"""Two real replicas: a device goes from one to the other, and commands read both."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

from device.doctor.finding import Check, Verdict
from device.doctor.peers import peer_findings
from device.doctor.settings import DoctorSettings
from tests.integration.test_twin_streams import attached_device, attached_edge, running
from twin_service.fleet import read_device, read_fleet
from twinsplit.errors import BadMessageError
from twinsplit.replicas.attachment import MOST_EPOCH
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import error_from_rpc
from twinsplit.transport.tls import TlsFiles

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("twinsplit"))


async def twinsplit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60.0
    )


async def test_a_device_that_has_gone_is_let_go_of_when_it_says_so_and_everybody_reads_where_it_is(
    tmp_path: Path,
) -> None:
    async with (
        running(tmp_path / "one") as one,
        running(tmp_path / "two") as two,
        open_channel(one.address) as to_one,
        open_channel(two.address) as to_two,
    ):
        replicas = f"{one.address},{two.address}"
        await attached_edge(to_one)
        left, plan = await attached_device(to_one, attachment_epoch=50)
        assert plan.attachment_epoch == 50
        # Its way to the first replica is lost without that one's hearing of it.
        _, plan_there = await attached_device(to_two, attachment_epoch=51, last_plan_id=plan.plan_id)
        assert plan_there.attachment_epoch == 51
        assert plan_there.plan_id > plan.plan_id

        findings = await peer_findings(DoctorSettings(twin=replicas, id="cam"), None, timeout_s=20.0)
        found = [f for f in findings if f.check is Check.TWIN_REPLICAS]
        assert [f.verdict for f in found] == [Verdict.BAD, Verdict.BAD]
        assert "each hold it to be attached" in found[0].text
        assert found[1].text == f"edge is not attached to {two.address}, whose plans leave it out"
        fleet = await read_fleet(replicas.split(","), TlsFiles())
        assert [address for address, _ in fleet.devices()] == [two.address], "the newer attachment counts"

        stub = twin_pb2_grpc.TwinServiceStub(to_one)
        late = await stub.ReleaseDevice(twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=49))
        assert not late.was_attached
        assert one.exchange.core.devices["cam"].is_attached
        heard = await stub.ReleaseDevice(twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=51))
        assert heard.was_attached
        assert not one.exchange.core.devices["cam"].is_attached
        with pytest.raises(grpc.aio.AioRpcError, match="attach again"):
            await left.hear("nothing more")
        assert one.exchange.core.released == 1

        listed = await twinsplit("twin", "list", "--twin", replicas)
        assert listed.returncode == 0, listed.stderr
        assert f"devices attached: 0 at {one.address}, 1 at {two.address}" in listed.stdout
        assert "attached to 1 of 2" in listed.stdout
        shown = await twinsplit("twin", "show", "cam", "--twin", replicas)
        assert shown.stdout.startswith(f"replica {two.address}\ndevice cam: attached")
        address, view, _ = await read_device(replicas.split(","), TlsFiles(), "cam", None)
        assert (address, view.attachment_epoch) == (two.address, 51)


async def test_what_the_others_know_is_shown_where_one_does_not_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        await attached_device(channel)
        listed = await twinsplit("twin", "list", "--twin", f"{twin.address},127.0.0.1:9")
        assert listed.returncode == 5
        assert "127.0.0.1:9" in listed.stderr
        assert f"devices attached: 1 at {twin.address}" in listed.stdout
        unknown = await twinsplit("twin", "show", "nobody", "--twin", f"{twin.address},127.0.0.1:9")
        assert unknown.returncode == 9
        assert "no device is called 'nobody'" in unknown.stderr


async def test_a_number_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReleaseDevice(twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=MOST_EPOCH + 1))
        error = error_from_rpc(caught.value, twin.address)
        assert isinstance(error, BadMessageError)
        assert "attachment_epoch" in str(error)
