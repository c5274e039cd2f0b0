"""Frames of local programs: what fails in the device ends a program's stream instead of letting it wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from device.servicer import DeviceServicer
from twinsplit.rpc.v1 import device_pb2


class BrokenDoor:
    """A device with a defect."""

    async def submit(self, name: str, data: bytes, deliver: Any) -> None:
        raise ZeroDivisionError

    def status(self) -> dict[str, Any]:
        return {}


async def test_a_defect_ends_the_stream_of_a_program_that_waits() -> None:
    async def requests() -> AsyncIterator[device_pb2.SubmitRequest]:
        yield device_pb2.SubmitRequest(request_id=1)
        await asyncio.Event().wait()

    answers = DeviceServicer(BrokenDoor(), "camera").Submit(requests(), None)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(anext(answers), 5.0)
