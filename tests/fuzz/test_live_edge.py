"""Bad requests to a real edge: each refused by its name, and a good tail right after on the same stream is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fuzz.bad_tails import TOLERATED, bad_tails, good
from tests.fuzz.mutations import floats_in, floats_of
from tests.fuzz.refusals import wrong_about
from tests.integration.device_bench import running_edge
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import INFER_METHOD

PATIENCE_S = 20.0


@pytest.fixture
async def digest_and_address(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    folder = write_tiny_model(tmp_path / "tiny")
    async with running_edge(tmp_path) as edge:
        yield manifest_digest(read_manifest(folder)[1]), edge.address


@pytest.mark.slow
async def test_each_bad_tail_is_refused_by_its_name_and_the_next_is_answered(
    digest_and_address: tuple[str, str],
) -> None:
    digest, address = digest_and_address
    wrong = []
    async with open_channel(address) as channel:
        call = channel.stream_stream(INFER_METHOD, response_deserializer=edge_pb2.InferResponse.FromString)()
        for number, bad in enumerate(bad_tails(digest), 1000):
            await call.write(bad.data)
            refusal = await asyncio.wait_for(call.read(), PATIENCE_S)
            wrong += wrong_about(bad, [refusal.error] if refusal.HasField("error") else [])
            await call.write(good(digest, number).SerializeToString())
            answer = await asyncio.wait_for(call.read(), PATIENCE_S)
            assert (answer.request_id, answer.HasField("error"), len(answer.data)) == (number, False, 16), bad.name
        call.cancel()
    assert not wrong, "\n".join(wrong)


def test_every_number_of_a_tail_is_tried() -> None:
    assert floats_in(good("ab" * 32)) == floats_of(edge_pb2.InferRequest.DESCRIPTOR)
    assert set(TOLERATED) < floats_of(edge_pb2.InferRequest.DESCRIPTOR)
