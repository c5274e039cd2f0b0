"""What twinsplit takes of Triton itself: its configuration's own message, and what its metrics say."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from benchmarks.engines.server import EngineServer, engines_python
from edge.engine.server_metrics import read_page, reading_of
from tests.integration.device_bench import running_device, running_edge, until, write_frames
from tests.unit.device.made_up_device import offload_at
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
    instances = sum(group.count for group in config.instance_group)
    print(config.name, config.platform or config.backend, config.max_batch_size, len(steps), instances)
"""
"""In a process of its own: both packages register the same messages."""


def test_every_configuration_is_one_of_triton(model: Path, tmp_path: Path) -> None:
    export_triton(model, tmp_path, TritonSettings(instances=3, kind="gpu"))
    done = subprocess.run([engines_python(), "-c", _PARSE, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest, _ = read_manifest(model)
    count = manifest.segment_count
    ensembles = [f"{tail_name(manifest.name, cut)} ensemble 0 {count - cut} 0" for cut in range(count)]
    segments = [f"{manifest.name}.segment_{index} onnxruntime 0 0 3" for index in range(count)]
    assert sorted(done.stdout.splitlines()) == sorted(ensembles + segments)


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
