"""Status and metrics say how things stand."""

from __future__ import annotations

import json

import pytest

from device.energy import MeterBooks
from device.health import Health
from device.metrics import DeviceMetrics
from device.status import status_document
from device.status_text import status_text
from tests.unit.device.made_up_device import EDGE, MadeUpDevice, manifest_of, offload_at, plan_of
from twinsplit.energy import MeterReading
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import StateCollector
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.calls import CallCount
from twinsplit.types import Reason

MANIFEST = manifest_of()
PARTS = ("compute", "radio")
IDENTITY = {
    "id": "cam-1",
    "model": {"name": "made-up", "version": 1, "digest": "ab" * 32, "segments_held": 4},
    "provider": "CPUExecutionProvider",
    "payloads": "any",
    "emulation": {"slowdown": 8.0},
    "twin": {"address": "127.0.0.1:7000", "is_attached": True},
}


@pytest.fixture
def device() -> MadeUpDevice:
    """One task at the edge, one back from it, one in service."""
    device = MadeUpDevice(MANIFEST)
    plan = plan_of(MANIFEST, offload_at(2), exits_run=(True, False))
    device.take(device.pipeline.plan_received(device.now_s, plan, BacklogState(0.05, device.now_s, 0.05)))
    for _ in range(2):
        device.arrive()
        device.run()
    device.clock.advance(0.1)
    device.answer(1)
    device.take(device.pipeline.upload_failed(device.now_s, 2, Reason.EDGE_REFUSED))
    device.run()
    device.arrive()
    return device


def test_the_status_names_plan_edge_outcomes_and_reasons(device):
    status = status_document(device.pipeline, device.now_s, IDENTITY)
    assert json.loads(json.dumps(status)) == status
    assert status["plan"]["in_force"]
    assert (status["plan"]["plan_id"], status["plan"]["rule"]) == (1, "open-loop")
    assert status["plan"]["exits_run"] == [True, False]
    assert (status["edge"]["address"], status["edge"]["breaker"]) == (EDGE, "closed")
    assert status["edge"]["came_back"] == {"edge-refused": 1}
    assert (status["entered"], status["open"]) == (3, 1)
    assert status["reasons"] == {"edge: offload-pays": 1, "device: edge-refused": 1}
    assert status["stops"] == [{"epoch": 2, "decision": "offload-tensor", "reason": "offload-pays", "count": 2}]
    assert status["task"]["task_id"] == 3


def test_in_words_it_says_the_same(device):
    text = status_text(status_document(device.pipeline, device.now_s, IDENTITY))
    assert "plan 1 of rule open-loop" in text
    assert "offloads to edge" in text
    assert "EMULATION: slowdown 8.0" in text
    assert "3 entered = 1 device, 0 exit, 1 edge, 0 dropped, 0 failed, 1 open" in text
    assert "1  device: edge-refused" in text
    assert "epoch 2: offload-tensor (offload-pays)" in text


def test_without_twin_plan_and_edge_it_says_so():
    device = MadeUpDevice(MANIFEST)
    identity = IDENTITY | {"twin": None, "emulation": {}}
    text = status_text(status_document(device.pipeline, device.now_s, identity))
    assert "twin: none" in text
    assert "no plan in force (no-plan)" in text
    assert "edge:" not in text
    assert "now: idle" in text


def metrics_of(device: MadeUpDevice) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels, as Prometheus would read them."""
    metrics = DeviceMetrics(
        manifest=MANIFEST,
        provider="CPUExecutionProvider",
        queue_capacity=64,
        emulations=("slowdown",),
        signalling=SignallingCount(),
        calls=CallCount(),
        link=None,
        watch=None,
        sink=None,
    )
    for record in device.records:
        metrics.note_task(record)
    metrics.note_upload("tensor", 1000, 4000)
    collector = StateCollector("device", lambda: metrics.samples(device.pipeline, device.now_s))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_metrics_are_in_the_catalogue_and_add_up(device):
    samples = metrics_of(device)
    ended = [value for (name, _), value in samples.items() if name == "twinsplit_tasks_total"]
    assert len(ended) == 5
    assert sum(ended) == 2.0
    assert samples["twinsplit_tasks_entered_total", ()] == 3.0
    assert samples["twinsplit_tasks_degraded_total", ()] == 1.0
    labels = (("decision", "offload-tensor"), ("epoch", "2"), ("reason", "offload-pays"))
    assert samples["twinsplit_decisions_total", labels] == 2.0
    assert samples["twinsplit_task_latency_seconds_count", (("outcome", "edge"),)] == 1.0
    assert samples["twinsplit_offloads_resumed_total", (("reason", "edge-refused"),)] == 1.0
    assert samples["twinsplit_breaker_state", (("state", "closed"),)] == 1.0
    assert samples["twinsplit_breaker_state", (("state", "open"),)] == 0.0
    assert samples["twinsplit_payload_raw_bytes_total", (("payload", "tensor"),)] == 4000.0
    assert samples["twinsplit_emulation", (("kind", "slowdown"),)] == 1.0
    energy = sum(record.energy_joules for record in device.records)
    parts = [samples["twinsplit_energy_joules_total", (("part", part), ("source", "model"))] for part in PARTS]
    assert sum(parts) == pytest.approx(energy)
    assert min(parts) > 0.0


def test_a_meter_and_the_machines_health_are_metrics_and_status(device):
    device.pipeline.outcomes.energy = books = MeterBooks("rapl", 0.05, compute_watts=3.0, transmit_watts=1.0)
    for step in range(4):
        books.sampled(device.now_s + 0.05 * step, MeterReading(watts=4.0))
    device.clock.advance(0.15)
    books.step_began(device.now_s)
    books.step_ended(9, device.now_s, device.now_s + 0.01)
    health = Health(0.5, 0.25, 71.5, is_throttled=True, speed_share=0.5)
    device.reporter.health_seen(health)
    samples = metrics_of(device)
    assert samples["twinsplit_energy_meter_up", (("source", "rapl"),)] == 1.0
    assert samples["twinsplit_power_watts", (("source", "rapl"),)] == 4.0
    assert samples["twinsplit_energy_meter_losses_total", (("source", "rapl"),)] == 0.0
    assert samples["twinsplit_energy_joules_total", (("part", "idle"), ("source", "rapl"))] == pytest.approx(0.6)
    assert samples["twinsplit_device_throttled", ()] == 1.0
    assert samples["twinsplit_device_temperature_celsius", ()] == 71.5
    assert samples["twinsplit_device_cpu_share", ()] == 0.5
    assert samples["twinsplit_device_memory_share", ()] == 0.25
    assert samples["twinsplit_device_speed_share", ()] == 0.5
    text = status_text(status_document(device.pipeline, device.now_s, IDENTITY))
    assert "energy meter: rapl, up; 4 W now, 4 W idle" in text
    assert "energy so far: 0.6 J idle (from rapl)" in text
    assert "machine: processors 50% busy, memory 25% used, 72 degrees Celsius, THROTTLED to 50% of full speed" in text


def test_a_silent_meter_is_told_as_such_and_has_no_power(device):
    device.pipeline.outcomes.energy = books = MeterBooks("rapl", 0.05, compute_watts=3.0, transmit_watts=1.0)
    books.sampled(device.now_s, MeterReading(watts=4.0))
    books.sampled(device.now_s + 0.05, None)
    samples = metrics_of(device)
    assert samples["twinsplit_energy_meter_up", (("source", "rapl"),)] == 0.0
    assert samples["twinsplit_energy_meter_losses_total", (("source", "rapl"),)] == 1.0
    assert ("twinsplit_power_watts", (("source", "rapl"),)) not in samples
    text = status_text(status_document(device.pipeline, device.now_s, IDENTITY))
    assert "energy meter: rapl, SILENT: energy is unknown, fell silent 1 times" in text
    assert "energy so far: unknown" in text


def test_kept_tensors_are_counted_in_bytes(device):
    assert metrics_of(device)["twinsplit_kept_tensor_bytes", ()] == 0.0
    device.run()
    assert metrics_of(device)["twinsplit_kept_tensor_bytes", ()] == 8 * 4 + 1000, "the tensor, and the payload sent"


def test_what_is_not_known_has_no_series():
    names = {name for name, _ in metrics_of(MadeUpDevice(MANIFEST))}
    for absent in ("plan_id", "lease_left_seconds", "uplink_goodput_bytes_per_second", "predicted_backlog_seconds"):
        assert f"twinsplit_{absent}" not in names
    unknown = (
        "energy_joules_total",
        "energy_meter_up",
        "power_watts",
        "device_temperature_celsius",
        "device_throttled",
    )
    assert not names & {f"twinsplit_{name}" for name in unknown}
