"""Traces of a device and an edge, both real processes, through a collector that is not ours.

The collector is rotel, a separate implementation of OTLP in Rust that comes as one wheel. It takes the spans as any
collector would and hands them on by OTLP; what arrives behind it is looked at.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchmarks.testbed.process import HOST, free_ports
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.integration.otlp_receiver import Received, receiving
from tests.integration.test_task_traces import check_nesting, names
from tests.integration.testbed_peers import (
    device_process,
    edge_connected,
    edge_process,
    plan_for,
    running,
    scripted_twin,
    submitting,
)
from twinsplit.model.manifest import read_manifest
from twinsplit.types import Decision

ROTEL = "rotel==0.0.1a15"
TASKS = 20
PATIENCE_S = 60.0


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[str, Received]]:
    """Where the collector takes OTLP over HTTP, and what it hands on."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "rotel"), ROTEL]
    subprocess.run(pip, check=True)
    program = tmp_path / "rotel/rotel/rotel-agent"
    program.chmod(0o755)
    with receiving(tmp_path) as received, _collecting(program, received, tmp_path) as endpoint:
        yield endpoint, received


@contextmanager
def _collecting(program: Path, received: Received, folder: Path) -> Iterator[str]:
    http_port, grpc_port = free_ports(2)
    command = [
        *(str(program), "start", f"--otlp-http-endpoint={HOST}:{http_port}"),
        *(f"--otlp-grpc-endpoint={HOST}:{grpc_port}", "--exporter=otlp", "--otlp-exporter-protocol=http"),
        *(f"--otlp-exporter-endpoint={received.endpoint}", "--batch-timeout=50ms"),
        *(f"--pid-file={folder / 'rotel.pid'}", f"--log-file={folder / 'rotel.log'}"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while not _listens(http_port):
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            yield f"http://{HOST}:{http_port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.mark.needs("glibc-2.34")
@pytest.mark.timeout(400)
async def test_each_task_is_one_whole_trace_behind_a_collector(
    collector: tuple[str, Received], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, received = collector
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    manifest, data = read_manifest(SHIPPED_MODEL)
    edge, edge_address = edge_process(SHIPPED_MODEL, tmp_path, f"--otlp-endpoint={endpoint}")
    frames = sorted((SHIPPED_MODEL / "frames").glob("*.jpg"))[:TASKS]
    async with scripted_twin() as (twin, twin_address):
        device, address = device_process(
            SHIPPED_MODEL, twin_address, edge_address, tmp_path, f"--otlp-endpoint={endpoint}", "--answer-timeout-s=60"
        )
        async with running(edge, device), submitting(address) as program:
            await edge_connected(device)
            plan = plan_for(
                manifest, data, edge_address, {2: Decision.OFFLOAD_TENSOR}, representation=0, exits_run=(True, True)
            )
            await twin.send_plan(plan)
            deadline_s = time.monotonic() + PATIENCE_S
            while (await program.submit(frames[0].read_bytes()))["outcome"] != "edge":
                assert time.monotonic() < deadline_s, "no plan has arrived"
                await asyncio.sleep(0.05)
            for frame in frames[1:]:
                assert (await program.submit(frame.read_bytes()))["outcome"] == "edge"
            traces = await asyncio.to_thread(
                received.traces, lambda found: sum(map(_is_whole, found.values())) == TASKS
            )
    for spans in filter(_is_whole, traces.values()):
        root = check_nesting(spans)
        assert root["attributes"]["twinsplit.outcome"] == "edge"
        assert {span["resource"]["service.name"] for span in spans} == {"twinsplit-device", "twinsplit-edge"}


def _is_whole(spans: list[dict[str, object]]) -> bool:
    expected = {"task", "queue", "segment 1", "segment 2", "encode", "offload", "upload", "edge", "edge queue", "tail"}
    return expected | {"reply"} <= names(spans)
