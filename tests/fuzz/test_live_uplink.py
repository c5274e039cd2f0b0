"""Bad answers of an edge to a real device: each refused by its name in the device's log, its task finished there once,
and a good answer right after taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fuzz import bad_answers
from tests.fuzz.mutations import UNREADABLE, Bad, floats_in, floats_of
from tests.fuzz.refusals import check_text
from tests.fuzz.served import served
from tests.integration.device_bench import DeviceBench, running_device, until, write_frames, write_network
from tests.unit.device.made_up_device import offload_at
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.transport.tail_stream import SERVICE
from twinsplit.types import Outcome, Reason

TOO_LATE_S = 0.2


class RawEdge:
    """An edge that can answer any bytes."""

    def __init__(self, description: bytes) -> None:
        self.description = description
        self.described = 0
        self.bad: bytes | None = None
        """What the next tail is answered; ``None``: it is answered well."""
        self.address = ""

    def register(self, server: grpc.aio.Server) -> None:
        handlers = {
            "Infer": grpc.stream_stream_rpc_method_handler(
                self._infer, request_deserializer=edge_pb2.InferRequest.FromString
            ),
            "Describe": grpc.unary_unary_rpc_method_handler(
                self._describe, request_deserializer=edge_pb2.DescribeRequest.FromString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _infer(self, requests: AsyncIterator[edge_pb2.InferRequest], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if not request.cancel:
                answer, self.bad = self.bad, None
                yield answer or bad_answers.good(request.request_id).SerializeToString()

    async def _describe(self, _request: edge_pb2.DescribeRequest, _context: Any) -> bytes:
        self.described += 1
        return self.description


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_network(tmp_path / "model")


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every refusal is logged, however fast they come."""
    monkeypatch.setattr("device.shell.REPEATED_LINE_S", 0.0)
    monkeypatch.setattr("device.uplink.REPEATED_LINE_S", 0.0)


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the device has refused since, as its log says it."""
    texts = [vars(r)["fields"]["error"] for r in caplog.records if r.getMessage() == "edge-refused"]
    caplog.clear()
    return texts


async def wrong(
    bench: DeviceBench, edge: RawEdge, frame: Path, bad: Bad, reason: Reason, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What is to say about a bad answer to the next task, and a good one to the task after it."""
    edge.bad, count = bad.data, len(bench.records)
    caplog.clear()
    for number in (1, 2):
        await bench.submit([frame])
        await bench.ended(count + number)
    resumed, answered = bench.records[count:]
    assert (answered.outcome, answered.label) == (Outcome.EDGE, "boot"), bad.name
    texts = refused(caplog)
    for text in texts:
        check_text(text)
    if (resumed.outcome, resumed.reason) != (Outcome.DEVICE, reason) or [bad.word in t for t in texts] != [True]:
        return [f"{bad.name}: {resumed.outcome} {resumed.reason} {texts}"]
    return []


@pytest.mark.slow
async def test_each_bad_answer_is_refused_by_its_name_and_its_task_ends_once_on_the_device(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = manifest_digest(read_manifest(model)[1])
    (frame,) = write_frames(tmp_path / "frames", 1).iterdir()
    found: list[str] = []
    async with (
        served(RawEdge(bad_answers.description(digest).SerializeToString())) as edge,
        running_device(model, answer_timeout_s=TOO_LATE_S) as bench,
    ):
        bench.plan(offload_at(1), edge.address)
        await bench.edge_is("closed")
        for bad in cases(bench, bad_answers.bad_answers):
            found += await wrong(bench, edge, frame, bad, Reason.EDGE_REFUSED, caplog)
        for bad in cases(bench, bad_answers.unreadable_answers):
            found += await wrong(bench, edge, frame, bad, Reason.EDGE_TOO_LATE, caplog)
        assert edge.described == 1 + 3, "it was one connection"
    assert not found, "\n".join(found)


def cases(bench: DeviceBench, made: Any) -> Iterator[Bad]:
    """Each for the task that is submitted next."""
    for position in range(len(list(made(1)))):
        yield list(made(len(bench.records) + 1))[position]


@pytest.mark.slow
async def test_an_edge_that_does_not_describe_itself_is_named_in_the_log_and_found_once_it_does(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = manifest_digest(read_manifest(model)[1])
    whole = bad_answers.description(digest).SerializeToString()
    (frame,) = write_frames(tmp_path / "frames", 1).iterdir()
    async with served(RawEdge(b"")) as edge, running_device(model) as bench:
        for number, mutate in enumerate(UNREADABLE.values(), 1):
            edge.description = mutate(whole)
            bench.plan(offload_at(1), edge.address, number)
            await until(lambda: any("not a DescribeResponse" in text for text in refused(caplog)))
        edge.description = whole
        await bench.edge_is("half-open")
        await bench.submit([frame])
        assert [record.outcome for record in await bench.ended(1)] == [Outcome.EDGE]


def test_every_number_of_an_answer_is_tried() -> None:
    assert floats_in(bad_answers.good(1)) == floats_of(edge_pb2.InferResponse.DESCRIPTOR)
    assert floats_in(bad_answers.description("ab" * 32)) == floats_of(edge_pb2.DescribeResponse.DESCRIPTOR)
    assert set(bad_answers.TOLERATED) < floats_of(edge_pb2.InferResponse.DESCRIPTOR)
