"""A network whose segments take several tensors at once, in Triton with dynamic batching."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.engines.triton import running_triton
from edge.engine.server_metrics import read_page
from tests.integration.device_bench import running_edge
from tests.onnx_networks import saved, small_classifier
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.export.triton import TritonSettings, export_triton
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import random_tensor
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

pytestmark = pytest.mark.timeout(300)
TAILS = 300
BATCH_DELAY_US = 50_000
"""Long, so that tails meet on a machine that is busy with other work, too."""


async def test_tails_that_wait_together_run_together_and_answer_as_alone(tmp_path: Path) -> None:
    model = tmp_path / "model"
    whole = saved(small_classifier(), tmp_path / "small.onnx")
    build_model(whole, model, name="small", cutting=CutSettings(is_batch=True))
    exported = export_triton(
        model, tmp_path / "repository", TritonSettings("python", kind="cpu", max_batch=8, batch_delay_us=BATCH_DELAY_US)
    )
    assert exported.max_batch == 8
    runtime = SegmentRuntime.load(model, with_exits=False)
    manifest = runtime.manifest
    rng = np.random.default_rng(0)
    asked: dict[int, tuple[int, NDArray[Any]]] = {}
    for number in range(1, TAILS + 1):
        cut = number % manifest.segment_count
        spec = manifest.cuts[cut].tensor
        asked[number] = (cut, random_tensor(spec.shape, spec.dtype, rng))
    with running_triton(tmp_path / "repository", tmp_path / "triton") as triton:
        assert triton.metrics_url is not None
        settings = {"engine": f"oip://{triton.address}", "engine_in_flight": 32, "queue_capacity": TAILS}
        async with running_edge(model, **settings) as edge, open_channel(edge.address) as channel:
            before = await executions(triton.metrics_url)
            call = infer_call(channel)
            reading = asyncio.ensure_future(answers(call))
            for number, (cut, tensor) in asked.items():
                payload = encode_payload(manifest, cut, 0, tensor, None)
                await call.write(InferRequest(number, runtime.digest, cut, tensor=payload))
            found = await reading
        after = await executions(triton.metrics_url)
    for number, (cut, tensor) in asked.items():
        response = found[number]
        assert response.tensor is not None, response.error
        output = decode(response.tensor.header, response.tensor.data, 1000)
        np.testing.assert_allclose(output, runtime.run_tail(cut, tensor), rtol=1e-4, atol=1e-5)
    last = f"{manifest.name}.segment_{manifest.segment_count - 1}"
    assert after[last] - before[last] < 0.7 * TAILS, "every tail has the last segment"


async def answers(call: Any) -> dict[int, InferResponse]:
    found: dict[int, InferResponse] = {}
    while len(found) < TAILS:
        response = await call.read()
        assert isinstance(response, InferResponse)
        found[response.request_id] = response
    return found


async def executions(url: str) -> dict[str, float]:
    """Executions so far, by model."""
    page = await asyncio.to_thread(read_page, url)
    assert page is not None
    return {name: float(count) for name, count in re.findall(r'nv_inference_exec_count{model="([^"]+)".*} (\S+)', page)}
