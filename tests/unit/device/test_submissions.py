"""Frames of local programs: a defect ends a program's stream, and who does not read is not read from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from device.servicer import MAX_UNSENT, DeviceServicer
from twinsplit.rpc.v1 import device_pb2, errors_pb2


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


async def test_a_program_that_reads_no_answers_is_read_from_no_more_until_it_does() -> None:
    count, sent = 3 * MAX_UNSENT, 0

    async def requests() -> AsyncIterator[device_pb2.SubmitRequest]:
        nonlocal sent
        while sent < count:
            sent += 1
            yield device_pb2.SubmitRequest()

    answers = DeviceServicer(BrokenDoor(), "camera").Submit(requests(), None)
    first = await anext(answers)
    for _ in range(count):
        await asyncio.sleep(0.0)
    assert sent == MAX_UNSENT + 1
    rest = [answer async for answer in answers]
    assert sent == count
    assert {answer.error.code for answer in [first, *rest]} == {errors_pb2.ERROR_CODE_BAD_MESSAGE}
    assert len(rest) == count - 1
