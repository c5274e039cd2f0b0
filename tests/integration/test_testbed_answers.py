"""Answers through every cut, payload, representation and exit, by a real device and a real edge.

Tolerance: on frames whose two best classes lie at least 0.5 apart in the whole network, every way through it gives the
whole network's label; an exit gives the label that its ONNX file gives. Outputs of the edge lie within 0.001 of the
largest output of what the same payload gives in one process, and lossless payloads of what the whole network gives.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.integration.testbed_peers import (
    PATIENCE_S,
    Submitter,
    device_process,
    edge_connected,
    edge_process,
    plan_for,
    running,
    scripted_twin,
    submitting,
)
from twinsplit.model.check import DEFAULT_TOLERANCE as DIFFERENCE
from twinsplit.model.check import relative_difference
from twinsplit.model.payload import decode_payload, encode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime, softmax
from twinsplit.tensor import decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call
from twinsplit.types import Decision

FRAMES = 3
MARGIN = 0.5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def runtime() -> SegmentRuntime:
    return SegmentRuntime.load(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def frames(runtime: SegmentRuntime) -> list[tuple[bytes, int]]:
    """Shipped frames of different classes with the whole network's label, which is sure of them."""
    found: dict[int, tuple[bytes, int]] = {}
    for path in sorted((SHIPPED_MODEL / "frames").glob("*.jpg")):
        data = path.read_bytes()
        output = runtime.run_tail(0, prepare(data, runtime.manifest).tensor)
        assert output is not None
        label, second = np.argsort(softmax(output))[::-1][:2]
        if softmax(output)[label] - softmax(output)[second] >= MARGIN:
            found.setdefault(int(label), (data, int(label)))
        if len(found) == FRAMES:
            return list(found.values())
    raise AssertionError("the shipped network is sure of too few frames")


async def test_every_way_through_the_network_gives_its_answer(
    runtime: SegmentRuntime, frames: list[tuple[bytes, int]], tmp_path: Path
) -> None:
    manifest, data = runtime.manifest, runtime.manifest_bytes
    edge, edge_address = edge_process(SHIPPED_MODEL, tmp_path)
    ways = 0
    async with scripted_twin() as (twin, twin_address):
        device, device_address = device_process(SHIPPED_MODEL, twin_address, edge_address, tmp_path)
        async with running(edge, device), submitting(device_address) as program:
            await twin.hear("hello")
            await edge_connected(device)
            for cut in manifest.cuts[: manifest.held_segments]:
                for position, entry in enumerate(cut.representations):
                    if not entry.is_offered:
                        continue
                    decision = Decision.OFFLOAD_TENSOR if cut.index else Decision.OFFLOAD_INPUT
                    plan = plan_for(manifest, data, edge_address, {cut.index: decision}, representation=position)
                    await _in_force(program, frames[0][0], await twin.send_plan(plan))
                    for frame, label in frames:
                        task = await program.submit(frame)
                        assert task["outcome"] == "edge", (cut.index, entry.name, task)
                        assert task["payload"] == ("tensor" if cut.index else "input")
                        assert task["stop_epoch"] == cut.index
                        assert task["label"] == manifest.classes[label], (cut.index, entry.name)
                    ways += 1
            never = plan_for(manifest, data, edge_address, {})
            await _in_force(program, frames[0][0], await twin.send_plan(never))
            for frame, label in frames:
                task = await program.submit(frame)
                assert (task["outcome"], task["label"]) == ("device", manifest.classes[label])
    assert ways == sum(entry.is_offered for cut in manifest.cuts for entry in cut.representations) > 0


async def test_every_exit_gives_its_own_answer_with_its_calibrated_confidence(
    runtime: SegmentRuntime, frames: list[tuple[bytes, int]], tmp_path: Path
) -> None:
    manifest, data = runtime.manifest, runtime.manifest_bytes
    assert manifest.exits
    edge, edge_address = edge_process(SHIPPED_MODEL, tmp_path)
    async with scripted_twin() as (twin, twin_address):
        device, device_address = device_process(SHIPPED_MODEL, twin_address, edge_address, tmp_path)
        async with running(edge, device), submitting(device_address) as program:
            await twin.hear("hello")
            await edge_connected(device)
            for exit_ in manifest.exits:
                runs = [each.index == exit_.index for each in manifest.exits]
                plan = plan_for(manifest, data, edge_address, {exit_.after_segment: Decision.EXIT}, exits_run=runs)
                await _in_force(program, frames[0][0], await twin.send_plan(plan))
                for frame, _ in frames:
                    tensor = prepare(frame, manifest).tensor
                    for index in range(exit_.after_segment):
                        tensor = runtime.run_segment(index, tensor)
                    expected = runtime.run_exit(exit_.index, tensor)
                    task = await program.submit(frame)
                    assert (task["outcome"], task["exit"]) == ("exit", exit_.index)
                    assert task["label"] == manifest.classes[expected.label_index]
                    assert task["confidence"] == pytest.approx(expected.p_right)


async def _in_force(program: Submitter, frame: bytes, plan_id: int) -> None:
    """Return when a task has ended under the plan, so that the next one starts under it."""
    for _ in range(20):
        if (await program.submit(frame))["plan_id"] == plan_id:
            return
    raise AssertionError(f"the device does not take plan {plan_id}")


async def test_the_edge_gives_the_numbers_that_its_payload_gives_in_one_process(
    runtime: SegmentRuntime, frames: list[tuple[bytes, int]], tmp_path: Path
) -> None:
    manifest = runtime.manifest
    prepared = prepare(frames[0][0], manifest)
    whole = runtime.run_tail(0, prepared.tensor)
    assert whole is not None
    edge, edge_address = edge_process(SHIPPED_MODEL, tmp_path)
    tensor, request_id = prepared.tensor, 0
    async with running(edge), open_channel(edge_address) as channel:
        call = infer_call(channel)
        for cut in manifest.cuts[:-1]:
            for position, entry in enumerate(cut.representations):
                request_id += 1
                payload = encode_payload(manifest, cut.index, position, tensor, prepared.picture)
                await call.write(InferRequest(request_id, runtime.digest, cut.index, tensor=payload))
                answer = await asyncio.wait_for(call.read(), PATIENCE_S)
                assert isinstance(answer, InferResponse)
                assert answer.tensor is not None, answer.error
                found = decode(answer.tensor.header, answer.tensor.data, manifest.cuts[-1].tensor.shape[-1])
                here = runtime.run_tail(cut.index, decode_payload(manifest, cut.index, payload.header, payload.data))
                assert here is not None
                assert relative_difference(here, found) <= DIFFERENCE, (cut.index, entry.name)
                if entry.kind == "float32":
                    assert relative_difference(whole, found) <= DIFFERENCE, (cut.index, entry.name)
            tensor = runtime.run_segment(cut.index, tensor)
