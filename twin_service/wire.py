"""Wire messages to the twin's own and back. Nothing past this module and the servicer knows a wire type.

Ages become instants on our clock, counted back from the instant of sending
(:mod:`twinsplit.transport.clock_offset`). What is missing, unknown or out of range is refused here, before anything of
a message is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.message import Message

from twin_service import messages
from twinsplit import __version__
from twinsplit.edge_list import MOST_LISTED, EdgeLink
from twinsplit.errors import BadMessageError, SettingsError
from twinsplit.model.manifest import MOST_CLASS_NAME
from twinsplit.plausible import LARGEST_NUMBER, LARGEST_WEIGHT
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.address import Address
from twinsplit.transport.clock_offset import ClockReadings
from twinsplit.transport.convert import (
    attachment_from_wire,
    backlog_from_wire,
    backlog_to_wire,
    digest_from_wire,
    edges_to_wire,
    link_from_wire,
    outcome_from_wire,
    payload_from_wire,
    plan_to_wire,
    seconds_from_wire,
)
from twinsplit.transport.limits import THUMBNAIL_BYTES
from twinsplit.transport.status import error_from_wire, error_to_wire
from twinsplit.types import Reason, Stages, TaskRecord

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_MAX_TIMES = 4096
_MAX_ENCODE_TIMES = 8 * _MAX_TIMES
MOST_OTHER_ADDRESSES = 8
MOST_MODELS = 256
_JPEG_START = b"\xff\xd8\xff"
_MAX_SOURCE = 63


def readings_from_wire(clock: twin_pb2.ClockEcho) -> ClockReadings:
    """Clock readings of a message."""
    return ClockReadings(clock.sent_s, clock.echo_sent_s, clock.echo_received_s)


def readings_to_wire(readings: ClockReadings) -> twin_pb2.ClockEcho:
    """Clock readings for a message."""
    return twin_pb2.ClockEcho(
        sent_s=readings.sent_s, echo_sent_s=readings.echo_sent_s, echo_received_s=readings.echo_received_s
    )


def device_hello_from_wire(hello: twin_pb2.DeviceHello) -> messages.DeviceHello:
    """Who attaches.

    Raises:
        BadMessageError: a field is missing or impossible.
    """
    if hello.fixed_edge_address:
        _address(hello.fixed_edge_address, "fixed_edge_address")
    return messages.DeviceHello(
        device_id=_name(hello.device_id, "device_id"),
        model_digest=digest_from_wire(hello.model_digest),
        segment_s=_all_seconds(hello.segment_s, "segment_s"),
        exit_s=_all_seconds(hello.exit_s, "exit_s"),
        encode_s=_encode_s(hello),
        is_tensors_only=hello.tensors_only,
        fixed_edge_address=hello.fixed_edge_address or None,
        goodput_bytes_per_s=_known(hello.goodput_bytes_per_s, "goodput_bytes_per_s"),
        round_trip_s=_known(hello.round_trip_s, "round_trip_s"),
        last_plan_id=hello.last_plan_id,
        compute_watts=_watts(hello, "compute_watts"),
        transmit_watts=_watts(hello, "transmit_watts"),
        is_polled=hello.is_polled,
        version=hello.version[:63],
        report_threshold_s=seconds_from_wire(hello.report_threshold_s, "report_threshold_s"),
        speed_share=_speed_share(hello),
        attachment_epoch=attachment_from_wire(hello.attachment_epoch),
    )


def device_event_from_wire(request: twin_pb2.AttachDeviceRequest, sent_at_s: float) -> messages.DeviceEvent:
    """What an attached device says; ``sent_at_s`` is the instant of sending on our clock.

    Raises:
        BadMessageError: a field is missing or impossible, or the message says nothing that we know.
    """
    kind = request.WhichOneof("kind")
    if kind == "task":
        return _task_report(request.task, sent_at_s)
    if kind == "start":
        return _start(request.start, sent_at_s)
    if kind == "progress":
        progress = request.progress
        reached_at_s = sent_at_s - seconds_from_wire(progress.reached_age_s, "reached_age_s")
        return messages.ProgressReport(progress.task_id, progress.epoch, reached_at_s, progress.queue_length)
    if kind == "heartbeat":
        heartbeat = request.heartbeat
        started = _started(heartbeat, sent_at_s)
        return messages.DeviceHeartbeat(heartbeat.queue_length, started, _state(heartbeat.state))
    if kind == "poll":
        poll = request.poll
        age_s = seconds_from_wire(poll.age_s, "poll.age_s")
        busy_s = seconds_from_wire(poll.uplink_busy_s, "poll.uplink_busy_s")
        return messages.PollRequest(poll.task_id, poll.epoch, poll.evidence, poll.queue_length, age_s, busy_s)
    if kind == "live":
        live = request.live
        reached_at_s = sent_at_s - seconds_from_wire(live.reached_age_s, "reached_age_s")
        started = _started(live, sent_at_s)
        return messages.LiveReport(
            live.read_id, live.queue_length, started, live.epoch, reached_at_s, _state(live.state)
        )
    if kind == "manifest":
        return messages.ManifestUpload(request.manifest.manifest_json)
    if kind == "error":
        return messages.PeerRefusal(error_from_wire(request.error))
    raise BadMessageError(f"kind: {kind or 'nothing'} is not expected here; after its hello a device sends reports")


def edge_hello_from_wire(hello: twin_pb2.EdgeHello, sent_at_s: float) -> messages.EdgeHello:
    """Which edge attaches.

    Raises:
        BadMessageError: a field is missing or impossible.
    """
    if len(hello.other_addresses) > MOST_OTHER_ADDRESSES:
        raise BadMessageError(f"other_addresses: more than {MOST_OTHER_ADDRESSES}")
    if len(hello.models) > MOST_MODELS:
        raise BadMessageError(f"models: more than {MOST_MODELS}")
    return messages.EdgeHello(
        edge_id=_name(hello.edge_id, "edge_id"),
        advertise_address=_address(hello.advertise_address, "advertise_address"),
        models={digest_from_wire(m.model_digest): _all_seconds(m.tail_s, "tail_s") for m in hello.models if m.tail_s},
        version=hello.version[:63],
        report_threshold_s=seconds_from_wire(hello.report_threshold_s, "report_threshold_s"),
        backlog=backlog_report_from_wire(hello.backlog, sent_at_s) if hello.HasField("backlog") else None,
        other_addresses=tuple(_address(address, "other_addresses") for address in hello.other_addresses),
    )


def edge_report_from_wire(request: twin_pb2.AttachEdgeRequest, sent_at_s: float) -> messages.BacklogReport:
    """What an attached edge says.

    Raises:
        BadMessageError: a field is missing or impossible, or the message says nothing that we know.
    """
    kind = request.WhichOneof("kind")
    if kind == "backlog":
        return backlog_report_from_wire(request.backlog, sent_at_s)
    if kind == "heartbeat":
        return backlog_report_from_wire(request.heartbeat.backlog, sent_at_s)
    raise BadMessageError(f"kind: {kind or 'nothing'} is not expected here; after its hello an edge sends reports")


def backlog_report_from_wire(report: twin_pb2.BacklogReport, sent_at_s: float) -> messages.BacklogReport:
    """An edge's backlog.

    Raises:
        BadMessageError: a number that is impossible.
    """
    return messages.BacklogReport(
        backlog=backlog_from_wire(report.backlog, sent_at_s),
        arrived_work_s=_all_seconds(report.arrived_work_s, "arrived_work_s"),
        speed_factor=seconds_from_wire(report.speed_factor, "speed_factor"),
        queue_length=report.queue_length,
        busy_share=seconds_from_wire(report.busy_share, "busy_share"),
        arrivals=_arrivals(report.arrivals, sent_at_s),
        is_logging=report.HasField("arrivals"),
    )


def device_response(
    message: messages.DeviceMessage, readings: ClockReadings, *, lease_s: float, heartbeat_s: float
) -> twin_pb2.AttachDeviceResponse:
    """A message for a device, sent at ``readings.sent_s``."""
    now_s = readings.sent_s
    response = twin_pb2.AttachDeviceResponse(clock=readings_to_wire(readings), lease_s=lease_s)
    if isinstance(message, messages.Welcome):
        response.welcome.CopyFrom(_welcome(message, heartbeat_s))
    elif isinstance(message, messages.PlanMessage):
        response.plan.CopyFrom(plan_to_wire(message.plan, message.backlog, now_s))
    elif isinstance(message, messages.EdgeList):
        response.edges.CopyFrom(edges_to_wire(message.edges, now_s))
    elif isinstance(message, messages.BacklogUpdate):
        response.backlog.CopyFrom(twin_pb2.BacklogUpdate(backlog=backlog_to_wire(message.backlog, now_s)))
    elif isinstance(message, messages.LeaseRenewal):
        response.renewal.CopyFrom(twin_pb2.LeaseRenewal())
    elif isinstance(message, messages.PollResponse):
        poll = twin_pb2.PollResponse(task_id=message.task_id, epoch=message.epoch, decision=int(message.decision))
        response.poll.CopyFrom(poll)
    elif isinstance(message, messages.LiveRequest):
        response.live.CopyFrom(twin_pb2.LiveRequest(read_id=message.read_id))
    else:
        response.error.CopyFrom(error_to_wire(message.error))
    return response


def edge_response(
    message: messages.EdgeMessage, readings: ClockReadings, *, heartbeat_s: float
) -> twin_pb2.AttachEdgeResponse:
    """A message for an edge, sent at ``readings.sent_s``."""
    response = twin_pb2.AttachEdgeResponse(clock=readings_to_wire(readings))
    if isinstance(message, messages.Welcome):
        response.welcome.CopyFrom(_welcome(message, heartbeat_s))
    elif isinstance(message, messages.BacklogInterest):
        response.interest.ceiling_s = message.ceiling_s
    else:
        response.error.CopyFrom(error_to_wire(message.error))
    return response


def _welcome(message: messages.Welcome, heartbeat_s: float) -> twin_pb2.Welcome:
    return twin_pb2.Welcome(
        needs_manifest=message.needs_manifest,
        version=__version__,
        heartbeat_s=heartbeat_s,
        attachment_epoch=message.attachment_epoch,
    )


def _encode_s(hello: twin_pb2.DeviceHello) -> dict[tuple[int, int], float]:
    if len(hello.encode_s) > _MAX_ENCODE_TIMES:
        raise BadMessageError(f"encode_s: has {len(hello.encode_s)} times, at most {_MAX_ENCODE_TIMES} are allowed")
    return {(e.cut, e.representation_index): seconds_from_wire(e.encode_s, "encode_s") for e in hello.encode_s}


def _task_report(report: twin_pb2.TaskReport, sent_at_s: float) -> messages.TaskReport:
    if not report.ended:
        raise BadMessageError("task.ended: is empty; a task report tells of at least one ended task")
    return messages.TaskReport(
        ended=tuple(_ended(task, report.queue_length, sent_at_s) for task in report.ended),
        started=_started(report, sent_at_s),
        queue_length=report.queue_length,
        state=_state(report.state),
    )


def _ended(task: twin_pb2.EndedTask, queue_length: int, sent_at_s: float) -> TaskRecord:
    payload = payload_from_wire(task.payload)
    started_age_s = _optional(task, "started_age_s")
    started_at_s = None if started_age_s is None else sent_at_s - started_age_s
    arrived_at_s = sent_at_s - seconds_from_wire(task.arrived_age_s, "arrived_age_s")
    epoch_s = _all_seconds(task.epoch_s, "epoch_s")
    if list(epoch_s) != sorted(epoch_s):
        raise BadMessageError("epoch_s: the times of decision epochs must ascend")
    has_sent = payload is not None
    return TaskRecord(
        task_id=task.task_id,
        frame="",
        arrived_at_s=arrived_at_s,
        started_at_s=started_at_s,
        ended_at_s=sent_at_s - seconds_from_wire(task.ended_age_s, "ended_age_s"),
        outcome=outcome_from_wire(task.outcome),
        reason=_reason(task.reason),
        stop_epoch=task.stop_epoch if task.HasField("stop_epoch") else None,
        evidence=task.evidence,
        exit_index=task.exit_index if task.HasField("exit_index") else None,
        payload=payload,
        representation_index=task.representation_index if has_sent else None,
        exit_confidences=_confidences(task.exit_confidence),
        exit_agrees=task.exit_agrees if task.HasField("exit_agrees") else None,
        wire_bytes=task.wire_bytes,
        label=_label(task.label),
        confidence=task.confidence if 0.0 <= task.confidence <= 1.0 else None,
        degraded=task.degraded,
        stages=Stages(
            queue=None if started_at_s is None else max(0.0, started_at_s - arrived_at_s),
            encode=seconds_from_wire(task.encode_s, "encode_s") if has_sent else None,
            upload=seconds_from_wire(task.upload_s, "upload_s") if has_sent else None,
            edge_queue=seconds_from_wire(task.edge_queue_s, "edge_queue_s") if has_sent else None,
            edge_compute=seconds_from_wire(task.edge_service_s, "edge_service_s") if has_sent else None,
        ),
        epoch_times_s=() if started_at_s is None else (started_at_s, *(started_at_s + s for s in epoch_s)),
        energy_joules=_optional(task, "energy_joules"),
        energy_source=task.energy_source[:_MAX_SOURCE] or None,
        plan_id=task.plan_id or None,
        queue_length=task.queue_length if task.HasField("queue_length") else queue_length,
        edge_id=_name(task.edge_id, "edge_id") if task.edge_id else None,
        sent_on=task.sent_on,
        thumbnail_jpeg=_thumbnail(task.thumbnail_jpeg),
    )


def _confidences(values: Sequence[float]) -> tuple[float | None, ...]:
    if len(values) > _MAX_TIMES:
        raise BadMessageError(f"exit_confidence: has {len(values)} values, at most {_MAX_TIMES} are allowed")
    return tuple(c if 0.0 <= c <= 1.0 else None for c in values)


def _label(text: str) -> str | None:
    if len(text) > MOST_CLASS_NAME:
        raise BadMessageError(f"label: has {len(text)} characters, at most {MOST_CLASS_NAME} are allowed")
    return text or None


def _thumbnail(data: bytes) -> bytes | None:
    if len(data) > THUMBNAIL_BYTES:
        raise BadMessageError(f"thumbnail_jpeg: has {len(data)} bytes, at most {THUMBNAIL_BYTES} are allowed")
    if data and not data.startswith(_JPEG_START):
        raise BadMessageError("thumbnail_jpeg: is no JPEG picture")
    return data or None


def _start(start: twin_pb2.StartReport, sent_at_s: float) -> messages.StartReport:
    return messages.StartReport(
        task_id=start.task_id,
        started_at_s=sent_at_s - seconds_from_wire(start.started_age_s, "started_age_s"),
        queue_length=start.queue_length,
        first_epoch=start.first_epoch,
    )


def _started(
    report: twin_pb2.TaskReport | twin_pb2.DeviceHeartbeat | twin_pb2.LiveReport, sent_at_s: float
) -> messages.StartReport | None:
    return _start(report.started, sent_at_s) if report.HasField("started") else None


def _state(state: twin_pb2.DeviceState) -> messages.DeviceState:
    return messages.DeviceState(
        goodput_bytes_per_s=_known(state.goodput_bytes_per_s, "goodput_bytes_per_s"),
        round_trip_s=_known(state.round_trip_s, "round_trip_s"),
        segment_s=_all_seconds(state.segment_s, "segment_s"),
        exit_s=_all_seconds(state.exit_s, "exit_s"),
        is_edge_reachable=state.is_edge_reachable,
        is_degraded=state.is_degraded,
        entered=state.entered,
        lost=state.lost,
        cpu_share=_optional(state, "cpu_share"),
        memory_share=_optional(state, "memory_share"),
        temperature_celsius=_temperature(state),
        is_throttled=state.is_throttled if state.HasField("is_throttled") else None,
        speed_share=_speed_share(state),
        links=_links(state.links),
    )


def _links(links: Sequence[twin_pb2.EdgeLink]) -> tuple[EdgeLink, ...]:
    if len(links) > MOST_LISTED:
        raise BadMessageError(f"links: has {len(links)} edges, a list has at most {MOST_LISTED}")
    return tuple(link_from_wire(link) for link in links)


def _temperature(state: twin_pb2.DeviceState) -> float | None:
    # A device out in the cold is below zero.
    value = state.temperature_celsius
    if not -273.15 <= value <= LARGEST_NUMBER:
        raise BadMessageError(f"temperature_celsius: {value} is impossible; leave it out where it is unknown")
    return value if state.HasField("temperature_celsius") else None


def _speed_share(message: twin_pb2.DeviceHello | twin_pb2.DeviceState) -> float | None:
    share = _optional(message, "speed_share")
    if share == 0.0:
        raise BadMessageError("speed_share: 0 is impossible, a device that stands still says nothing; leave it out")
    return share


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        raise BadMessageError(f"reason: {text[:63]!r} is unknown to this version") from None


def _arrivals(log: twin_pb2.ArrivalLog, sent_at_s: float) -> tuple[messages.ArrivedTail, ...]:
    count = len(log.age_s)
    if count > _MAX_TIMES or not count == len(log.work_s) == len(log.device) == len(log.task_id):
        raise BadMessageError(f"arrivals: has columns that differ, or more than {_MAX_TIMES} rows")
    device_ids = ["", *(_name(text, "arrivals.device_ids") for text in log.device_ids)]
    if any(position >= len(device_ids) for position in log.device):
        raise BadMessageError(f"arrivals.device: a position is beyond the {len(device_ids) - 1} names given")
    return tuple(
        messages.ArrivedTail(
            sent_at_s - seconds_from_wire(age_s, "arrivals.age_s"),
            seconds_from_wire(work_s, "arrivals.work_s"),
            device_ids[position],
            task_id if position else 0,
        )
        for age_s, work_s, position, task_id in zip(log.age_s, log.work_s, log.device, log.task_id, strict=True)
    )


def _name(text: str, field: str) -> str:
    if not _NAME.fullmatch(text):
        raise BadMessageError(f"{field}: {text[:63]!r} is no name; use 1 to 63 letters, digits, '.', '_' or '-'")
    return text


def _address(text: str, field: str) -> str:
    try:
        return str(Address.parse(text))
    except SettingsError:
        raise BadMessageError(f"{field}: {text[:63]!r} is not HOST:PORT") from None


def _all_seconds(values: Sequence[float], field: str) -> tuple[float, ...]:
    if not values:
        return ()
    if len(values) > _MAX_TIMES:
        raise BadMessageError(f"{field}: has {len(values)} times, at most {_MAX_TIMES} are allowed")
    return tuple(seconds_from_wire(value, field) for value in values)


def _known(value: float, field: str) -> float | None:
    """A measured number; 0 on the wire: unknown."""
    return _finite(value, field) or None


def _optional(message: Message, field: str) -> float | None:
    return _finite(getattr(message, field), field) if message.HasField(field) else None


def _watts(hello: twin_pb2.DeviceHello, field: str) -> float | None:
    watts = _optional(hello, field)
    if watts is not None and watts > LARGEST_WEIGHT:
        raise BadMessageError(f"{field}: {watts} is impossible; 0 to {LARGEST_WEIGHT:g} watts are needed")
    return watts


def _finite(value: float, field: str) -> float:
    if not 0.0 <= value <= LARGEST_NUMBER:
        raise BadMessageError(f"{field}: {value} is impossible; a number from 0 to {LARGEST_NUMBER:g} is needed")
    return value
