"""A real edge over gRPC: answers through every cut and representation, refusals, cancellation, closed streams."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.models import HeldModel, load_models
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from edge.tail_queue import Tail, TailEnd
from tests.integration.device_bench import until
from tests.integration.gate import Gate
from tests.integration.stopping import stopped_after
from tests.unit.edge.tiny_model import SHAPES, boundary_tensors, write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import (
    BadMessageError,
    DeadlineError,
    EdgeFullError,
    OversizeError,
    StoppingError,
    TensorError,
    WrongDigestError,
)
from twinsplit.model.payload import decode_payload, encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.rpc.v1 import edge_pb2, errors_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import backlog_from_wire, header_to_wire
from twinsplit.transport.tail_stream import INFER_METHOD, SERVICE, InferRequest, InferResponse, infer_call

TOLERANCE = 1e-5
Call = Any


@pytest.fixture(scope="module")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_tiny_model(root / "tiny" / "1")
    write_tiny_model(root / "other" / "1", name="other", seed=1)
    return root


@pytest.fixture(scope="module")
def models(models_root: Path) -> dict[str, HeldModel]:
    return load_models(models_root, clock=SystemClock())


@pytest.fixture(scope="module")
def runtime(models_root: Path) -> SegmentRuntime:
    return SegmentRuntime.load(models_root / "tiny" / "1")


@pytest.fixture(scope="module")
def tensors(runtime: SegmentRuntime) -> list[NDArray[Any]]:
    return boundary_tensors(runtime)


def settings(**changed: object) -> EdgeSettings:
    given = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": "unused", "drain_s": 1.0}
    return EdgeSettings(**given | changed)


def slowed(models: dict[str, HeldModel], segment_s: float) -> dict[str, HeldModel]:
    """The same models with every segment taking about ``segment_s``."""
    return {
        digest: HeldModel(m.manifest, digest, m.runtime, tuple(segment_s / 2 for _ in m.segment_s), m.decode_s, 2.0)
        for digest, m in models.items()
    }


@pytest.fixture
async def edge(models: dict[str, HeldModel]) -> AsyncIterator[EdgeService]:
    service = await start_edge(settings(), models=models)
    yield service
    await service.stop()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def slow_edge(models: dict[str, HeldModel], gate: Gate) -> AsyncIterator[EdgeService]:
    """Its tails come by the gate."""
    service = await start_edge(settings(queue_capacity=2), models=gate.within(slowed(models, 0.02)))
    yield service
    gate.open()
    await service.stop()


@pytest.fixture
async def call(edge: EdgeService) -> AsyncIterator[Call]:
    async with open_channel(edge.address) as channel:
        yield infer_call(channel)


@pytest.fixture
async def slow_call(slow_edge: EdgeService) -> AsyncIterator[Call]:
    async with open_channel(slow_edge.address) as channel:
        yield infer_call(channel)


def request(
    runtime: SegmentRuntime, tensors: list[NDArray[Any]], request_id: int = 1, cut: int = 0, **changed: Any
) -> InferRequest:
    payload = changed.get("tensor") or encode_payload(runtime.manifest, cut, 0, tensors[cut])
    given = {"request_id": request_id, "model_digest": runtime.digest, "cut": cut, "tensor": payload}
    return InferRequest(**given | changed)


async def ask(call: Call, one: InferRequest) -> InferResponse:
    await call.write(one)
    answer = await asyncio.wait_for(call.read(), 10.0)
    assert isinstance(answer, InferResponse)
    assert answer.problem is None
    return answer


async def held(call: Call, gate: Gate, one: InferRequest) -> None:
    """Send a tail to an idle edge and return when it is in service, where the shut gate keeps it."""
    gate.shut()
    await call.write(one)
    await until(lambda: gate.is_holding)


def output_of(answer: InferResponse) -> NDArray[Any]:
    assert answer.error is None, answer.error
    assert answer.tensor is not None
    return decode(answer.tensor.header, answer.tensor.data, 1000)


async def test_every_cut_and_representation_gives_the_answer_of_the_whole_network(
    call: Call, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    manifest = runtime.manifest
    picture = made_up_input(manifest).picture
    request_id = 0
    for cut in range(manifest.segment_count):
        for position in range(len(manifest.cuts[cut].representations)):
            request_id += 1
            payload = encode_payload(manifest, cut, position, tensors[cut], picture)
            answer = await ask(call, InferRequest(request_id, runtime.digest, cut, None, False, payload))
            received = decode_payload(manifest, cut, payload.header, payload.data)
            expected = runtime.run_tail(cut, received)
            assert expected is not None
            assert answer.request_id == request_id
            np.testing.assert_allclose(output_of(answer), expected, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(
        output_of(await ask(call, request(runtime, tensors, 99, cut=2))), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE
    )


async def test_an_answer_says_how_long_it_waited_and_was_served_and_what_the_backlog_is(
    slow_edge: EdgeService, slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    sent_s = time.monotonic()
    await held(slow_call, gate, request(runtime, tensors, 1))
    in_service_s = time.monotonic() - sent_s
    await slow_call.write(request(runtime, tensors, 2))
    await until(lambda: slow_edge.executor.reading().queue_length == 2)
    gate.open()
    first, second = await slow_call.read(), await slow_call.read()
    assert (first.request_id, second.request_id) == (1, 2)
    assert first.queue_wait_s < in_service_s
    assert first.service_s >= 0.055
    assert second.queue_wait_s >= 0.04, "the last two segments of the first, which were not held"
    assert first.backlog.backlog_s > 0.04
    assert second.backlog.backlog_s == 0.0


async def test_what_is_answered_does_not_wait_for_the_collection_of_garbage(
    edge: EdgeService, call: Call, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    def tails() -> int:
        # Of lazy objects of libraries, isinstance would ask for more than their type.
        return sum(type(each) is Tail for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = tails()
        for number in range(1, 21):
            await ask(call, request(runtime, tensors, number))
        kept = tails() - before
    finally:
        gc.enable()
    assert edge.executor.ends() == {TailEnd.FINISHED: 20}
    assert kept <= 2, "but for the newest, which threads may still have at hand"


async def test_two_models_are_served_on_one_stream(
    call: Call, models_root: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    other = SegmentRuntime.load(models_root / "other" / "1")
    expected = other.run_tail(0, tensors[0])
    assert expected is not None
    answer = await ask(call, request(runtime, tensors, 1, model_digest=other.digest))
    np.testing.assert_allclose(output_of(answer), expected, rtol=TOLERANCE, atol=TOLERANCE)
    own = await ask(call, request(runtime, tensors, 2))
    np.testing.assert_allclose(output_of(own), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)


def _changed_header(payload: EncodedTensor, **changed: Any) -> EncodedTensor:
    header = payload.header
    given = {"shape": header.shape, "dtype": header.dtype, "codec": header.codec}
    return EncodedTensor(TensorHeader(representation=header.representation, **given | changed), payload.data)


def _bad_requests(runtime: SegmentRuntime, tensors: list[NDArray[Any]]) -> dict[str, tuple[InferRequest, type, str]]:
    good = request(runtime, tensors)
    payload = good.tensor
    assert payload is not None
    zstd = encode_payload(runtime.manifest, 0, 2, tensors[0])

    def with_tensor(tensor: EncodedTensor) -> InferRequest:
        return request(runtime, tensors, tensor=tensor)

    return {
        "wrong digest": (request(runtime, tensors, model_digest="0" * 64), WrongDigestError, "tiny/1"),
        "cut without a tail": (request(runtime, tensors, cut=3, tensor=payload), BadMessageError, "cuts 0..2"),
        "another cut's tensor": (request(runtime, tensors, cut=2, tensor=payload), TensorError, "cut 2 is"),
        "wrong shape": (with_tensor(_changed_header(payload, shape=(1, 3, 4, 4))), TensorError, "shape|payload says"),
        "wrong dtype": (with_tensor(_changed_header(payload, dtype="float64")), TensorError, "float64"),
        "codec not offered": (with_tensor(_changed_header(payload, codec="zstd")), TensorError, "not offered"),
        "too short": (with_tensor(EncodedTensor(payload.header, bytes(12))), TensorError, ""),
        "corrupt": (with_tensor(EncodedTensor(zstd.header, b"\x00" * 60)), TensorError, ""),
        "oversize": (with_tensor(EncodedTensor(payload.header, bytes(100_000))), OversizeError, "100000"),
        "impossible budget": (request(runtime, tensors, budget_s=-1.0), BadMessageError, "budget_s"),
    }


@pytest.mark.parametrize(
    "fault",
    [
        "wrong digest",
        "cut without a tail",
        "another cut's tensor",
        "wrong shape",
        "wrong dtype",
        "codec not offered",
        "too short",
        "corrupt",
        "oversize",
        "impossible budget",
    ],
)
async def test_a_bad_message_is_refused_by_name_and_a_good_one_after_it_is_answered(
    fault: str, edge: EdgeService, call: Call, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    bad, kind, text = _bad_requests(runtime, tensors)[fault]
    answer = await ask(call, bad)
    assert type(answer.error) is kind
    assert answer.error is not None
    assert answer.error.args[0]
    if text:
        assert any(part in str(answer.error) for part in text.split("|"))
    assert answer.backlog is not None
    assert edge.servicer.refusals[answer.error.code] == 1
    good = await ask(call, request(runtime, tensors, 2))
    np.testing.assert_allclose(output_of(good), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)


async def test_bytes_that_are_no_message_are_refused_and_the_stream_goes_on(
    edge: EdgeService, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    payload = encode_payload(runtime.manifest, 0, 0, tensors[0])
    good = edge_pb2.InferRequest(request_id=5, model_digest=bytes.fromhex(runtime.digest), data=bytes(payload.data))
    good.header.CopyFrom(header_to_wire(payload.header))
    async with open_channel(edge.address) as channel:
        raw = channel.stream_stream(INFER_METHOD, response_deserializer=edge_pb2.InferResponse.FromString)()
        for data, request_id in (
            (b"\xff\xff\xff\xff", 0),
            (edge_pb2.InferRequest(request_id=3, model_digest=b"short").SerializeToString(), 3),
            (edge_pb2.InferRequest(cut=1).SerializeToString(), 0),
        ):
            await raw.write(data)
            answer = await asyncio.wait_for(raw.read(), 10.0)
            assert answer.request_id == request_id
            assert answer.error.code == errors_pb2.ERROR_CODE_BAD_MESSAGE
        await raw.write(good.SerializeToString())
        answer = await asyncio.wait_for(raw.read(), 10.0)
        assert answer.request_id == 5
        assert not answer.HasField("error")


async def test_a_request_id_under_way_is_refused_and_the_first_is_answered(
    slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    await held(slow_call, gate, request(runtime, tensors, 7))
    refusal = await ask(slow_call, request(runtime, tensors, 7))
    assert isinstance(refusal.error, BadMessageError)
    gate.open()
    first = await asyncio.wait_for(slow_call.read(), 10.0)
    np.testing.assert_allclose(output_of(first), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)


async def test_a_full_edge_and_a_short_deadline_are_refused_while_the_rest_is_answered(
    slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    await held(slow_call, gate, request(runtime, tensors, 1))
    await slow_call.write(request(runtime, tensors, 2, budget_s=0.01))
    for request_id in (3, 4, 5):
        await slow_call.write(request(runtime, tensors, request_id))
    refusals = [await asyncio.wait_for(slow_call.read(), 10.0) for _ in range(2)]
    assert [(each.request_id, type(each.error)) for each in refusals] == [(2, DeadlineError), (5, EdgeFullError)]
    gate.open()
    answers = [await asyncio.wait_for(slow_call.read(), 10.0) for _ in range(3)]
    assert [(each.request_id, each.error) for each in answers] == [(1, None), (3, None), (4, None)]


async def test_a_cancelled_waiting_tail_is_never_run_and_gets_no_response(
    slow_edge: EdgeService, slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    await held(slow_call, gate, request(runtime, tensors, 1))
    for request_id in (2, 3):
        await slow_call.write(request(runtime, tensors, request_id))
    await slow_call.write(InferRequest(2, is_cancel=True))
    await until(lambda: slow_edge.executor.ends() == {TailEnd.CANCELLED: 1})
    gate.open()
    assert [(await asyncio.wait_for(slow_call.read(), 10.0)).request_id for _ in range(2)] == [1, 3]
    assert slow_edge.executor.ends() == {TailEnd.FINISHED: 2, TailEnd.CANCELLED: 1}


async def test_a_cancelled_tail_in_service_stops_between_segments(
    slow_edge: EdgeService, slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    await held(slow_call, gate, request(runtime, tensors, 1))
    await slow_call.write(request(runtime, tensors, 2, cut=2))
    await slow_call.write(InferRequest(1, is_cancel=True))
    # What comes after the cancellation on the same stream is refused after it has been read.
    assert (await ask(slow_call, request(runtime, tensors, 3, model_digest="0" * 64))).error is not None
    gate.open()
    answer = await asyncio.wait_for(slow_call.read(), 10.0)
    assert answer.request_id == 2
    assert gate.segments == [0, 2], "of the first only the segment that was under way"
    assert slow_edge.executor.ends()[TailEnd.CANCELLED] == 1


async def test_a_device_that_goes_away_takes_its_tails_with_it_and_leaves_those_of_others(
    slow_edge: EdgeService, slow_call: Call, gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    async with open_channel(slow_edge.address) as channel:
        leaving = infer_call(channel)
        await held(leaving, gate, request(runtime, tensors, 1))
        await leaving.write(request(runtime, tensors, 2))
        await slow_call.write(request(runtime, tensors, 1))
        await until(lambda: slow_edge.executor.reading().queue_length == 3)
        leaving.cancel()
        await until(lambda: slow_edge.executor.ends() == {TailEnd.CANCELLED: 1})
        gate.open()
        answer = await asyncio.wait_for(slow_call.read(), 10.0)
    np.testing.assert_allclose(output_of(answer), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)
    assert slow_edge.executor.ends() == {TailEnd.FINISHED: 1, TailEnd.CANCELLED: 2}


async def test_a_half_closed_stream_is_answered_to_the_end(
    slow_call: Call, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    for request_id in (1, 2):
        await slow_call.write(request(runtime, tensors, request_id))
    await slow_call.done_writing()
    assert [(await asyncio.wait_for(slow_call.read(), 10.0)).request_id for _ in range(2)] == [1, 2]
    assert await slow_call.read() is grpc.aio.EOF
    assert await slow_call.code() == grpc.StatusCode.OK


async def test_a_device_that_never_reads_does_not_hold_up_others(
    edge: EdgeService, call: Call, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    async with open_channel(edge.address) as channel:
        deaf = infer_call(channel)
        for request_id in range(1, 300):
            await deaf.write(request(runtime, tensors, request_id, model_digest="0" * 64))
        good = await ask(call, request(runtime, tensors, 1))
        np.testing.assert_allclose(output_of(good), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)
        deaf.cancel()


async def test_many_devices_are_served_at_once(
    edge: EdgeService, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    async def device(count: int) -> int:
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for request_id in range(1, count + 1):
                answer = await ask(call, request(runtime, tensors, request_id, cut=request_id % 3))
                np.testing.assert_allclose(output_of(answer), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)
        return count

    assert sum(await asyncio.gather(*(device(10) for _ in range(5)))) == 50
    assert edge.executor.ends()[TailEnd.FINISHED] == 50


async def test_describe_names_the_edge_its_models_and_its_backlog(
    edge: EdgeService, models: dict[str, HeldModel]
) -> None:
    async with open_channel(edge.address) as channel:
        describe = channel.unary_unary(
            f"/{SERVICE}/Describe",
            request_serializer=edge_pb2.DescribeRequest.SerializeToString,
            response_deserializer=edge_pb2.DescribeResponse.FromString,
        )
        answer = await describe(edge_pb2.DescribeRequest())
    assert answer.edge_id == "edge"
    assert {digest.hex() for digest in answer.model_digests} == set(models)
    assert answer.provider == "CPUExecutionProvider"
    assert backlog_from_wire(answer.backlog, 0.0).backlog_s == 0.0


async def test_a_stopping_edge_finishes_what_it_took_and_refuses_the_rest(
    models: dict[str, HeldModel], gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    service = await start_edge(settings(drain_s=30.0), models=gate.within(slowed(models, 0.03)))
    async with stopped_after(service), open_channel(service.address) as channel:
        call = infer_call(channel)
        await held(call, gate, request(runtime, tensors, 1))
        await call.write(request(runtime, tensors, 2))
        await until(lambda: service.executor.reading().queue_length == 2)
        stopping = asyncio.ensure_future(service.stop())
        await until(lambda: service.executor.is_stopping)
        refused = await ask(call, request(runtime, tensors, 3))
        gate.open()
        answers = [await asyncio.wait_for(call.read(), 10.0) for _ in range(2)]
        await stopping
    assert (refused.request_id, type(refused.error)) == (3, StoppingError)
    assert [answer.request_id for answer in answers] == [1, 2]
    for answer in answers:
        np.testing.assert_allclose(output_of(answer), tensors[-1], rtol=TOLERANCE, atol=TOLERANCE)


async def test_an_edge_without_time_to_drain_says_stopping_to_everyone_who_waits(
    models: dict[str, HeldModel], gate: Gate, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    service = await start_edge(settings(drain_s=0.0), models=gate.within(slowed(models, 0.05)))
    async with stopped_after(service), open_channel(service.address) as channel:
        call = infer_call(channel)
        await held(call, gate, request(runtime, tensors, 1))
        for request_id in (2, 3):
            await call.write(request(runtime, tensors, request_id))
        await until(lambda: service.executor.reading().queue_length == 3)
        stopping = asyncio.ensure_future(service.stop())
        waiting = [await asyncio.wait_for(call.read(), 10.0) for _ in range(2)]
        gate.open()
        in_service = await asyncio.wait_for(call.read(), 10.0)
        await stopping
    assert [each.request_id for each in (*waiting, in_service)] == [2, 3, 1]
    assert all(isinstance(each.error, StoppingError) for each in (*waiting, in_service))


def test_the_shapes_of_the_tiny_model_are_those_of_its_tensors(tensors: list[NDArray[Any]]) -> None:
    assert tuple(tensor.shape for tensor in tensors) == SHAPES
