"""One stream of a device to the twin, by the product's own link: how it ends, and what is not lost when it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.light_devices import LightDevice
from device import twin_link, twin_route
from tests.integration.device_bench import until
from tests.integration.test_device_twin_link import SpokenTwin, spoken_twin
from tests.integration.test_twin_streams import attached_device, running
from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES
from twinsplit.model.manifest import parse_manifest
from twinsplit.rpc.v1 import errors_pb2, twin_pb2
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow


def light_device(replicas: str, name: str = "cam") -> LightDevice:
    return LightDevice(name, replicas, parse_manifest(MANIFEST_BYTES), MANIFEST_BYTES, seed=1)


@pytest.mark.parametrize("turns", range(4))
async def test_a_link_that_is_cancelled_just_when_it_is_welcomed_ends(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spoken_twin() as twin:
        device = light_device(twin.address)
        link = asyncio.ensure_future(device.link.run())

        def cancel_in(turns_left: int) -> None:
            if turns_left:
                asyncio.get_running_loop().call_soon(cancel_in, turns_left - 1)
            else:
                link.cancel()

        monkeypatch.setattr(device, "attached", lambda heartbeat_s: cancel_in(turns))
        ended, _ = await asyncio.wait([link], timeout=10.0)
        link.cancel()
        assert ended
        assert link.cancelled()


class MuteTwin(SpokenTwin):
    """Takes streams and answers nothing."""

    async def AttachDevice(self, requests: Any, context: Any) -> None:  # noqa: N802 - the name of the RPC
        async for request in requests:
            self.heard.append(request)


async def test_a_twin_that_never_welcomes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_route, "WELCOME_TIMEOUT_S", 0.05)
    async with spoken_twin(kind=MuteTwin) as twin:
        link = asyncio.ensure_future(light_device(twin.address).link.run())
        await twin.hears("hello", 2)
        link.cancel()
        await asyncio.wait([link])


async def test_a_device_whose_stream_another_of_its_id_has_superseded_attaches_again(tmp_path: Path) -> None:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        device = light_device(twin.address)
        link = asyncio.ensure_future(device.link.run())
        await until(lambda: bool(device.taken))
        copy, _ = await attached_device(channel)
        await until(lambda: device.link.attached_times == 2)
        assert await copy.call.code() is grpc.StatusCode.ABORTED
        assert device.link.is_attached
        assert twin.exchange.core.devices["cam"].is_attached
        link.cancel()
        await asyncio.wait([link])


async def test_a_device_that_is_told_that_another_stream_speaks_for_it_attaches_again() -> None:
    async with spoken_twin() as twin:
        device = light_device(twin.address)
        link = asyncio.ensure_future(device.link.run())
        await until(lambda: device.link.is_attached)
        await twin.say(error=errors_pb2.Error(code=errors_pb2.ERROR_CODE_BAD_MESSAGE, text="one message"))
        await twin.say(error=errors_pb2.Error(code=errors_pb2.ERROR_CODE_STALE_WRITE, text="attached again"))
        await twin.hears("hello", 2)
        await until(lambda: device.link.attached_times == 2)
        link.cancel()
        await asyncio.wait([link])


class DeafTwin(SpokenTwin):
    """Reads so many task reports, then nothing more; what is written for it stays in buffers."""

    reads = 3

    async def AttachDevice(self, requests: Any, context: Any) -> None:  # noqa: N802 - the name of the RPC
        async def some() -> AsyncIterator[twin_pb2.AttachDeviceRequest]:
            async for request in requests:
                yield request
                if len(self.all("task")) >= self.reads:
                    await asyncio.Event().wait()

        await super().AttachDevice(some(), context)


def told(twin: SpokenTwin) -> list[int]:
    return [task.task_id for report in twin.all("task") for task in report.ended]


async def test_ended_tasks_that_a_hanging_twin_has_not_confirmed_go_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewed: list[float] = []
    async with spoken_twin(kind=DeafTwin) as twin:
        device = light_device(twin.address)
        monkeypatch.setattr(device, "lease_renewed", renewed.append)
        link = asyncio.ensure_future(device.link.run())
        await until(lambda: device.link.is_attached)
        for _ in range(twin.reads):
            device._end_task()
        await twin.hears("task", twin.reads)
        await twin.say(renewal=twin_pb2.LeaseRenewal())
        await until(lambda: len(renewed) == 2)
        for _ in range(4):
            device._end_task()
        await device.link.flush(10.0)
        address = twin.address
    async with spoken_twin(address) as following:
        await until(lambda: len(told(following)) >= 4)
        device._end_task()
        await until(lambda: len(told(following)) >= 5)
        assert told(following) == [4, 5, 6, 7, 8]
        link.cancel()
        await asyncio.wait([link])


async def test_ended_tasks_that_find_no_room_any_more_are_told_on_the_next_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twin_link, "UNSENT_MESSAGES", 2)
    async with spoken_twin() as twin:
        device = light_device(twin.address)
        link = asyncio.ensure_future(device.link.run())
        await twin.hears("heartbeat")
        for _ in range(4):
            device._end_task()
        await twin.hears("hello", 2)
        await until(lambda: len(told(twin)) >= 4)
        assert told(twin) == [1, 2, 3, 4]
        link.cancel()
        await asyncio.wait([link])
