"""Bad requests of the Open Inference Protocol to a real edge and a real device: each refused by its name, in words of
ours, and a good one right after is answered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import grpc.aio
import pytest

from tests.fuzz.bad_inferences import bad_frames, bad_inferences, good
from tests.fuzz.mutations import Bad
from tests.fuzz.refusals import check_text
from tests.integration.device_bench import running_device, running_edge, write_network
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.oip.service import INFER_METHOD
from twinsplit.oip.v2 import inference_pb2 as pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import CODE_METADATA_KEY

PATIENCE_S = 20.0


async def wrong(address: str, cases: Iterable[Bad], fine: pb2.ModelInferRequest) -> list[str]:
    """What is not refused as it should be."""
    found = []
    async with open_channel(address) as channel:
        call = channel.unary_unary(INFER_METHOD, response_deserializer=pb2.ModelInferResponse.FromString)
        for bad in cases:
            try:
                await call(bad.data, timeout=PATIENCE_S)
                found.append(f"{bad.name}: answered")
            except grpc.aio.AioRpcError as failure:
                check_text(failure.details() or "")
                code = dict(failure.trailing_metadata() or ()).get(CODE_METADATA_KEY)
                if code != bad.code.value:
                    found.append(f"{bad.name}: {code} {failure.code()} {failure.details()}")
            answer = await call(fine.SerializeToString(), timeout=PATIENCE_S)
            assert answer.id == "seven", bad.name
    return found


@pytest.mark.slow
async def test_an_edge_refuses_each_by_its_name_and_answers_the_next(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    async with running_edge(tmp_path) as edge:
        assert await wrong(edge.address, bad_inferences(), good()) == []


@pytest.mark.slow
async def test_a_device_refuses_each_by_its_name_and_answers_the_next(tmp_path: Path) -> None:
    fine = good(0)
    del fine.outputs[:]
    async with running_device(write_network(tmp_path / "1")) as bench:
        assert await wrong(bench.device.address, bad_frames(), fine) == []
