"""A real device in the test's own process: a small network with an exit, made-up frames, plans told by the test."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from device.service import DeviceService, start_device
from device.settings import DeviceSettings
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from tests.unit.device.made_up_device import plan_of
from tests.unit.edge.tiny_model import CLASSES, SHAPES, write_tiny_model
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.model.preprocessing import prepare
from twinsplit.model.profile import Profile, save_profile
from twinsplit.model.runtime import PROVIDERS, SegmentRuntime
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import TaskRecord

ANY_PORT = "127.0.0.1:0"
PATIENCE_S = 60.0
BINS = 3


def write_network(folder: Path, device_segments: int | None = None) -> Path:
    """The tiny model with an exit after segment 1 that is surer than it should be."""
    write_tiny_model(folder)
    rng = np.random.default_rng(5)
    features = int(np.prod(SHAPES[1]))
    weight = numpy_helper.from_array(rng.normal(0, 0.05, (features, len(CLASSES))).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["t1"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["e"])],
        "exit0",
        [helper.make_tensor_value_info("t1", TensorProto.FLOAT, SHAPES[1])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, (1, len(CLASSES)))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data = model.SerializeToString()
    (folder / "exit-0.onnx").write_bytes(data)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {
        "exits": [
            {
                "index": 0,
                "after_segment": 1,
                "file": "exit-0.onnx",
                "sha256": hashlib.sha256(data).hexdigest(),
                "macs": 1000,
                "accuracy": 0.8,
                "bin_edges": [0.3, 0.6],
                "p_right": [0.5, 0.8, 0.95],
                "p_whole_right": [0.8, 0.9, 0.97],
                "prior": [0.3, 0.3, 0.4],
            }
        ],
        "whole_accuracy": 0.9,
        "accuracy_basis": "labels",
        "device_segments": device_segments,
    }
    path.write_text(json.dumps(manifest), encoding="utf-8")
    onnx.checker.check_model(model)
    return folder


def write_profile(model: Path, path: Path, segment_s: float, exit_s: float | None = None) -> Path:
    """Made-up times: an emulated slowdown multiplies them, and not what a busy machine happens to measure."""
    manifest, data = read_manifest(model)
    profile = Profile(
        model_digest=manifest_digest(data),
        provider=PROVIDERS["cpu"],
        threads=1,
        machine="made up",
        repeats=1,
        segment_s=(segment_s,) * manifest.held_segments,
        exit_s=(segment_s if exit_s is None else exit_s,) * len(manifest.exits),
        encode_s={},
    )
    save_profile(profile, path)
    return path


def write_frames(folder: Path, count: int = 6) -> Path:
    """Pictures of another size than the input."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(count):
        pixels = np.kron(rng.integers(0, 255, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"frame-{number}.png")
    return folder


def expected_labels(model: Path, frames: Path) -> dict[str, str | None]:
    """What the whole network answers to every frame, without device and edge."""
    runtime = SegmentRuntime.load(model)
    labels = {}
    for path in sorted(frames.iterdir()):
        output = runtime.run_tail(0, prepare(path.read_bytes(), runtime.manifest).tensor)
        assert output is not None
        labels[path.name] = runtime.answer(output).label
    return labels


class DeviceBench:
    """A running device and a hand on it."""

    def __init__(self, device: DeviceService, manifest: Manifest, digest: str) -> None:
        self.device = device
        self.manifest = manifest
        self.digest = digest
        self.records: list[TaskRecord] = []

    def plan(self, decide: Callable[..., Any], edge_address: str | None, plan_id: int = 1, **changes: Any) -> None:
        """Stand a plan, as the twin would send it."""
        backlog_s = changes.pop("backlog_s", 0.0)
        never_leave = {"lease_s": 60.0, "thresholds": (2.0,) * len(self.manifest.exits)}
        made = plan_of(self.manifest, decide, plan_id=plan_id, **never_leave | changes)
        plan = Plan(
            **{name: getattr(made, name) for name in Plan.__slots__}
            | {"model_digest": self.digest, "edge_address": edge_address, "edge_id": "edge" if edge_address else None}
        )
        now_s = asyncio.get_running_loop().time()
        self.device.shell.plan_received(plan, BacklogState(backlog_s, now_s, backlog_s))

    async def submit(self, frames: Sequence[Path]) -> None:
        """Submit frames one after the other, without waiting for answers."""
        for path in frames:
            await self.device.submit(path.name, path.read_bytes(), self._take)

    async def ended(self, count: int) -> list[TaskRecord]:
        """Wait until so many tasks have ended."""
        await until(lambda: len(self.records) >= count)
        return self.records

    async def edge_is(self, state: str) -> None:
        """Wait until the breaker of the way to the edge is in ``state`` and the edge is known to answer if closed."""
        await until(lambda: (self.device.status()["edge"] or {}).get("breaker") == state)

    def _take(self, record: TaskRecord, answer: Any, problem: Any) -> None:
        self.records.append(record)


@asynccontextmanager
async def running_device(model: Path, **changes: Any) -> AsyncIterator[DeviceBench]:
    """A device for as long as the block lasts."""
    given = {"model": model, "listen": ANY_PORT, "http_listen": ANY_PORT, "drain_s": 5.0, "energy": "model"}
    # A busy machine makes answers late; where lateness is what is tried, the test says so.
    settings = DeviceSettings(**given | {"answer_timeout_s": PATIENCE_S} | changes)
    manifest, data = read_manifest(model)
    device = await start_device(settings)
    try:
        yield DeviceBench(device, manifest, manifest_digest(data))
    finally:
        await device.stop()


@asynccontextmanager
async def running_edge(model: Path, **changes: Any) -> AsyncIterator[EdgeService]:
    """An edge for as long as the block lasts."""
    settings = EdgeSettings(**{"models": model, "listen": ANY_PORT, "http_listen": ANY_PORT, "drain_s": 0.0} | changes)
    edge = await start_edge(settings)
    try:
        yield edge
    finally:
        await edge.stop()


async def until(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for something that the event loop will bring about."""
    deadline_s = asyncio.get_running_loop().time() + patience_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline_s, "it did not come about"
        await asyncio.sleep(0.005)
