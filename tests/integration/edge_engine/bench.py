"""An edge in the test's own process, and tails that a device sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge.models import HeldModel
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call
from twinsplit.transport.tls import TlsFiles


def settings(folder: Path, **changed: object) -> EdgeSettings:
    given = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": folder, "drain_s": 1.0}
    return EdgeSettings(**given | changed)


@asynccontextmanager
async def running(
    folder: Path, models: dict[str, HeldModel] | None = None, **changed: object
) -> AsyncIterator[EdgeService]:
    service = await start_edge(settings(folder, **changed), models=models)
    try:
        yield service
    finally:
        await service.stop()


def request(
    runtime: SegmentRuntime, request_id: int, cut: int, payload: EncodedTensor, budget_s: float | None = None
) -> InferRequest:
    return InferRequest(request_id, runtime.digest, cut, budget_s, tensor=payload)


async def answers(
    edge: EdgeService, requests: list[InferRequest], tls: TlsFiles | None = None
) -> dict[int, InferResponse]:
    found: dict[int, InferResponse] = {}
    async with open_channel(edge.address, tls) as channel:
        call = infer_call(channel)
        for each in requests:
            await call.write(each)
        for _ in requests:
            response = await asyncio.wait_for(call.read(), 20.0)
            assert isinstance(response, InferResponse)
            assert response.request_id not in found, "one result for each tail"
            found[response.request_id] = response
        await call.done_writing()
    return found


def plain(runtime: SegmentRuntime, tensors: list[NDArray[Any]], cut: int, position: int = 0) -> EncodedTensor:
    picture = made_up_input(runtime.manifest).picture if cut == 0 else None
    return encode_payload(runtime.manifest, cut, position, tensors[cut], picture)


def output_of(response: InferResponse) -> NDArray[Any]:
    assert response.tensor is not None, response.error
    return decode(response.tensor.header, response.tensor.data, 4)
