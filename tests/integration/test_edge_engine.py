"""An edge whose tails run at servers of the Open Inference Protocol: other edges, and servers that misbehave."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.engine import opening
from edge.execution import EdgeTail, TailResult, TailWork
from edge.models import HeldModel, load_models
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from edge.tail_queue import Tail, TailEnd
from tests.integration.test_access import Certificates
from tests.integration.test_edge_twin_link import FakeTwin, start_twin
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.certificates.subject import Role
from twinsplit.clock import SystemClock
from twinsplit.errors import DeadlineError, PeerError, SettingsError, StoppingError, TensorError
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip.datatypes import DATATYPES
from twinsplit.oip.messages import (
    InferenceRequest,
    InferenceResponse,
    NamedTensor,
    request_from_bytes,
    response_to_bytes,
)
from twinsplit.oip.v2 import inference_pb2
from twinsplit.tensor import EncodedTensor, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import InternalError
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call
from twinsplit.transport.tls import TlsFiles

Infer = Callable[[InferenceRequest, Any], Awaitable[InferenceResponse]]
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> SegmentRuntime:
    return SegmentRuntime.load(folder)


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, HeldModel]:
    return load_models(folder, clock=SystemClock())


@pytest.fixture(scope="module")
def tensors(runtime: SegmentRuntime) -> list[NDArray[Any]]:
    found = [made_up_input(runtime.manifest).tensor]
    for index in range(runtime.manifest.segment_count):
        found.append(runtime.run_segment(index, found[-1]))
    return found


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


class OtherServer:
    """A server of the protocol that is no edge: answers by the tiny model, as slowly as it is told, or fails."""

    def __init__(self, runtime: SegmentRuntime) -> None:
        self._runtime = runtime
        self.answer: Infer = self.right
        self.is_ready = True
        self.asked = 0
        self.cancelled = 0
        self.address = ""
        self._server = grpc.aio.server()

    async def start(self, address: str = "127.0.0.1:0") -> None:
        def reply(message: object) -> Callable[[object, object], Awaitable[object]]:
            async def method(_request: object, _context: object) -> object:
                return message() if callable(message) else message

            return method

        pb2 = inference_pb2
        methods = {
            "ServerReady": (reply(lambda: pb2.ServerReadyResponse(ready=self.is_ready)), pb2.ServerReadyRequest),
            "ModelReady": (reply(pb2.ModelReadyResponse(ready=True)), pb2.ModelReadyRequest),
            "ServerMetadata": (reply(pb2.ServerMetadataResponse(name="other")), pb2.ServerMetadataRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method, asks.FromString, lambda answer: answer.SerializeToString()
            )
            for name, (method, asks) in methods.items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer, request_from_bytes, response_to_bytes)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def right(self, request: InferenceRequest, _context: Any) -> InferenceResponse:
        _, _, cut = request.model_name.partition(".from_cut_")
        spec = self._runtime.manifest.cuts[int(cut or 0)].tensor
        tensor = np.frombuffer(request.inputs[0].data, np.float32).reshape(spec.shape)
        output = self._runtime.run_tail(int(cut or 0), tensor)
        assert output is not None
        found = NamedTensor("t3", DATATYPES["float32"], output.shape, output.tobytes())
        return InferenceResponse(request.model_name, "1", outputs=(found,))

    async def never(self, _request: InferenceRequest, _context: Any) -> InferenceResponse:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def unavailable(self, _request: InferenceRequest, context: Any) -> InferenceResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "queue full")
        raise AssertionError

    async def invalid(self, _request: InferenceRequest, context: Any) -> InferenceResponse:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a path of the server: /srv/secret")
        raise AssertionError

    async def another_shape(self, request: InferenceRequest, _context: Any) -> InferenceResponse:
        return InferenceResponse(request.model_name, "1", outputs=(NamedTensor("t3", "FP32", (1, 2), bytes(8)),))

    async def _infer(self, request: InferenceRequest, context: Any) -> InferenceResponse:
        self.asked += 1
        return await self.answer(request, context)


@pytest.fixture
async def other(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def second(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()


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


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not so within {seconds} s")


@pytest.mark.slow
async def test_answers_by_other_edges_equal_those_of_its_own_at_every_cut_and_representation(
    folder: Path, models: dict[str, HeldModel], runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    manifest = runtime.manifest
    asked = [(cut, n) for cut in range(manifest.segment_count) for n in range(len(manifest.cuts[cut].representations))]
    async with running(folder, models, id="a") as first, running(folder, models, id="b") as last:
        engine = f"oip://{first.address},{last.address}"
        async with running(folder, engine=engine) as remote, running(folder, models) as local:
            requests = [
                request(runtime, number, cut, plain(runtime, tensors, cut, position))
                for number, (cut, position) in enumerate(asked, 1)
            ]
            found, expected = await answers(remote, requests), await answers(local, requests)
            for number in expected:
                np.testing.assert_array_equal(output_of(found[number]), output_of(expected[number]))
                assert found[number].service_s > 0.0
            served = [edge.executor.ends()[TailEnd.FINISHED] for edge in (first, last)]
            assert min(served) > 5, "both have tails"
            assert remote.executor.ends() == {TailEnd.FINISHED: len(asked)}
            page = await asyncio.to_thread(_page, remote.http_address)
            assert f'twinsplit_engine_ready{{back_end="{first.address}"}} 1.0' in page
            assert "twinsplit_engine_backlog_error_seconds" in page
            assert 'twinsplit_provider_info{provider="oip"} 1.0' in page
            reading = remote.executor.reading()
            assert reading.queue_length == 0
            assert reading.backlog.backlog_s == 0.0


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        return str(answer.read().decode())


@pytest.mark.slow
async def test_tails_of_a_back_end_that_dies_are_answered_by_the_other(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer, second: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address},{second.address}", engine_in_flight=3) as edge:
        await until(lambda: all(load.is_ready for load in edge.executor._queue.back_ends))
        asked = other.asked
        other.answer = other.never
        pending = asyncio.ensure_future(
            answers(edge, [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 31)])
        )
        await until(lambda: other.asked >= asked + 3)
        await other.stop()
        found = await pending
        assert len(found) == 30
        for response in found.values():
            np.testing.assert_allclose(output_of(response), tensors[-1], atol=1e-5)
        assert edge.executor.ends() == {TailEnd.FINISHED: 30}
        samples = {(name, tuple(labels.values())): value for name, labels, value in edge.executor.samples()}
        assert samples["twinsplit_engine_tails_total", (other.address, "moved")] >= 3
        await until(lambda: not edge.executor._queue.back_ends[0].is_ready)


@pytest.mark.slow
async def test_without_any_back_end_tails_are_refused_by_name_until_one_is_back(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    payload = plain(runtime, tensors, 2)
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        other.is_ready, other.answer = False, other.unavailable
        refused = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(refused, StoppingError)
        assert "no engine" in str(refused)
        assert edge.executor.unready_reason is not None
        assert edge.executor.backlog_s() > 10.0
        other.is_ready, other.answer = True, other.right
        await until(lambda: edge.executor.unready_reason is None)
        assert output_of((await answers(edge, [request(runtime, 1, 2, payload)]))[1]).shape == (1, 4)


@pytest.mark.slow
async def test_a_back_end_that_died_is_used_again_when_it_is_back(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        await other.stop()
        await until(lambda: edge.executor.unready_reason is not None)
        again = OtherServer(runtime)
        await again.start(other.address)
        await until(lambda: edge.executor.unready_reason is None)
        found = await answers(edge, [request(runtime, 1, 1, plain(runtime, tensors, 1))])
        np.testing.assert_allclose(output_of(found[1]), tensors[-1], atol=1e-5)
        await again.stop()


@pytest.mark.slow
async def test_what_a_back_end_cannot_do_is_refused_by_name_and_the_others_go_on(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    payload = plain(runtime, tensors, 2)
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        other.answer = other.invalid
        error = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(error, InternalError)
        assert "secret" not in str(error)
        other.answer = other.another_shape
        error = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(error, InternalError)
        other.answer = other.never
        late = (await answers(edge, [request(runtime, 1, 2, payload, budget_s=0.3)]))[1].error
        assert isinstance(late, DeadlineError)
        other.answer = other.right
        await until(lambda: edge.executor.unready_reason is None)
        broken = EncodedTensor(plain(runtime, tensors, 2, 2).header, b"no zstd")
        found = await answers(edge, [request(runtime, 1, 2, broken), request(runtime, 2, 2, payload)])
        assert isinstance(found[1].error, TensorError)
        np.testing.assert_allclose(output_of(found[2]), tensors[-1], atol=1e-5)
        assert edge.executor.ends() == {TailEnd.FAILED: 3, TailEnd.EXPIRED: 1, TailEnd.FINISHED: 1}


@pytest.mark.slow
async def test_a_cancelled_tail_is_cancelled_at_its_back_end_and_a_stopping_edge_gives_up_the_rest(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}", engine_in_flight=1, drain_s=0.1) as edge:
        await until(lambda: edge.executor.unready_reason is None)
        asked = other.asked
        other.answer = other.never
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for number in (1, 2, 3):
                await call.write(request(runtime, number, 1, plain(runtime, tensors, 1)))
            await until(lambda: other.asked == asked + 1)
            await call.write(InferRequest(1, is_cancel=True))
            await until(lambda: other.cancelled == 1)
            await until(lambda: other.asked == asked + 2)
            stopping = asyncio.ensure_future(edge.stop())
            ended = [await asyncio.wait_for(call.read(), 10.0) for _ in range(2)]
            assert {each.request_id for each in ended} == {2, 3}
            assert all(isinstance(each.error, StoppingError) for each in ended)
            await stopping
        ends = edge.executor.ends()
        assert ends == {TailEnd.CANCELLED: 1, TailEnd.FAILED: 2}


@pytest.mark.slow
async def test_a_tail_that_is_cancelled_before_it_was_sent_has_one_result_all_the_same(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        results: list[TailResult] = []
        payload = plain(runtime, tensors, 1)
        work = TailWork(payload.header, payload.data, results.append)
        tail: EdgeTail = Tail(runtime.digest, 1, "owner", work, asyncio.get_running_loop().time())
        edge.executor.submit(tail)
        edge.executor.cancel_owner("owner")
        await until(lambda: len(results) > 0)
        assert [result.end for result in results] == [TailEnd.CANCELLED]
        assert edge.executor.reading().queue_length == 0


@pytest.mark.slow
async def test_tails_of_a_back_end_that_hangs_go_to_the_other(
    folder: Path,
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    other: OtherServer,
    second: OtherServer,
) -> None:
    async with running(folder, engine=f"oip://{other.address},{second.address}", engine_in_flight=2) as edge:
        asked = other.asked
        other.answer = other.never
        pending = asyncio.ensure_future(
            answers(edge, [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 9)])
        )
        await until(lambda: other.asked == asked + 2)
        other.is_ready = False  # what a hanging server is found by: it does not say that it is ready
        found = await pending
        assert all(response.error is None for response in found.values())
        assert other.cancelled == 2


@pytest.mark.slow
async def test_the_twin_is_told_the_tails_times_there_and_the_backlog_behind_the_edge(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    twin = FakeTwin()
    server = await start_twin(twin)
    async with running(folder, engine=f"oip://{other.address}", twin=server.address, report_threshold_s=1e-4) as edge:
        await until(lambda: len(twin.of_kind("hello")) > 0 and edge.link is not None and edge.link.is_attached)
        (model,) = twin.of_kind("hello")[0].hello.models
        assert list(model.tail_s) == sorted(model.tail_s, reverse=True)
        assert model.tail_s[-1] > 0.0
        other.answer = other.never
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for number in range(1, 41):
                await call.write(request(runtime, number, 1, plain(runtime, tensors, 1)))
            await until(lambda: any(each.backlog.backlog.backlog_s > 0.0 for each in twin.of_kind("backlog")))
        assert max(each.backlog.queue_length for each in twin.of_kind("backlog")) > 4, (
            "those that wait at the edge, too"
        )
    await server.stop()


@pytest.mark.slow
async def test_edges_behind_an_edge_are_reached_by_tls_as_what_its_certificate_says(
    folder: Path,
    models: dict[str, HeldModel],
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path)
    behind, front = (certificates.of((Role.EDGE, name)) for name in ("behind", "front"))
    async with running(folder, models, **tls_settings(behind)) as engine:
        oips = f"oips://{engine.address}"
        async with running(folder, engine=oips, **tls_settings(front)) as edge:
            payload = plain(runtime, tensors, 2)
            found = await answers(edge, [request(runtime, 1, 2, payload)], certificates.of((Role.DEVICE, "cam")))
            np.testing.assert_allclose(output_of(found[1]), tensors[-1], atol=1e-5)


def tls_settings(files: TlsFiles) -> dict[str, object]:
    return {"tls_ca": files.ca, "tls_cert": files.cert, "tls_key": files.key}


@pytest.mark.slow
async def test_an_edge_whose_engine_does_not_come_up_ends_with_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WAIT_S", 0.2)
    with pytest.raises(PeerError, match=r"has all 3 tails after 0\.2 s"):
        await start_edge(settings(folder, engine="oip://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"engine": "triton"}, "is no engine"),
        ({"engine": "oip://127.0.0.1"}, "HOST:PORT"),
        ({"engine": "oip://a:1,a:1"}, "names a server twice"),
        ({"engine": "oip://a:1", "batch_most": 2}, "--batch-most is for --engine local"),
        ({"engine": "oip://a:1", "emulate_slowdown": 2.0}, "--emulate-slowdown is for"),
        ({"engine": "oips://a:1"}, "needs --tls-ca"),
        ({"engine_metrics": ("http://a/metrics",)}, "--engine-metrics is for"),
        ({"engine": "oip://a:1", "engine_metrics": ("a/metrics",)}, "is no page"),
        ({"engine": "oip://a:1,b:1", "engine_metrics": ("http://a/metrics",)}, "2 servers and --engine-metrics 1"),
    ],
)
async def test_settings_that_do_not_go_together_are_refused(
    folder: Path, changed: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        await start_edge(settings(folder, **changed))
