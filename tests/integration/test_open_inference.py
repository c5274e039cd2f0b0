"""Edge and device as tritonclient sees them, and as JSON goes in and comes out."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.protobuf import json_format
from numpy.typing import NDArray

from edge.models import HeldModel
from edge.service import EdgeService, start_edge
from edge.tail_queue import TailEnd
from tests.integration.device_bench import (
    expected_labels,
    running_device,
    running_edge,
    until,
    write_frames,
    write_network,
)
from tests.integration.gate import Gate
from tests.integration.stopping import stopped_after
from tests.integration.test_edge_infer import settings, slowed
from tests.unit.edge.tiny_model import SHAPES
from twinsplit import __version__
from twinsplit.errors import DeadlineError, PeerError, StoppingError, TwinsplitError
from twinsplit.model.payload import encode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip import parameters
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, NamedTensor
from twinsplit.oip.service import INFER_METHOD, infer_call
from twinsplit.oip.v2 import inference_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import error_from_rpc
from twinsplit.types import Decision

PROGRAM = Path(__file__).with_name("triton_program.py")
TOLERANCE = 1e-5


async def program(address: str, *calls: dict[str, Any]) -> list[Any]:
    """What the program of the protocol's world gets for ``calls``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(json.dumps({"address": address, "calls": calls}).encode())
    assert process.returncode == 0, said.decode()
    found: list[Any] = json.loads(out)
    return found


def sent(name: str, array: NDArray[Any], datatype: str = "FP32") -> dict[str, Any]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"name": name, "base64": data, "dtype": str(array.dtype), "shape": array.shape, "datatype": datatype}


def picture(data: bytes) -> dict[str, Any]:
    return sent("frame", np.frombuffer(data, np.uint8), "BYTES")


def infer(model: str, given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"kind": "infer", "model": model, "input": given} | changes


@pytest.mark.slow
async def test_an_edge_is_one_more_server_of_the_protocol(
    models: dict[str, HeldModel], runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    frame = made_up_input(runtime.manifest)
    png = bytes(encode_payload(runtime.manifest, 0, 3, frame.tensor, frame.picture).data)
    packed = encode_payload(runtime.manifest, 1, 2, tensors[1])
    header = packed.header
    says = {
        "twinsplit_representation": "uint8",
        "twinsplit_codec": "zstd",
        "twinsplit_scale": header.scale,
        "twinsplit_zero_point": header.zero_point,
        "twinsplit_budget_s": 30.0,
        "twinsplit_plan_id": 3,
    }
    edge = await start_edge(settings(id="edge-7"), models=models)
    try:
        answers = await program(
            edge.address,
            {"kind": "is_server_live"},
            {"kind": "is_server_ready"},
            {"kind": "is_model_ready", "arguments": ["tiny.from_cut_2"]},
            {"kind": "is_model_ready", "arguments": ["tiny.from_cut_9"]},
            {"kind": "get_server_metadata"},
            {"kind": "get_model_metadata", "arguments": ["tiny.from_cut_1"]},
            infer("tiny", sent("t0", tensors[0]), id="one", outputs=["t3"]),
            infer("tiny.from_cut_1", sent("t1", tensors[1]), version="1"),
            infer("tiny.from_cut_2", sent("t2", tensors[2]), timeout_s=30.0),
            infer("tiny.from_cut_1", sent("t1", tensors[1].astype(np.float16), "FP16")),
            infer("tiny", picture(png)),
            infer("tiny.from_cut_1", sent("t1", np.frombuffer(packed.data, np.uint8), "UINT8"), parameters=says),
            infer("tiny.from_cut_9", sent("t1", tensors[1])),
            infer("tiny", sent("t1", tensors[1])),
            infer("tiny", sent("t0", tensors[0]), parameters={"twinsplit_budget_s": 1e-9}),
        )
        assert edge.executor.ends() == {TailEnd.FINISHED: 6}
    finally:
        await edge.stop()
    live, ready, model_ready, other_ready, server, model, *rest = answers
    assert (live, ready, model_ready, other_ready) == (True, True, True, False)
    assert server == {"name": "twinsplit edge edge-7", "version": __version__}
    tensor = {"name": "t1", "datatype": "FP32", "shape": [str(size) for size in SHAPES[1]]}
    assert (model["name"], model["versions"], model["inputs"]) == ("tiny.from_cut_1", ["1"], [tensor])
    assert model["outputs"] == [{"name": "t3", "datatype": "FP32", "shape": ["1", "4"]}]
    assert (rest[0]["model"], rest[0]["version"], rest[0]["id"]) == ("tiny", "1", "one")
    for number, tolerance in enumerate((TOLERANCE, TOLERANCE, TOLERANCE, 1e-2, 1e-1, 1e-1)):
        np.testing.assert_allclose(rest[number]["outputs"]["t3"], tensors[-1][0], atol=tolerance)
        said = rest[number]["parameters"]
        assert said["twinsplit_edge_id"] == "edge-7"
        assert said["twinsplit_service_s"] > 0.0
        assert min(said["twinsplit_queue_wait_s"], said["twinsplit_backlog_s"]) >= 0.0
    assert rest[5]["parameters"]["twinsplit_plan_id"] == 3
    assert [answer["status"].rpartition(".")[2] for answer in rest[6:]] == [
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
    ]
    assert "NAME.from_cut_1" in rest[6]["text"]


@pytest.mark.slow
async def test_a_device_takes_frames_of_any_program_and_says_where_and_why_they_stopped(tmp_path: Path) -> None:
    network, frames = write_network(tmp_path / "1"), sorted(write_frames(tmp_path / "frames", 2).iterdir())
    labels = expected_labels(network, frames[0].parent)
    runtime = SegmentRuntime.load(network)
    prepared = prepare(frames[1].read_bytes(), runtime.manifest)
    async with running_edge(network) as edge, running_device(network, edge=edge.address) as bench:
        await bench.edge_is("closed")
        bench.plan(lambda *_: Decision.OFFLOAD_INPUT, edge.address)
        answers = await program(
            bench.device.address,
            {"kind": "get_model_metadata", "arguments": ["tiny"]},
            infer("tiny", picture(frames[0].read_bytes()), id="first"),
            infer("tiny", sent("t0", prepared.tensor)),
            infer("tiny", sent("t0", prepared.tensor), outputs=["label_index"]),
            infer("tiny", picture(b"no picture")),
            infer("tiny.from_cut_1", sent("t1", np.zeros(SHAPES[1], np.float32))),
        )
        bench.plan(lambda *_: Decision.CONTINUE, edge.address, plan_id=2)
        (on_device,) = await program(bench.device.address, infer("tiny", picture(frames[0].read_bytes())))
        summary = bench.device.summary()
    metadata, first, second, third, bad, tail = answers
    assert [output["name"] for output in metadata["outputs"]] == ["label", "label_index"]
    for answer, name in ((first, frames[0].name), (second, frames[1].name)):
        assert answer["outputs"]["label"] == [labels[name]]
        said = answer["parameters"]
        assert (said["twinsplit_outcome"], said["twinsplit_reason"]) == ("edge", "offload-pays")
        assert (said["twinsplit_stop_epoch"], said["twinsplit_payload"], said["twinsplit_plan_id"]) == (0, "input", 1)
        assert said["twinsplit_latency_s"] > 0.0
    assert (first["id"], list(third["outputs"])) == ("first", ["label_index"])
    assert bad["status"].endswith("INVALID_ARGUMENT")
    assert tail["status"].endswith("NOT_FOUND")
    assert on_device["outputs"]["label"] == [labels[frames[0].name]]
    assert on_device["parameters"]["twinsplit_outcome"] == "device"
    assert (summary["entered"], summary["edge"], summary["device"], summary["failed"]) == (5, 3, 1, 1)


async def asked(address: str, request: InferenceRequest, timeout_s: float | None = None) -> InferenceResponse:
    """Ask by twinsplit's own messages.

    Raises:
        TwinsplitError: the refusal.
    """
    async with open_channel(address) as channel:
        try:
            answer: InferenceResponse = await infer_call(channel)(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            raise error_from_rpc(failure, address) from None
    return answer


def whole(tensor: NDArray[Any]) -> InferenceRequest:
    return InferenceRequest("tiny", inputs=(NamedTensor("t0", "FP32", tensor.shape, tensor.data.cast("B")),))


async def test_json_goes_in_and_comes_out_readable(models: dict[str, HeldModel], tensors: list[NDArray[Any]]) -> None:
    text = json.dumps(
        {
            "model_name": "tiny.from_cut_1",
            "parameters": {"twinsplit_budget_s": {"double_param": 5}},
            "inputs": [
                {
                    "name": "t1",
                    "datatype": "FP32",
                    "shape": SHAPES[1],
                    "contents": {"fp32_contents": tensors[1].reshape(-1).tolist()},
                }
            ],
        }
    )
    edge = await start_edge(settings(), models=models)
    try:
        async with open_channel(edge.address) as channel:
            call = channel.unary_unary(
                INFER_METHOD,
                request_serializer=inference_pb2.ModelInferRequest.SerializeToString,
                response_deserializer=inference_pb2.ModelInferResponse.FromString,
            )
            answer = json_format.MessageToDict(await call(json_format.Parse(text, inference_pb2.ModelInferRequest())))
    finally:
        await edge.stop()
    (output,) = answer["outputs"]
    np.testing.assert_allclose(output["contents"]["fp32Contents"], tensors[-1][0], atol=TOLERANCE)
    assert "rawOutputContents" not in answer


async def slow(models: dict[str, HeldModel], segment_s: float, gate: Gate, **changed: object) -> EdgeService:
    return await start_edge(settings(**changed), models=gate.within(slowed(models, segment_s)))


async def test_the_deadline_of_the_call_is_the_tails(models: dict[str, HeldModel], tensors: list[NDArray[Any]]) -> None:
    async with stopped_after(await slow(models, 10.0, Gate())) as edge:
        with pytest.raises(DeadlineError, match="finish the task on the device"):
            await asked(edge.address, whole(tensors[0]), timeout_s=20.0)
        assert edge.executor.ends() == {}, "it was refused at the door"


async def test_a_call_that_is_cancelled_leaves_the_queue(
    models: dict[str, HeldModel], tensors: list[NDArray[Any]]
) -> None:
    gate = Gate()
    gate.shut()
    async with stopped_after(await slow(models, 0.02, gate)) as edge, open_channel(edge.address) as channel:
        waiting: list[asyncio.Future[Any]] = []
        for count in (1, 2, 3):  # in this order, which calls that are begun at once need not keep
            call = infer_call(channel)(whole(tensors[0]))
            waiting.append(asyncio.ensure_future(_outcome(call)))
            await until(lambda count=count: edge.executor.reading().queue_length == count)
        call.cancel()
        await until(lambda: edge.executor.ends() == {TailEnd.CANCELLED: 1})
        assert edge.executor.reading().queue_length == 2
        gate.open()
        await asyncio.gather(*waiting[:2])
        assert edge.executor.ends() == {TailEnd.CANCELLED: 1, TailEnd.FINISHED: 2}


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except asyncio.CancelledError:
        return None


async def test_an_edge_that_stops_finishes_what_it_has_and_refuses_the_rest(
    models: dict[str, HeldModel], tensors: list[NDArray[Any]]
) -> None:
    gate = Gate()
    gate.shut()
    edge = await slow(models, 0.02, gate, drain_s=30.0)
    async with stopped_after(edge), open_channel(edge.address) as channel:
        asking = asyncio.ensure_future(_outcome(infer_call(channel)(whole(tensors[0]))))
        await until(lambda: edge.executor.reading().queue_length == 1)
        stopping = asyncio.ensure_future(edge.stop())
        await until(lambda: edge.executor.is_stopping)
        with pytest.raises((StoppingError, PeerError)):
            await asked(edge.address, whole(tensors[0]))
        gate.open()
        answer = await asking
        np.testing.assert_allclose(np.frombuffer(answer.outputs[0].data, np.float32), tensors[-1][0], atol=TOLERANCE)
        await stopping


async def test_one_that_floods_is_refused_by_name(models: dict[str, HeldModel], tensors: list[NDArray[Any]]) -> None:
    gate = Gate()
    gate.shut()
    edge = await slow(models, 0.02, gate, queue_capacity=1)
    async with stopped_after(edge), open_channel(edge.address) as channel:
        calls = [asyncio.ensure_future(_asked_at(channel, whole(tensors[0]))) for _ in range(6)]
        await until(lambda: sum(call.done() for call in calls) >= 4)
        gate.open()
        found = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in found if isinstance(each, grpc.aio.AioRpcError)]
        assert 4 <= len(refused) <= 5, "one runs, and one waits unless it came before the first was taken up"
        assert {error_from_rpc(failure, "").code.value for failure in refused} == {"EDGE_FULL"}
        assert {failure.code() for failure in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def _asked_at(channel: grpc.aio.Channel, request: InferenceRequest) -> Any:
    return await infer_call(channel)(request)


async def test_a_request_may_be_as_large_as_a_tensor_can_be_and_no_larger(
    models: dict[str, HeldModel], tensors: list[NDArray[Any]]
) -> None:
    edge = await start_edge(settings(), models=models)
    try:
        doubled = NamedTensor("t0", "FP32", (2, *SHAPES[0][1:]), bytes(8 * math.prod(SHAPES[0])))
        with pytest.raises(TwinsplitError) as refusal:
            await asked(edge.address, InferenceRequest("tiny", inputs=(doubled,)))
        assert refusal.value.code.value == "BAD_TENSOR"
    finally:
        await edge.stop()


SHIPPED = Path(__file__).resolve().parents[2] / "models" / "alexnet-fashion" / "1"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "open-inference-protocol.md"


def blocks(kind: str) -> list[str]:
    """What the page shows in that language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


async def ran(source: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        source,
        cwd=PAGE.parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return out.decode()


@pytest.mark.slow
async def test_what_the_page_shows_runs() -> None:
    at_edge, at_device = blocks("python")
    (request,) = blocks("json")
    async with running_edge(SHIPPED) as edge, running_device(SHIPPED) as bench:
        addresses = {"127.0.0.1:7100": edge.address, "127.0.0.1:7200": bench.device.address}
        shown = [replaced(source, addresses) for source in (at_edge, at_device)]
        assert shown != [at_edge, at_device]
        tail, frame = await asyncio.gather(*(ran(source) for source in shown))
        async with open_channel(bench.device.address) as channel:
            call = channel.unary_unary(
                INFER_METHOD,
                request_serializer=inference_pb2.ModelInferRequest.SerializeToString,
                response_deserializer=inference_pb2.ModelInferResponse.FromString,
            )
            answer = await call(json_format.Parse(request, inference_pb2.ModelInferRequest()))
    assert 'name: "cut5"' in tail
    assert 0 <= int(tail.splitlines()[-2]) < 10
    classes = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["classes"]
    assert frame.splitlines()[0] in classes
    assert "twinsplit_outcome" in frame
    found = json_format.MessageToDict(answer)
    assert (found["id"], found["outputs"][0]["name"]) == ("frame-1", "label")
    assert base64.b64decode(found["outputs"][0]["contents"]["bytesContents"][0]).decode() in classes
    assert found["parameters"]["twinsplit_reason"]["stringParam"]


def replaced(source: str, addresses: dict[str, str]) -> str:
    for shown, real in addresses.items():
        source = source.replace(shown, real)
    return source


def test_the_page_names_every_parameter_and_no_other() -> None:
    named = {value for key, value in vars(parameters).items() if key.isupper() and isinstance(value, str)}
    found = set(re.findall(r"`(twinsplit_[a-z_]*)`", PAGE.read_text(encoding="utf-8")))
    assert found == named
