"""The door of a device for local programs: frames in, answers out, and how it stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from device.compute import Deliver
from device.task_records import task_line
from twinsplit.access.door import pause, this_call
from twinsplit.errors import BadMessageError, FrameError, RefusedError, StoppingError
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc
from twinsplit.tensor import encode
from twinsplit.transport.convert import header_to_wire
from twinsplit.transport.status import error_to_wire
from twinsplit.types import Reason, TaskRecord

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer

Context = grpc.aio.ServicerContext[Any, Any]

MAX_NAME_CHARACTERS = 255
MAX_UNSENT = 64
"""Answers that may wait for a program that does not read; beyond them no more frames are taken from it."""


class SubmissionDoor(Protocol):
    """What the servicer needs of the device."""

    async def submit(self, name: str, data: bytes | NDArray[Any], deliver: Deliver) -> None:
        """Take a frame, or the model's input as it is; ``deliver`` is called once, in the event loop, with its
        outcome."""

    def status(self) -> dict[str, Any]:
        """How the device stands."""


class DeviceServicer(device_pb2_grpc.DeviceServiceServicer):
    """Serves ``DeviceService`` of the device ``name``: its certificate lets programs beside it in."""

    def __init__(self, door: SubmissionDoor, name: str) -> None:
        self._door = door
        self._name = name

    async def Submit(  # noqa: N802 - the name of the RPC
        self, requests: AsyncIterator[device_pb2.SubmitRequest], context: Context
    ) -> AsyncIterator[device_pb2.SubmitResponse]:
        """One frame in, its answer out, in the order in which they end."""
        this_call().caller.must_be(self._name)
        submissions = _Submissions(self._door)
        reading = asyncio.ensure_future(submissions.read(requests))
        reading.add_done_callback(submissions.look_at)
        try:
            async for response in submissions.responses():
                yield response
            await reading
        finally:
            reading.cancel()

    async def GetStatus(  # noqa: N802 - the name of the RPC
        self, request: device_pb2.GetStatusRequest, context: Context
    ) -> device_pb2.GetStatusResponse:
        """How the device stands."""
        this_call().caller.must_be(self._name)
        return device_pb2.GetStatusResponse(status_json=json.dumps(self._door.status()))


class _Submissions:
    """Frames of one program whose outcome is still out."""

    def __init__(self, door: SubmissionDoor) -> None:
        self._door = door
        self._open: set[int] = set()
        self._is_read = False
        self._has_room = asyncio.Event()
        self._unsent: asyncio.Queue[device_pb2.SubmitResponse | None] = asyncio.Queue()
        """``None``: the program sends no more, and every answer is in."""

    async def read(self, requests: AsyncIterator[device_pb2.SubmitRequest]) -> None:
        """Take frames until the program sends no more, while it reads the answers."""
        call = this_call()
        async for request in requests:
            excess = call.excess()
            if excess is None:
                await self._take(request)
            else:
                self._refuse(request, excess)
                await pause()
            while self._unsent.qsize() >= MAX_UNSENT:
                self._has_room.clear()
                await self._has_room.wait()
        self._is_read = True
        self._look()

    async def responses(self) -> AsyncIterator[device_pb2.SubmitResponse]:
        """Answers as they come, until all are in."""
        while (response := await self._unsent.get()) is not None:
            self._has_room.set()
            yield response

    def look_at(self, reading: asyncio.Future[None]) -> None:
        """Reading has ended; where it failed there are no more answers, and the program must not wait for any."""
        if not reading.cancelled() and reading.exception() is not None:
            self._unsent.put_nowait(None)

    async def _take(self, request: device_pb2.SubmitRequest) -> None:
        request_id = request.request_id
        if request_id == 0 or request_id in self._open:
            number = f"request_id: {request_id} is missing or still open; choose another one from 1 on"
            self._refuse(request, BadMessageError(number))
            return
        self._open.add(request_id)

        def deliver(record: TaskRecord, answer: Answer | None, problem: FrameError | None) -> None:
            self._open.discard(request_id)
            self._unsent.put_nowait(_response(request_id, record, answer, problem))
            self._look()

        await self._door.submit(request.name[:MAX_NAME_CHARACTERS] or str(request_id), request.data, deliver)

    def _refuse(self, request: device_pb2.SubmitRequest, error: RefusedError) -> None:
        response = device_pb2.SubmitResponse(request_id=request.request_id, error=error_to_wire(error))
        self._unsent.put_nowait(response)

    def _look(self) -> None:
        if self._is_read and not self._open:
            self._unsent.put_nowait(None)


def _response(
    request_id: int, record: TaskRecord, answer: Answer | None, problem: FrameError | None
) -> device_pb2.SubmitResponse:
    response = device_pb2.SubmitResponse(request_id=request_id)
    if problem is not None:
        response.error.CopyFrom(error_to_wire(problem))
    elif record.reason is Reason.SHUTDOWN:
        response.error.CopyFrom(error_to_wire(StoppingError("this device is stopping; submit the frame again later")))
    if answer is not None and answer.label_index is None:
        response.task_json = task_line(record)
        encoded = encode(np.ascontiguousarray(answer.output), "float32", "none")
        response.header.CopyFrom(header_to_wire(encoded.header))
        response.output = bytes(encoded.data)
    else:
        response.task_json = task_line(record, answer)
    return response


def register_device_service(door: SubmissionDoor, server: grpc.aio.Server, name: str) -> None:
    """Serve ``door`` of the device ``name`` at ``server``."""
    device_pb2_grpc.add_DeviceServiceServicer_to_server(DeviceServicer(door, name), server)
