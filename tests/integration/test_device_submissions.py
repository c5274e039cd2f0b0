"""Frames that local programs submit over gRPC."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from device import service
from device.cli import device as device_noun
from device.settings import DeviceSettings
from tests.integration.device_bench import (
    ANY_PORT,
    expected_labels,
    running_device,
    until,
    write_frames,
    write_network,
    write_profile,
)
from twinsplit.errors import SourceError
from twinsplit.model.build import build_model
from twinsplit.model.manifest import read_manifest
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc, errors_pb2
from twinsplit.tensor import decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import header_from_wire
from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES, model_message_bytes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


async def submitted(
    address: str, requests: list[device_pb2.SubmitRequest], limit: int = CONTROL_MESSAGE_BYTES
) -> dict[int, device_pb2.SubmitResponse]:
    async with open_channel(address, max_message_bytes=limit) as channel:
        call = device_pb2_grpc.DeviceServiceStub(channel).Submit(iter(requests))
        return {response.request_id: response async for response in call}


async def test_every_frame_gets_its_own_answer(model, frames):
    requests = [
        device_pb2.SubmitRequest(request_id=7 + n, name=path.name, data=path.read_bytes())
        for n, path in enumerate(frames)
    ]
    async with running_device(model) as bench:
        responses = await submitted(bench.device.address, requests)
    labels = expected_labels(model, frames[0].parent)
    assert set(responses) == {r.request_id for r in requests}
    for request in requests:
        record = json.loads(responses[request.request_id].task_json)
        assert record["frame"] == request.name
        assert record["outcome"] == "exit" or record["label"] == labels[request.name]


async def test_a_bad_frame_is_refused_by_name_and_the_others_go_on(model, frames):
    good = frames[0].read_bytes()
    requests = [
        device_pb2.SubmitRequest(request_id=1, data=b"no picture"),
        device_pb2.SubmitRequest(request_id=2, data=good),
        device_pb2.SubmitRequest(request_id=3, data=good[:100]),
    ]
    async with running_device(model) as bench:
        responses = await submitted(bench.device.address, requests)
        summary = bench.device.summary()
    for request_id in (1, 3):
        assert responses[request_id].error.code == errors_pb2.ERROR_CODE_BAD_FRAME
        assert "send" in responses[request_id].error.text
        assert json.loads(responses[request_id].task_json)["reason"] == "bad-frame"
    assert not responses[2].HasField("error")
    assert json.loads(responses[2].task_json)["frame"] == "2", "a frame without a name is called by its number"
    assert (summary["entered"], summary["failed"]) == (3, 2)


async def test_a_number_that_is_missing_or_still_open_is_refused(model, frames):
    requests = [device_pb2.SubmitRequest(request_id=0, data=frames[0].read_bytes())]
    async with running_device(model) as bench:
        responses = await submitted(bench.device.address, requests)
    assert responses[0].error.code == errors_pb2.ERROR_CODE_BAD_MESSAGE


async def test_the_output_of_a_network_that_is_no_classifier_comes_as_a_tensor(model, frames, tmp_path):
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest |= {"task": "raw", "classes": [], "exits": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    requests = [device_pb2.SubmitRequest(request_id=1, data=frames[0].read_bytes())]
    async with running_device(tmp_path) as bench:
        response = (await submitted(bench.device.address, requests))[1]
    record = json.loads(response.task_json)
    assert (record["label"], record["outcome"]) == (None, "device")
    header = header_from_wire(response.header)
    output = decode(header, response.output, 100)
    assert output.shape == (1, 4)
    assert np.isfinite(output).all()


async def test_limits_of_messages_follow_the_manifest(tmp_path):
    shape = (1, 21, 512, 512)
    assert 4 * math.prod(shape) > CONTROL_MESSAGE_BYTES
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["picture"], ["inner"]),
            helper.make_node("ReduceMean", ["inner"], ["one"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Expand", ["one", "shape"], ["mask"]),
        ],
        "segmentation",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(shape, np.int64), "shape")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(network, tmp_path / "mask.onnx")
    build_model(tmp_path / "mask.onnx", tmp_path / "1", name="mask")
    requests = [device_pb2.SubmitRequest(request_id=1, data=bytes(4 * 3 * 16 * 16))]
    async with running_device(tmp_path / "1") as bench:
        limit = bench.device.status()["max_message_bytes"]
        assert limit == model_message_bytes([read_manifest(tmp_path / "1")[0]]) > 4 * math.prod(shape)
        response = (await submitted(bench.device.address, requests, limit))[1]
    assert not response.HasField("error"), response.error
    assert decode(header_from_wire(response.header), response.output, math.prod(shape) * 4).shape == shape


async def test_a_file_that_is_too_large_costs_the_others_nothing(model, frames, tmp_path):
    async with running_device(model) as bench:
        limit = bench.device.status()["max_message_bytes"]
        large = tmp_path / "large.bin"
        large.write_bytes(bytes(limit))
        good = frames[:2]
        command = ["submit", bench.device.address, str(good[0]), str(large), str(good[1])]
        done = await asyncio.to_thread(CliRunner().invoke, device_noun, command, standalone_mode=False)
    answers = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert [answer["frame"] for answer in answers] == [each.name for each in good]
    assert f"{large}: {limit} bytes are more than the {limit} that the device takes" in done.output
    assert bench.device.summary()["entered"] == 2


async def test_a_run_whose_source_fails_ends_with_that_failure(model, frames, monkeypatch):
    class Broken:
        is_live = False

        def frames(self, watch):
            raise SourceError("the disk was pulled out")
            yield

    monkeypatch.setattr(service, "open_source", lambda settings, now_s: Broken())
    settings = DeviceSettings(model=model, listen=ANY_PORT, http_listen=ANY_PORT, source="frames:x", energy="model")
    with pytest.raises(SourceError, match="pulled out"):
        await service.run(settings)


async def test_a_device_that_stops_says_so_to_those_who_wait(model, frames, tmp_path):
    profile = write_profile(model, tmp_path / "profile.json", 0.001)
    data = frames[0].read_bytes()
    requests = [device_pb2.SubmitRequest(request_id=n + 1, data=data) for n in range(3)]
    async with running_device(model, profile=profile, emulate_slowdown=1000.0, drain_s=0.0) as bench:
        waiting = asyncio.ensure_future(submitted(bench.device.address, requests))
        await until(lambda: bench.device.summary()["entered"] == 3)
    responses = await waiting
    assert {r.error.code for r in responses.values()} == {errors_pb2.ERROR_CODE_STOPPING}


async def test_a_program_that_goes_away_leaves_nothing_behind(model, frames):
    async with running_device(model, emulate_slowdown=50.0) as bench:
        async with open_channel(bench.device.address) as channel:
            call = device_pb2_grpc.DeviceServiceStub(channel).Submit()
            await call.write(device_pb2.SubmitRequest(request_id=1, data=frames[0].read_bytes()))
            await until(lambda: bench.device.summary()["entered"] == 1)
            call.cancel()
        await until(lambda: bench.device.status()["open"] == 0)
        summary = bench.device.summary()
    assert summary["device"] + summary["exit"] == 1
