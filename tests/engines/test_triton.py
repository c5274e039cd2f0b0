"""What twinsplit takes of Triton itself: its configuration's own message, and what its metrics say."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from benchmarks.engines.server import EngineServer, engines_python
from edge.engine.server_metrics import read_page, reading_of
from tests.integration.device_bench import running_device, running_edge, until, write_frames
from tests.onnx_networks import saved, small_classifier
from tests.unit.device.made_up_device import offload_at
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.export.tails import export_tails
from twinsplit.model.export.triton import TritonSettings, export_triton
from twinsplit.model.manifest import read_manifest
from twinsplit.oip.names import tail_name

pytestmark = pytest.mark.timeout(300)
_PARSE = """
import pathlib, sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/config.pbtxt")):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == path.parent.name
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    groups = ["%d %s" % (group.count, group.Kind.Name(group.kind)) for group in config.instance_group]
    delays = [str(config.dynamic_batching.max_queue_delay_microseconds)] * config.HasField("dynamic_batching")
    runs_by = config.platform or config.backend
    delays += ["all versions"] * config.version_policy.HasField("all")
    print(config.name, runs_by, "batch", config.max_batch_size, "steps", len(steps), *groups, *delays)
"""
"""In a process of its own: both packages register the same messages."""


@pytest.mark.parametrize(
    ("settings", "segment"),
    [
        (TritonSettings(), "onnxruntime batch 0 steps 0 1 KIND_AUTO"),
        (TritonSettings(instances=3, kind="gpu"), "onnxruntime batch 0 steps 0 3 KIND_GPU"),
        (TritonSettings("python", instances=2, kind="cpu"), "python batch 0 steps 0 2 KIND_CPU"),
    ],
    ids=["as by default", "on GPUs", "by the Python backend"],
)
def test_every_configuration_is_one_of_triton(
    model: Path, tmp_path: Path, settings: TritonSettings, segment: str
) -> None:
    export_triton(model, tmp_path, settings)
    assert parsed(tmp_path) == expected(model, 0, segment)


def test_a_configuration_with_batches_is_one_of_triton(tmp_path: Path) -> None:
    model = tmp_path / "model"
    build_model(
        saved(small_classifier(), tmp_path / "small.onnx"), model, name="small", cutting=CutSettings(is_batch=True)
    )
    export_triton(model, tmp_path / "out", TritonSettings(max_batch=16, batch_delay_us=300))
    assert parsed(tmp_path / "out") == expected(model, 16, "onnxruntime batch 16 steps 0 1 KIND_AUTO 300")


def test_the_configuration_beside_tails_is_one_of_triton_and_serves_all_versions(model: Path, tmp_path: Path) -> None:
    names = export_tails(model, tmp_path).models
    assert parsed(tmp_path) == sorted(f"{name} onnxruntime batch 0 steps 0 all versions" for name in names)


def expected(model: Path, max_batch: int, segment: str) -> list[str]:
    manifest, _ = read_manifest(model)
    count = manifest.segment_count
    ensembles = [
        f"{tail_name(manifest.name, cut)} ensemble batch {max_batch} steps {count - cut}" for cut in range(count)
    ]
    return sorted([*ensembles, *(f"{manifest.name}.segment_{index} {segment}" for index in range(count))])


def parsed(repository: Path) -> list[str]:
    """What Triton's own message makes of every configuration."""
    done = subprocess.run([engines_python(), "-c", _PARSE, repository], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


async def test_its_metrics_tell_how_many_requests_wait_and_how_long_they_did(
    model: Path, triton: EngineServer, tmp_path: Path
) -> None:
    frames = sorted(write_frames(tmp_path, 6).iterdir())
    assert triton.metrics_url is not None
    settings = {"engine": f"oip://{triton.address}", "engine_metrics": (triton.metrics_url,)}
    async with running_edge(model, **settings) as edge, running_device(model, answer_timeout_s=60.0) as device:
        device.plan(offload_at(1), edge.address, representation=0)
        await device.submit(frames)
        await device.ended(len(frames))
        (load,) = edge.executor._queue.back_ends
        await until(lambda: load._told_at_s is not None)
    page = await asyncio.to_thread(read_page, triton.metrics_url)
    assert page is not None
    reading = reading_of(page, {tail_name(read_manifest(model)[0].name, 1)})
    assert reading is not None
    assert reading.pending == 0.0
    assert reading.queue_s > 0.0
    assert reading.answered >= len(frames)
