"""A real device before two replicas that a test speaks for: where it attaches, what it obeys, when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from device import twin_route
from device.status_text import status_text
from tests.integration.device_bench import PATIENCE_S, running_device, until, write_network
from tests.integration.test_device_stream import light_device
from tests.integration.test_device_twin_link import SpokenTwin, spoken_twin, wire_plan
from tests.unit.device.made_up_device import offload_at
from twinsplit.replicas import choice
from twinsplit.replicas.rendezvous import ranked
from twinsplit.rpc.v1 import errors_pb2, twin_pb2

pytestmark = pytest.mark.slow


class Replica(SpokenTwin):
    """Numbers attachments, and keeps what it is told of devices that have gone."""

    def __init__(self) -> None:
        super().__init__()
        self.released: list[twin_pb2.ReleaseDeviceRequest] = []
        self.granted_above = 0

    async def ReleaseDevice(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the name of the RPC
        self.released.append(request)
        return twin_pb2.ReleaseDeviceResponse(was_attached=True)

    def welcome(self, hello: twin_pb2.DeviceHello) -> twin_pb2.Welcome:
        welcome = super().welcome(hello)
        welcome.attachment_epoch = hello.attachment_epoch + self.granted_above
        return welcome


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_FIRST_S", 0.05), ("LOOK_LAST_S", 0.1), ("RETURN_AFTER_S", 0.2), ("SPREAD_S", 0.1)):
        monkeypatch.setattr(choice, name, seconds)
    monkeypatch.setattr(twin_route, "_LOOK_AROUND_S", 0.02)
    # A look that is not answered in time would be taken again, and its message counted again.
    monkeypatch.setattr(twin_route, "LOOK_TIMEOUT_S", PATIENCE_S)


@asynccontextmanager
async def two_replicas(device_id: str = "cam") -> AsyncIterator[tuple[Replica, Replica]]:
    """The one that the device prefers, and the other."""
    async with spoken_twin(kind=Replica) as one, spoken_twin(kind=Replica) as two:
        by_address = {one.address: one, two.address: two}
        first, second = (by_address[address] for address in ranked(device_id, by_address))
        yield first, second


async def test_a_device_goes_to_the_other_replica_and_comes_back_and_each_is_told(model: Path) -> None:
    async with two_replicas() as (first, second):
        listed = f"{second.address},{first.address}"
        async with running_device(model, twin=listed, id="cam") as bench:
            (hello,) = await first.hears("hello")
            assert second.all("hello") == []
            await until(lambda: bench.device.status()["twin"]["is_attached"])
            await first.say(plan=wire_plan(bench, offload_at(9), plan_id=4, attachment_epoch=hello.attachment_epoch))
            await until(lambda: bench.device.status()["plan"]["in_force"])
            assert bench.device.status()["twin"] == {
                "address": first.address,
                "is_attached": True,
                "preferred": first.address,
                "replicas": [first.address, second.address],
                "attachment_epoch": hello.attachment_epoch,
                "moves": 0,
            }

            await first.stop()
            (moved,) = await second.hears("hello")
            assert moved.last_plan_id == 4
            assert moved.attachment_epoch > hello.attachment_epoch
            await until(lambda: bench.device.status()["twin"]["is_attached"])
            assert f"twin: {second.address}, attached: prefers {first.address}; one of 2 replicas" in status_text(
                bench.device.status()
            )
            assert bench.device.status()["plan"]["in_force"], "the plan stands meanwhile"

            async with spoken_twin(first.address, kind=Replica) as again:
                (back,) = await again.hears("hello")
                assert [each.attachment_epoch for each in again.released] == [moved.attachment_epoch]
                assert again.released[0].device_id == "cam"
                assert back.attachment_epoch > moved.attachment_epoch
                await until(lambda: len(second.released) == 1)
                assert second.released[0].attachment_epoch == back.attachment_epoch
                await until(lambda: bench.device.status()["twin"]["is_attached"])
                assert bench.device.status()["twin"]["moves"] == 2
                assert len(second.all("hello")) == 1
                by_kind = bench.device.signalling.by_kind
                await until(lambda: by_kind()["release"].messages >= 2)  # counted when they are answered
                assert (by_kind()["hello"].messages, by_kind()["release"].messages) == (3, 2)


async def test_a_plan_of_an_earlier_attachment_is_refused_by_name(model: Path) -> None:
    async with (
        spoken_twin(kind=Replica, granted_above=5) as twin,
        running_device(model, twin=twin.address, id="cam") as bench,
    ):
        (hello,) = await twin.hears("hello")
        granted = hello.attachment_epoch + 5
        await until(lambda: bench.device.status()["twin"]["attachment_epoch"] == granted)
        await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=1, attachment_epoch=granted - 1))
        (error,) = await twin.hears("error")
        assert error.code == errors_pb2.ERROR_CODE_STALE_WRITE
        assert str(granted) in error.text
        assert not bench.device.status()["plan"]["in_force"]
        await twin.say(plan=wire_plan(bench, offload_at(9), plan_id=1, attachment_epoch=granted))
        await until(lambda: bench.device.status()["plan"]["in_force"])


async def test_a_replica_that_falls_silent_is_left_before_the_lease_is_over(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert twin_route.SILENT_SHARE < 1.0
    # So much of the lease is left that a busy machine does not use it up.
    monkeypatch.setattr(twin_route, "SILENT_SHARE", 0.1)
    async with two_replicas() as (first, second):
        first.lease_s = 20.0
        async with running_device(model, twin=f"{first.address},{second.address}", id="cam") as bench:
            (hello,) = await first.hears("hello")
            await until(lambda: bench.device.status()["twin"]["is_attached"])
            await first.say(plan=wire_plan(bench, offload_at(9), attachment_epoch=hello.attachment_epoch, lease_s=20.0))
            await second.hears("hello")
            assert bench.device.status()["plan"]["in_force"], "less than a lease has passed"


async def test_a_replica_that_falls_silent_is_left_while_a_look_at_another_one_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[str] = []

    async def never(_route: twin_route.TwinRoute, address: str) -> bool:
        looked_at.append(address)
        return await asyncio.Event().wait()

    monkeypatch.setattr(twin_route.TwinRoute, "_look_at", never)
    monkeypatch.setattr(twin_route, "SILENT_SHARE", 0.05)
    gone = "127.0.0.1:9"
    async with spoken_twin(kind=Replica, lease_s=20.0) as twin:
        name = next(name for name in map("cam-{}".format, count()) if ranked(name, (gone, twin.address))[0] == gone)
        link = asyncio.ensure_future(light_device(f"{gone},{twin.address}", name).link.run())
        await until(lambda: looked_at == [gone])
        await twin.hears("hello", 2)
        link.cancel()
        await asyncio.wait([link])


async def test_a_list_in_a_file_is_followed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinsplit.replicas.listing.LOOK_S", 0.02)
    async with two_replicas() as (first, second):
        path = tmp_path / "replicas"
        path.write_text(second.address)
        async with running_device(model, twin=f"@{path}", id="cam") as bench:
            await second.hears("hello")
            path.write_text(f"{second.address}\n{first.address}\n")
            await first.hears("hello")
            path.write_text("this is no list")
            await until(lambda: bench.device.status()["twin"]["is_attached"])
            path.write_text(second.address)
            await second.hears("hello", 2)
            await until(lambda: bench.device.status()["twin"]["replicas"] == [second.address])
