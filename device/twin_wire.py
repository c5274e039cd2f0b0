"""The device's reports as wire messages. Ages are counted back from the instant of sending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device.reports import DeviceState, Heartbeat, ProgressReport, Report, Started, StartReport, TaskReport
from device.task import AskTwin
from twinsplit import __version__
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.convert import digest_to_wire, link_to_wire, outcome_to_wire, payload_to_wire
from twinsplit.types import Payloads, TaskRecord

UNKNOWN_CONFIDENCE = -1.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a device says of itself when it attaches, apart from what it tracks."""

    device_id: str
    model_digest: str
    """Hex."""
    payloads: Payloads
    fixed_edge_address: str | None
    compute_watts: float | None
    """``None``: unknown."""
    transmit_watts: float | None
    is_polled: bool
    report_threshold_s: float


@dataclass(frozen=True, slots=True)
class Attachment:
    """What the twin is told at attachment of what the device tracks."""

    segment_s: tuple[float, ...]
    exit_s: tuple[float, ...]
    encode_s: Mapping[tuple[int, int], float]
    goodput_bytes_per_s: float | None
    round_trip_s: float | None
    last_plan_id: int
    speed_share: float = 1.0
    """Speed of the processor over its full speed, at which these times hold."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """State now, for a live read."""

    queue_length: int
    started: Started | None
    epoch: int
    reached_at_s: float
    """Instant at which ``epoch`` was reached."""
    state: DeviceState


def hello_to_wire(
    announcement: Announcement, attachment: Attachment, attachment_epoch: int = 0
) -> twin_pb2.AttachDeviceRequest:
    """The first message of a stream; ``attachment_epoch``: the attachment's number, 0: none."""
    hello = twin_pb2.DeviceHello(
        device_id=announcement.device_id,
        model_digest=digest_to_wire(announcement.model_digest),
        segment_s=attachment.segment_s,
        exit_s=attachment.exit_s,
        encode_s=[
            twin_pb2.EncodeTime(cut=cut, representation_index=index, encode_s=seconds)
            for (cut, index), seconds in attachment.encode_s.items()
        ],
        tensors_only=announcement.payloads is Payloads.TENSORS_ONLY,
        fixed_edge_address=announcement.fixed_edge_address or "",
        goodput_bytes_per_s=attachment.goodput_bytes_per_s or 0.0,
        round_trip_s=attachment.round_trip_s or 0.0,
        last_plan_id=attachment.last_plan_id,
        compute_watts=announcement.compute_watts,
        transmit_watts=announcement.transmit_watts,
        is_polled=announcement.is_polled,
        version=__version__,
        report_threshold_s=announcement.report_threshold_s,
        speed_share=attachment.speed_share,
        attachment_epoch=attachment_epoch,
    )
    return twin_pb2.AttachDeviceRequest(hello=hello)


def manifest_to_wire(manifest_bytes: bytes) -> twin_pb2.AttachDeviceRequest:
    """The manifest that the twin asked for."""
    return twin_pb2.AttachDeviceRequest(manifest=twin_pb2.ManifestUpload(manifest_json=manifest_bytes))


def report_to_wire(report: Report, now_s: float) -> twin_pb2.AttachDeviceRequest:
    """A report sent at ``now_s`` on the clock of its instants."""
    if isinstance(report, TaskReport):
        task = twin_pb2.TaskReport(
            ended=[ended_to_wire(record, now_s) for record in report.ended],
            started=_started(report.started, report.queue_length, now_s),
            queue_length=report.queue_length,
            state=_state(report.state),
        )
        return twin_pb2.AttachDeviceRequest(task=task)
    if isinstance(report, StartReport):
        return twin_pb2.AttachDeviceRequest(start=_started(report.started, report.queue_length, now_s))
    if isinstance(report, ProgressReport):
        progress = twin_pb2.ProgressReport(
            task_id=report.task_id,
            epoch=report.epoch,
            reached_age_s=_age_s(report.reached_at_s, now_s),
            queue_length=report.queue_length,
        )
        return twin_pb2.AttachDeviceRequest(progress=progress)
    assert isinstance(report, Heartbeat)
    heartbeat = twin_pb2.DeviceHeartbeat(
        queue_length=report.queue_length,
        started=_started(report.started, report.queue_length, now_s),
        state=_state(report.state),
    )
    return twin_pb2.AttachDeviceRequest(heartbeat=heartbeat)


def poll_to_wire(question: AskTwin) -> twin_pb2.AttachDeviceRequest:
    """Polled mode: what to do at this epoch."""
    poll = twin_pb2.PollRequest(
        task_id=question.task.task_id,
        epoch=question.epoch,
        evidence=question.evidence,
        queue_length=question.queue_length,
        age_s=max(0.0, question.age_s),
        uplink_busy_s=question.uplink_busy_s,
    )
    return twin_pb2.AttachDeviceRequest(poll=poll)


def live_to_wire(read_id: int, live: LiveState, now_s: float) -> twin_pb2.AttachDeviceRequest:
    """The answer to a live read."""
    report = twin_pb2.LiveReport(
        read_id=read_id,
        queue_length=live.queue_length,
        started=_started(live.started, live.queue_length, now_s),
        epoch=live.epoch,
        reached_age_s=_age_s(live.reached_at_s, now_s),
        state=_state(live.state),
    )
    return twin_pb2.AttachDeviceRequest(live=report)


def ended_to_wire(record: TaskRecord, now_s: float) -> twin_pb2.EndedTask:
    """One ended task."""
    started_at_s, stages = record.started_at_s, record.stages
    is_started = started_at_s is not None
    return twin_pb2.EndedTask(
        task_id=record.task_id,
        outcome=outcome_to_wire(record.outcome),
        reason=record.reason.value,
        arrived_age_s=_age_s(record.arrived_at_s, now_s),
        started_age_s=_age_s(started_at_s, now_s) if started_at_s is not None else None,
        ended_age_s=_age_s(record.ended_at_s, now_s),
        epoch_s=[reached_at_s - started_at_s for reached_at_s in record.epoch_times_s[1:]]
        if started_at_s is not None
        else [],
        stop_epoch=record.stop_epoch if is_started else None,
        evidence=record.evidence,
        exit_index=record.exit_index,
        payload=payload_to_wire(record.payload),
        representation_index=record.representation_index or 0,
        wire_bytes=record.wire_bytes,
        encode_s=stages.encode or 0.0,
        upload_s=stages.upload or 0.0,
        edge_queue_s=stages.edge_queue or 0.0,
        edge_service_s=stages.edge_compute or 0.0,
        energy_joules=record.energy_joules,
        exit_confidence=[UNKNOWN_CONFIDENCE if c is None else c for c in record.exit_confidences],
        exit_agrees=record.exit_agrees,
        degraded=record.degraded,
        energy_source=record.energy_source or "",
        plan_id=record.plan_id or 0,
        label=record.label or "",
        confidence=UNKNOWN_CONFIDENCE if record.confidence is None else record.confidence,
        thumbnail_jpeg=record.thumbnail_jpeg or b"",
        queue_length=record.queue_length,
        edge_id=record.edge_id or "",
        sent_on=record.sent_on,
    )


def _started(started: Started | None, queue_length: int, now_s: float) -> twin_pb2.StartReport | None:
    if started is None:
        return None
    return twin_pb2.StartReport(
        task_id=started.task_id,
        started_age_s=_age_s(started.at_s, now_s),
        queue_length=queue_length,
        first_epoch=started.first_epoch,
    )


def _state(state: DeviceState) -> twin_pb2.DeviceState:
    return twin_pb2.DeviceState(
        goodput_bytes_per_s=state.goodput_bytes_per_s or 0.0,
        round_trip_s=state.round_trip_s or 0.0,
        segment_s=state.segment_s,
        exit_s=state.exit_s,
        is_edge_reachable=state.is_edge_reachable,
        is_degraded=state.is_degraded,
        entered=state.entered,
        lost=state.lost,
        cpu_share=state.health.cpu_share,
        memory_share=state.health.memory_share,
        temperature_celsius=state.health.temperature_celsius,
        is_throttled=state.health.is_throttled,
        speed_share=state.health.speed_share,
        links=[link_to_wire(link) for link in state.links],
    )


def _age_s(instant_s: float, now_s: float) -> float:
    return max(0.0, now_s - instant_s)
