"""Traces of tasks as a receiver of OTLP in another process gets them: complete, nested, harmless when it is gone."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.device_bench import running_device, running_edge, until, write_frames, write_network
from tests.integration.otlp_receiver import receiving
from tests.unit.device.made_up_device import offload_at
from twinsplit.errors import SettingsError
from twinsplit.telemetry.logs import configure_logging
from twinsplit.types import Decision, Outcome

pytestmark = pytest.mark.slow

Spans = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent soon; OpenTelemetry itself waits five seconds for more of them."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


def check_nesting(spans: Spans) -> dict[str, Any]:
    """Every span but one, the root, has its parent in the trace and lies within it. Returns the root."""
    by_id = {span["span_id"]: span for span in spans}
    assert len(by_id) == len(spans)
    (root,) = (span for span in spans if not span["parent_id"])
    for span in spans:
        assert span["end_ns"] >= span["start_ns"] > 0, span
        if span is not root:
            parent = by_id[span["parent_id"]]
            assert parent["start_ns"] <= span["start_ns"], (parent, span)
            assert span["end_ns"] <= parent["end_ns"], (parent, span)
    return root


def named(spans: Spans, name: str) -> dict[str, Any]:
    (found,) = (span for span in spans if span["name"] == name)
    return found


def names(spans: Spans) -> set[str]:
    return {span["name"] for span in spans}


async def test_a_task_that_the_edge_finishes_is_one_trace_across_both(model, frames, tmp_path):
    with receiving(tmp_path) as received:
        async with (
            running_edge(model, id="hall-3", otlp_endpoint=received.endpoint) as edge,
            running_device(model, id="cam-7", otlp_endpoint=received.endpoint) as bench,
        ):
            bench.plan(offload_at(1), edge.address, exits_run=(True,))
            await until(lambda: bench.device.status()["tracked"]["round_trip_s"] is not None)
            began_ns = time.time_ns()
            await bench.submit(frames)
            records = await bench.ended(len(frames))
            traces = await asyncio.to_thread(
                received.traces, lambda found: sum(map(len, found.values())) == 11 * len(frames)
            )
        assert {record.outcome for record in records} == {Outcome.EDGE}
    assert len(traces) == len(frames)
    by_task = {check_nesting(spans)["attributes"]["twinsplit.task_id"]: spans for spans in traces.values()}
    for record in records:
        spans = by_task[record.task_id]
        root, offload, edge_span = (named(spans, name) for name in ("task", "offload", "edge"))
        of_root = {span["name"] for span in spans if span["parent_id"] == root["span_id"]}
        assert of_root == {"queue", "segment 1", "exit 1", "encode", "offload"}
        assert {s["name"] for s in spans if s["parent_id"] == offload["span_id"]} == {"upload", "edge", "reply"}
        assert {s["name"] for s in spans if s["parent_id"] == edge_span["span_id"]} == {"edge queue", "tail"}
        assert (root["kind"], offload["kind"], edge_span["kind"]) == (
            "SPAN_KIND_INTERNAL",
            "SPAN_KIND_CLIENT",
            "SPAN_KIND_SERVER",
        )
        assert {span["status"] for span in spans} == {"STATUS_CODE_UNSET"}
        # Durations are the record's, and the edge's follow on the way there.
        assert root["end_ns"] - root["start_ns"] == pytest.approx(1e9 * record.latency_s, abs=2000)
        tail = named(spans, "tail")
        assert tail["end_ns"] - tail["start_ns"] == pytest.approx(1e9 * record.stages.edge_compute, abs=2000)
        assert named(spans, "upload")["end_ns"] == edge_span["start_ns"]
        assert named(spans, "reply")["start_ns"] == edge_span["end_ns"] == tail["end_ns"]
        assert abs(root["start_ns"] - began_ns) < 60e9
        assert root["attributes"] == {
            "twinsplit.task_id": record.task_id,
            "twinsplit.outcome": "edge",
            "twinsplit.reason": record.reason.value,
            "twinsplit.payload": "tensor",
            "twinsplit.stop_epoch": 1,
            "twinsplit.evidence": record.evidence,
            "twinsplit.representation": record.representation,
            "twinsplit.wire_bytes": record.wire_bytes,
            "twinsplit.degraded": False,
            "twinsplit.energy_joules": pytest.approx(record.energy_joules),
            "twinsplit.energy_source": "model",
            "twinsplit.plan_id": 1,
            "twinsplit.queue_length": record.queue_length,
        }
        assert edge_span["attributes"] == {
            "twinsplit.task_id": record.task_id,
            "twinsplit.cut": 1,
            "twinsplit.device_id": "cam-7",
        }
        services = {span["resource"]["service.name"]: span["resource"]["service.instance.id"] for span in spans}
        assert services == {"twinsplit-device": "cam-7", "twinsplit-edge": "hall-3"}


async def test_tasks_that_stay_on_the_device_show_every_segment(model, frames, tmp_path):
    with receiving(tmp_path) as received:
        async with running_device(model, otlp_endpoint=received.endpoint) as bench:
            bench.plan(lambda *_: Decision.CONTINUE, None, exits_run=(True,))
            await bench.submit(frames[:2])
            await bench.device.submit("broken.png", b"no picture", bench._take)
            await bench.ended(3)
            segments = bench.manifest.segment_count
            traces = await asyncio.to_thread(received.traces, lambda found: len(found) == 3)
    for spans in traces.values():
        root = check_nesting(spans)
        if root["attributes"]["twinsplit.outcome"] == "failed":
            assert names(spans) == {"task", "queue"}
            assert (root["status"], root["message"]) == ("STATUS_CODE_ERROR", "bad-frame")
        else:
            assert names(spans) == {"task", "queue", "exit 1", *(f"segment {k + 1}" for k in range(segments))}


async def test_a_refused_offload_is_an_error_on_both_sides_and_the_task_goes_on(model, frames, tmp_path):
    with receiving(tmp_path) as received:
        async with (
            running_edge(model, otlp_endpoint=received.endpoint) as edge,
            running_device(model, otlp_endpoint=received.endpoint) as bench,
        ):
            edge.executor.stop_admitting()
            bench.plan(offload_at(1), edge.address)
            await until(lambda: bench.device.status()["tracked"]["round_trip_s"] is not None)
            await bench.submit(frames[:1])
            (record,) = await bench.ended(1)
            traces = await asyncio.to_thread(
                received.traces,
                lambda found: any("edge" in names(spans) and "task" in names(spans) for spans in found.values()),
            )
    assert record.outcome is Outcome.DEVICE
    (spans,) = traces.values()
    root = check_nesting(spans)
    assert (root["status"], root["attributes"]["twinsplit.reason"]) == ("STATUS_CODE_UNSET", "edge-refused")
    offload, refusal = named(spans, "offload"), named(spans, "edge")
    assert (offload["status"], offload["message"]) == ("STATUS_CODE_ERROR", "edge-refused")
    assert (refusal["status"], refusal["message"]) == ("STATUS_CODE_ERROR", "STOPPING")
    first, second = sorted((s for s in spans if s["name"] == "queue"), key=lambda s: s["start_ns"])
    assert second["start_ns"] == offload["end_ns"] > first["end_ns"]
    assert named(spans, "segment 2")["start_ns"] >= second["end_ns"]


async def test_an_edge_that_does_not_trace_ignores_it_and_what_it_told_is_shown(model, frames, tmp_path):
    with receiving(tmp_path) as received:
        async with running_edge(model) as edge, running_device(model, otlp_endpoint=received.endpoint) as bench:
            bench.plan(offload_at(1), edge.address)
            await until(lambda: bench.device.status()["tracked"]["round_trip_s"] is not None)
            await bench.submit(frames[:1])
            (record,) = await bench.ended(1)
            traces = await asyncio.to_thread(received.traces, bool)
    (spans,) = traces.values()
    check_nesting(spans)
    assert record.outcome is Outcome.EDGE
    assert {"upload", "edge queue", "tail", "reply"} < names(spans)
    assert {span["resource"]["service.name"] for span in spans} == {"twinsplit-device"}


async def test_a_tracing_edge_makes_no_spans_of_tasks_that_their_device_does_not_trace(model, frames, tmp_path):
    with receiving(tmp_path) as received:
        async with running_edge(model, otlp_endpoint=received.endpoint) as edge, running_device(model) as bench:
            bench.plan(offload_at(1), edge.address)
            await bench.submit(frames)
            await bench.ended(len(frames))
        assert received.spans == []


async def test_a_collector_that_is_gone_costs_one_line_and_no_task(model, frames, monkeypatch):
    monkeypatch.setattr("twinsplit.tracing.export.SEND_TIMEOUT_S", 0.2)
    log = io.StringIO()
    configure_logging("info", "json", log)
    async with running_edge(model) as edge:
        async with running_device(model, otlp_endpoint="http://127.0.0.1:9") as bench:
            bench.plan(offload_at(1), edge.address)
            for number in range(6):
                await bench.submit(frames)
                records = await bench.ended(len(frames) * (number + 1))
                await until(lambda: "spans-lost" in log.getvalue())
                await asyncio.sleep(0.1)
            began_s = time.monotonic()
        stopped_s = time.monotonic() - began_s
    assert all(record.outcome.is_answered for record in records)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    about = [line for line in lines if line["part"] in ("tracing", "opentelemetry") or "spans" in line["event"]]
    assert [line["event"] for line in about] == ["spans-lost"]
    assert about[0]["collector"] == "http://127.0.0.1:9/v1/traces"
    assert all(line["event"].replace("-", "").isalnum() for line in lines), "one event name per line"
    assert stopped_s < 5.0


async def test_a_collector_that_never_answers_keeps_no_service_from_stopping(model, frames, monkeypatch):
    monkeypatch.setattr("twinsplit.tracing.export.LAST_SPANS_S", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with running_edge(model, otlp_endpoint=endpoint) as edge:
            async with running_device(model, otlp_endpoint=endpoint) as bench:
                bench.plan(offload_at(1), edge.address)
                await bench.submit(frames)
                records = await bench.ended(len(frames))
                began_s = time.monotonic()
            stopped_s = time.monotonic() - began_s
    assert all(record.outcome.is_answered for record in records)
    assert 0.3 <= stopped_s < 5.0, "its five seconds for a batch were not waited for"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://"])
async def test_an_endpoint_that_is_no_url_is_refused(model, endpoint):
    with pytest.raises(SettingsError, match="--otlp-endpoint"):
        async with running_device(model, otlp_endpoint=endpoint):
            pass


def test_nothing_of_it_is_imported_where_nothing_is_traced():
    code = (
        "import sys, device.service, device.shell, edge.service, edge.servicer\n"
        "ours = ('opentelemetry', 'requests', 'twinsplit.tracing')\n"
        "found = [name for name in sys.modules if name.startswith(ours)]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_without_the_extra_the_setting_is_refused_with_its_cure(model, monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith("opentelemetry") or name == "twinsplit.tracing.export"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"pip install 'twinsplit\[tracing\]'"):
        async with running_device(model, otlp_endpoint="http://127.0.0.1:4318"):
            pass
