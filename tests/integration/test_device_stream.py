"""One stream of a device to the twin, by the product's own link: how it ends, and what is not lost when it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.light_devices import LightDevice
from device import twin_route
from tests.integration.device_bench import until
from tests.integration.test_device_twin_link import SpokenTwin, spoken_twin
from tests.integration.test_twin_streams import attached_device, running
from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES
from twinsplit.model.manifest import parse_manifest
from twinsplit.rpc.v1 import errors_pb2
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow


def light_device(replicas: str) -> LightDevice:
    return LightDevice("cam", replicas, parse_manifest(MANIFEST_BYTES), MANIFEST_BYTES, seed=1)


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
