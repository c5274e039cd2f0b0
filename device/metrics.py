"""The device's metrics, read from its state at scrape (design section 9)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from device.breaker import BreakerState
from device.offloads import offload_of
from device.pipeline import Pipeline
from device.self_mirror import Truth
from device.sinks import JsonLinesSink
from device.sources import SourceWatch
from device.twin_link import TwinLink
from device.twin_route import TwinRoute
from twinsplit.model.manifest import Manifest
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.calls import CallCount
from twinsplit.types import Decision, Outcome, Stages, TaskRecord

_STAGES = tuple(field.name for field in fields(Stages))


class DeviceMetrics:
    """Everything that ``/metrics`` shows of a device apart from its process."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        provider: str,
        queue_capacity: int,
        emulations: tuple[str, ...],
        signalling: SignallingCount,
        calls: CallCount,
        link: TwinLink | None,
        watch: SourceWatch | None,
        sink: JsonLinesSink | None,
    ) -> None:
        self._cut_bytes = [math.prod(c.tensor.shape) * np.dtype(c.tensor.dtype).itemsize for c in manifest.cuts]
        self._provider = provider
        self._queue_capacity = queue_capacity
        self._emulations = emulations
        self._signalling = signalling
        self._calls = calls
        self._link = link
        self._watch = watch
        self._sink = sink
        self._latency = {
            outcome: Histogram.of("twinsplit_task_latency_seconds") for outcome in Outcome if outcome.is_answered
        }
        self._stages = {stage: Histogram.of("twinsplit_stage_seconds") for stage in _STAGES}
        self._wire_bytes: Counter[str] = Counter()
        self._raw_bytes: Counter[str] = Counter()
        self._degraded = 0

    def note_task(self, record: TaskRecord) -> None:
        """A task has ended."""
        if record.outcome.is_answered:
            self._latency[record.outcome].observe(record.latency_s)
            self._degraded += record.degraded
        for stage, histogram in self._stages.items():
            seconds = getattr(record.stages, stage)
            if seconds is not None:
                histogram.observe(seconds)

    def note_upload(self, payload: str, wire_bytes: int, raw_bytes: int) -> None:
        """A payload was handed to the uplink."""
        self._wire_bytes[payload] += wire_bytes
        self._raw_bytes[payload] += raw_bytes

    def samples(self, pipeline: Pipeline, now_s: float) -> Iterator[Sample]:
        """Read now; the caller holds the pipeline's lock."""
        yield from self._task_samples(pipeline)
        yield from self._plan_samples(pipeline, now_s)
        yield from self._uplink_samples(pipeline, now_s)
        yield from _energy_samples(pipeline, now_s)
        yield from _health_samples(pipeline)
        yield from self._mirror_samples(pipeline, now_s)
        yield "twinsplit_provider_info", {"provider": self._provider}, 1.0
        for emulation in self._emulations:
            yield "twinsplit_emulation", {"kind": emulation}, 1.0
        if self._watch is not None:
            yield "twinsplit_source_frames_total", {}, self._watch.frames
            for problem, count in dict(self._watch.problems).items():
                yield "twinsplit_source_problems_total", {"problem": problem.value}, count
        if self._sink is not None:
            yield "twinsplit_sink_records_total", {}, self._sink.written
            yield "twinsplit_sink_waiting_records", {}, self._sink.waiting
            yield "twinsplit_sink_lost_records_total", {}, self._sink.lost
        yield from self._signalling.samples()
        yield from self._calls.samples()

    def _task_samples(self, pipeline: Pipeline) -> Iterator[Sample]:
        outcomes = pipeline.outcomes
        yield "twinsplit_tasks_entered_total", {}, outcomes.entered
        by_outcome: Counter[str] = Counter()
        by_reason: Counter[str] = Counter()
        for (outcome, reason), count in outcomes.ended.items():
            by_outcome[outcome.value] += count
            by_reason[reason.value] += count
        for outcome in Outcome:
            yield "twinsplit_tasks_total", {"outcome": outcome.value}, by_outcome[outcome.value]
        for name, count in by_reason.items():
            yield "twinsplit_task_reasons_total", {"reason": name}, count
        yield "twinsplit_tasks_degraded_total", {}, self._degraded
        for (epoch, decision, reason), count in pipeline.decisions.taken.items():
            if decision is not Decision.CONTINUE:
                name = decision.name.lower().replace("_", "-")
                labels = {"epoch": str(epoch), "decision": name, "reason": reason.value}
                yield "twinsplit_decisions_total", labels, count
        for outcome, histogram in self._latency.items():
            yield "twinsplit_task_latency_seconds", {"outcome": outcome.value}, histogram
        for stage, histogram in self._stages.items():
            yield "twinsplit_stage_seconds", {"stage": stage}, histogram
        yield "twinsplit_queue_length", {}, pipeline.queue_length
        yield "twinsplit_queue_capacity", {}, self._queue_capacity

    def _plan_samples(self, pipeline: Pipeline, now_s: float) -> Iterator[Sample]:
        plans = pipeline.plans
        yield "twinsplit_degraded", {}, float(plans.is_degraded(now_s))
        if plans.absence(now_s) is None:
            yield "twinsplit_plan_id", {}, plans.last_plan_id
            yield "twinsplit_plan_age_seconds", {}, plans.plan_age_s(now_s)
            yield "twinsplit_lease_left_seconds", {}, plans.lease_left_s(now_s)
        yield "twinsplit_plans_received_total", {"result": "obeyed"}, plans.plans_received
        yield "twinsplit_plans_received_total", {"result": "older"}, plans.plans_ignored
        if self._link is not None:
            yield "twinsplit_plans_received_total", {"result": "refused"}, self._link.plans_refused
            yield "twinsplit_backlog_updates_received_total", {}, self._link.backlog_updates
            yield "twinsplit_twin_attached", {}, float(self._link.is_attached)
            yield from _route_samples(self._link.route)
        if plans.backlog is not None:
            yield "twinsplit_predicted_backlog_seconds", {}, plans.backlog_s(now_s)

    def _mirror_samples(self, pipeline: Pipeline, now_s: float) -> Iterator[Sample]:
        if self._link is None or not self._link.is_attached:
            return
        task, tracker, reporter = pipeline.in_service, pipeline.tracker, pipeline.reporter
        truth = Truth(
            epoch=None if task is None else max(len(task.epoch_times_s) - 1, 0),
            queue_length=pipeline.queue_length,
            goodput_bytes_per_s=tracker.goodput_bytes_per_s,
            round_trip_s=tracker.round_trip_s,
            network_s=sum(tracker.segment_s),
        )
        yield "twinsplit_last_report_age_seconds", {}, reporter.report_age_s(now_s)
        for field in reporter.layers(truth, now_s):
            yield "twinsplit_mirror_reported", {"field": field.name}, field.reported
            yield "twinsplit_mirror_predicted", {"field": field.name}, field.predicted
            yield "twinsplit_mirror_actual", {"field": field.name}, field.actual

    def _uplink_samples(self, pipeline: Pipeline, now_s: float) -> Iterator[Sample]:
        for payload, count in self._wire_bytes.items():
            yield "twinsplit_payload_wire_bytes_total", {"payload": payload}, count
        for payload, count in self._raw_bytes.items():
            yield "twinsplit_payload_raw_bytes_total", {"payload": payload}, count
        offloads, tracker = pipeline.offloads, pipeline.tracker
        yield "twinsplit_uploads_in_flight", {}, len(offloads)
        tensor_bytes = sum(self._cut_bytes[task.epoch] for task in pipeline.keepers())
        yield "twinsplit_kept_tensor_bytes", {}, tensor_bytes + sum(offload_of(task).wire_bytes for task in offloads)
        for cause, count in offloads.came_back.items():
            yield "twinsplit_offloads_resumed_total", {"reason": cause.value}, count
        for cause, count in offloads.sent_on.items():
            yield "twinsplit_offloads_sent_on_total", {"reason": cause.value}, count
        for place, link in enumerate(offloads.links(now_s), start=1):
            labels = {"place": str(place)}
            yield "twinsplit_edge_goodput_bytes_per_second", labels, link.goodput_bytes_per_s
            yield "twinsplit_edge_round_trip_seconds", labels, link.round_trip_s
            yield "twinsplit_edge_reachable", labels, float(link.is_reachable)
        yield "twinsplit_uplink_goodput_bytes_per_second", {}, tracker.goodput_bytes_per_s
        yield "twinsplit_uplink_round_trip_seconds", {}, tracker.round_trip_s
        address = pipeline.plans.edge_address
        if address is not None:
            present = offloads.breaker(address).state(now_s)
            for state in BreakerState:
                yield "twinsplit_breaker_state", {"state": state.value}, float(state is present)


def _route_samples(route: TwinRoute) -> Iterator[Sample]:
    yield "twinsplit_twin_replicas", {}, len(route.replicas)
    yield "twinsplit_twin_preferred", {}, float(route.address == route.replicas[0])
    yield "twinsplit_twin_moves_total", {}, route.moves
    yield "twinsplit_attachment_epoch", {}, route.epochs.current


def _energy_samples(pipeline: Pipeline, now_s: float) -> Iterator[Sample]:
    energy = pipeline.outcomes.energy
    for (source, part), joules in energy.totals().items():
        yield "twinsplit_energy_joules_total", {"source": source, "part": part.value}, joules
    state = energy.state(now_s)
    if state is not None:
        labels = {"source": state.source}
        yield "twinsplit_energy_meter_up", labels, float(state.is_up)
        yield "twinsplit_energy_meter_losses_total", labels, state.losses
        yield "twinsplit_power_watts", labels, state.watts


def _health_samples(pipeline: Pipeline) -> Iterator[Sample]:
    health = pipeline.reporter.health
    yield "twinsplit_device_cpu_share", {}, health.cpu_share
    yield "twinsplit_device_memory_share", {}, health.memory_share
    yield "twinsplit_device_temperature_celsius", {}, health.temperature_celsius
    yield "twinsplit_device_throttled", {}, None if health.is_throttled is None else float(health.is_throttled)
    yield "twinsplit_device_speed_share", {}, health.speed_share
