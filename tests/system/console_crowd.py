"""Devices that only talk to the twin: many of them, and one whose words are markup."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.integration.test_twin_streams import attached_device
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.channel import open_channel

MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


async def _attached(address: str, device_ids: Sequence[str], until: asyncio.Event) -> None:
    async with open_channel(address) as channel:
        peers = [(await attached_device(channel, device_id=device_id))[0] for device_id in device_ids]
        task = twin_pb2.EndedTask(
            task_id=1, outcome=twin_pb2.OUTCOME_DEVICE, reason="not-worth-it", started_age_s=0.31, arrived_age_s=0.31,
            epoch_s=[0.11, 0.21, 0.31], stop_epoch=3, evidence=1, label=MARKUP, confidence=0.9,
        )  # fmt: skip
        await peers[0].say(task=twin_pb2.TaskReport(ended=[task]))
        await until.wait()


class Crowd:
    """Attached while the block runs; the first device has ended a task whose answer is ``MARKUP``."""

    def __init__(self, address: str, device_ids: Sequence[str]) -> None:
        self._address = address
        self._device_ids = device_ids
        self._leave = asyncio.Event()

    async def __aenter__(self) -> Crowd:
        self._task = asyncio.create_task(_attached(self._address, self._device_ids, self._leave))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave.set()
        await self._task
