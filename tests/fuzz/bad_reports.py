"""Bad messages of devices and edges to the twin; the model is that of :mod:`tests.unit.twin_service.made_up_twins`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from tests.fuzz.mutations import Bad, Tolerated, impossible_numbers, unreadable
from tests.unit.twin_service.made_up_twins import DIGEST, EDGE_ADDRESS, EXIT_S, MANIFEST_BYTES, SEGMENT_S
from twinsplit.errors import ErrorCode
from twinsplit.rpc.v1 import edge_pb2, errors_pb2, twin_pb2

BAD_MESSAGE, WRONG_DIGEST = ErrorCode.BAD_MESSAGE, ErrorCode.WRONG_DIGEST
TOLERATED: Tolerated = {
    "ClockEcho.sent_s": "readings that cannot be are left out of the offset",
    "ClockEcho.echo_sent_s": "the same",
    "ClockEcho.echo_received_s": "the same",
    "EndedTask.exit_confidence": "what is no probability says: not run",
    "EndedTask.confidence": "what is no probability says: unknown",
    "DeviceState.temperature_celsius": "below 0 is cold; nan is tried below",
}
CLOCK = twin_pb2.ClockEcho(sent_s=5.0, echo_sent_s=4.0, echo_received_s=4.5)
MANY = 5000


def device_hello() -> twin_pb2.DeviceHello:
    """With every field."""
    return twin_pb2.DeviceHello(
        device_id="cam",
        model_digest=bytes.fromhex(DIGEST),
        segment_s=SEGMENT_S,
        exit_s=EXIT_S,
        encode_s=[twin_pb2.EncodeTime(cut=1, encode_s=0.001)],
        fixed_edge_address=EDGE_ADDRESS,
        goodput_bytes_per_s=1e6,
        round_trip_s=0.002,
        compute_watts=3.0,
        transmit_watts=1.0,
        version="1.0.0",
        report_threshold_s=0.01,
        speed_share=1.0,
    )


def edge_hello() -> twin_pb2.EdgeHello:
    """With every field."""
    return twin_pb2.EdgeHello(
        edge_id="edge",
        advertise_address=EDGE_ADDRESS,
        models=[twin_pb2.EdgeModel(model_digest=bytes.fromhex(DIGEST), tail_s=[0.03, 0.02, 0.01])],
        version="1.0.0",
        report_threshold_s=0.01,
        backlog=backlog_report(),
        other_addresses=["10.0.0.5:7100"],
    )


def backlog_report(**changes: Any) -> twin_pb2.BacklogReport:
    """With every field."""
    backlog = edge_pb2.Backlog(backlog_s=0.1, age_s=0.01, mean_s=0.02, time_constant_s=1.0)
    arrivals = twin_pb2.ArrivalLog(age_s=[0.1], work_s=[0.02], device=[1], task_id=[1], device_ids=["cam"])
    given: dict[str, Any] = {"backlog": backlog, "arrived_work_s": [0.1, 0.1, 0.1], "speed_factor": 1.0}
    return twin_pb2.BacklogReport(**given | {"busy_share": 0.5, "queue_length": 2, "arrivals": arrivals} | changes)


def state(**changes: Any) -> twin_pb2.DeviceState:
    """With every field."""
    link = twin_pb2.EdgeLink(edge_id="edge", goodput_bytes_per_s=1e6, round_trip_s=0.002, is_reachable=True)
    given: dict[str, Any] = {"goodput_bytes_per_s": 1e6, "round_trip_s": 0.002, "segment_s": SEGMENT_S}
    health = {"cpu_share": 0.5, "memory_share": 0.5, "temperature_celsius": 50.0, "speed_share": 1.0}
    return twin_pb2.DeviceState(**given | {"exit_s": EXIT_S, "links": [link]} | health | changes)


def ended(**changes: Any) -> twin_pb2.EndedTask:
    """A task that the edge has answered, with every field."""
    given: dict[str, Any] = {
        "task_id": 7, "outcome": twin_pb2.OUTCOME_EDGE, "reason": "offload-pays", "arrived_age_s": 0.5,
        "started_age_s": 0.4, "ended_age_s": 0.1, "epoch_s": [0.1], "stop_epoch": 1, "evidence": 1, "exit_index": 0,
        "payload": twin_pb2.PAYLOAD_TENSOR, "wire_bytes": 1000, "encode_s": 0.001, "upload_s": 0.01,
        "edge_queue_s": 0.01, "edge_service_s": 0.01, "energy_joules": 0.5, "exit_confidence": [0.7],
        "exit_agrees": True, "plan_id": 1, "label": "boot", "confidence": 0.9, "thumbnail_jpeg": b"\xff\xd8\xff",
        "energy_source": "model", "queue_length": 1, "edge_id": "edge",
    }  # fmt: skip
    return twin_pb2.EndedTask(**given | changes)


def start(**changes: Any) -> twin_pb2.StartReport:
    """A task starts."""
    return twin_pb2.StartReport(**{"task_id": 8, "started_age_s": 0.05, "queue_length": 1, "first_epoch": 1} | changes)


def device_says(**kind: Message) -> twin_pb2.AttachDeviceRequest:
    """One message of a device."""
    return twin_pb2.AttachDeviceRequest(clock=CLOCK, **kind)


def edge_says(**kind: Message) -> twin_pb2.AttachEdgeRequest:
    """One message of an edge."""
    return twin_pb2.AttachEdgeRequest(clock=CLOCK, **kind)


DEVICE_REPORTS: dict[str, Message] = {
    "task": twin_pb2.TaskReport(ended=[ended()], started=start(), queue_length=1, state=state()),
    "start": start(),
    "progress": twin_pb2.ProgressReport(task_id=8, epoch=1, reached_age_s=0.01, queue_length=1),
    "heartbeat": twin_pb2.DeviceHeartbeat(queue_length=1, started=start(), state=state()),
    "poll": twin_pb2.PollRequest(task_id=9, epoch=1, evidence=1, queue_length=1, age_s=0.1, uplink_busy_s=0.1),
    "live": twin_pb2.LiveReport(read_id=1, started=start(), epoch=1, reached_age_s=0.01, state=state()),
    "manifest": twin_pb2.ManifestUpload(manifest_json=MANIFEST_BYTES),
    "error": errors_pb2.Error(code=errors_pb2.ERROR_CODE_BAD_MESSAGE, text="no such plan"),
}
EDGE_REPORTS: dict[str, Message] = {
    "backlog": backlog_report(),
    "heartbeat": twin_pb2.EdgeHeartbeat(backlog=backlog_report()),
}


def bad_device_hellos() -> Iterator[Bad]:
    """First messages of a device that it is refused by."""
    yield from _mutated("hello", device_says(hello=device_hello()))
    yield from _changed("hello", lambda m: device_says(hello=m), device_hello, _DEVICE_HELLOS)
    for kind, message in DEVICE_REPORTS.items():
        yield Bad(f"{kind} before hello", device_says(**{kind: message}).SerializeToString(), BAD_MESSAGE)


def bad_device_reports() -> Iterator[Bad]:
    """Later messages of a device that is attached."""
    for kind, message in DEVICE_REPORTS.items():
        yield from _mutated(kind, device_says(**{kind: message}))
    yield from _changed("ended", lambda m: device_says(task=_task(m)), ended, _ENDED)
    yield from _changed("state", lambda m: device_says(heartbeat=_heartbeat(m)), state, _STATES)
    yield from _changed("start", lambda m: device_says(start=m), start, {"an epoch beyond": {"first_epoch": 4}})
    yield Bad("nothing", b"", BAD_MESSAGE)
    yield Bad("a second hello", device_says(hello=device_hello()).SerializeToString(), BAD_MESSAGE)
    yield Bad("an empty task report", device_says(task=twin_pb2.TaskReport()).SerializeToString(), BAD_MESSAGE)
    for name, kind in _OTHER_REPORTS.items():
        yield Bad(name, device_says(**kind).SerializeToString(), BAD_MESSAGE)
    for name, data in _manifests().items():
        upload = twin_pb2.ManifestUpload(manifest_json=data)
        yield Bad(f"manifest: {name}", device_says(manifest=upload).SerializeToString(), WRONG_DIGEST)


def bad_edge_hellos() -> Iterator[Bad]:
    """First messages of an edge that it is refused by."""
    yield from _mutated("edge hello", edge_says(hello=edge_hello()))
    yield from _changed("edge hello", lambda m: edge_says(hello=m), edge_hello, _EDGE_HELLOS)
    for kind, message in EDGE_REPORTS.items():
        yield Bad(f"{kind} of an edge before hello", edge_says(**{kind: message}).SerializeToString(), BAD_MESSAGE)


def bad_edge_reports() -> Iterator[Bad]:
    """Later messages of an edge that is attached."""
    for kind, message in EDGE_REPORTS.items():
        yield from _mutated(f"edge's {kind}", edge_says(**{kind: message}))
    yield from _changed("edge's backlog", lambda m: edge_says(backlog=m), backlog_report, _BACKLOGS)
    yield Bad("an edge's second hello", edge_says(hello=edge_hello()).SerializeToString(), BAD_MESSAGE)
    yield Bad("nothing of an edge", b"", BAD_MESSAGE)


def _mutated(name: str, message: Message) -> Iterator[Bad]:
    yield from unreadable(name, message)
    yield from impossible_numbers(name, message, TOLERATED)


def _changed(
    name: str, wrap: Callable[[Any], Message], make: Callable[[], Message], changes: dict[str, dict[str, Any]]
) -> Iterator[Bad]:
    for what, fields in changes.items():
        message = make()
        for field in fields:
            message.ClearField(field)
        message.MergeFrom(type(message)(**fields))
        yield Bad(f"{name}: {what}", wrap(message).SerializeToString(), BAD_MESSAGE)


def _task(task: twin_pb2.EndedTask) -> twin_pb2.TaskReport:
    return twin_pb2.TaskReport(ended=[ended(), task], state=state())


def _heartbeat(changed: twin_pb2.DeviceState) -> twin_pb2.DeviceHeartbeat:
    return twin_pb2.DeviceHeartbeat(state=changed)


_DEVICE_HELLOS: dict[str, dict[str, Any]] = {
    "no name": {"device_id": ""},
    "a name with a blank": {"device_id": "a name"},
    "a name that goes up": {"device_id": "..\\..\\etc"},
    "a name with a line break": {"device_id": "cam\nroot"},
    "a name of 64": {"device_id": "x" * 64},
    "a name that is markup": {"device_id": "<b>cam"},
    "no digest": {"model_digest": b""},
    "a short digest": {"model_digest": bytes(31)},
    "too many segments": {"segment_s": [0.1] * 4},
    "a segment too few": {"segment_s": [0.1] * 2},
    "too many times": {"segment_s": [0.1] * MANY},
    "too many exits": {"exit_s": [0.1] * 2},
    "an edge without port": {"fixed_edge_address": "edge"},
    "an attachment that none could follow": {"attachment_epoch": (1 << 64) - 1},
    "an edge with too high a port": {"fixed_edge_address": "edge:99999"},
    "too many encoding times": {"encode_s": [twin_pb2.EncodeTime(cut=1)] * 9 * MANY},
    "an edge with a long host": {"fixed_edge_address": "e" * 256 + ":7100"},
    "a processor that stands still": {"speed_share": 0.0},
}
_ENDED: dict[str, dict[str, Any]] = {
    "no outcome": {"outcome": 0},
    "an unknown outcome": {"outcome": 99},
    "no reason": {"reason": ""},
    "an unknown reason": {"reason": "because"},
    "an unknown payload": {"payload": 9},
    "an epoch beyond": {"stop_epoch": 4},
    "more epochs than there are": {"epoch_s": [0.1, 0.2, 0.3, 0.4]},
    "epochs that go back": {"epoch_s": [0.2, 0.1]},
    "too many epochs": {"epoch_s": [0.1] * MANY},
    "evidence beyond": {"evidence": 3},
    "an exit beyond": {"exit_index": 1},
    "more confidences than there are exits": {"exit_confidence": [0.7, 0.7]},
    "too many confidences": {"exit_confidence": [0.7] * MANY},
    "a label too long": {"label": "x" * 256},
    "a thumbnail too large": {"thumbnail_jpeg": b"\xff\xd8\xff" + bytes(5000)},
    "a thumbnail that is none": {"thumbnail_jpeg": b"<svg>"},
    "an edge that is no name": {"edge_id": "an edge"},
}
_STATES: dict[str, dict[str, Any]] = {
    "another number of segments": {"segment_s": [0.1]},
    "another number of exits": {"exit_s": [0.1, 0.1]},
    "colder than cold": {"temperature_celsius": -300.0},
    "no temperature": {"temperature_celsius": float("nan")},
    "a speed of 0": {"speed_share": 0.0},
    "too many edges": {"links": [twin_pb2.EdgeLink(edge_id=f"e{n}") for n in range(5)]},
    "an edge without name": {"links": [twin_pb2.EdgeLink()]},
    "an edge with a long name": {"links": [twin_pb2.EdgeLink(edge_id="e" * 64)]},
}
_OTHER_REPORTS: dict[str, dict[str, Message]] = {
    "progress: an epoch beyond": {"progress": twin_pb2.ProgressReport(task_id=1, epoch=4)},
    "live: an epoch beyond": {"live": twin_pb2.LiveReport(epoch=99)},
    "poll: an epoch beyond": {"poll": twin_pb2.PollRequest(task_id=1, epoch=4)},
    "poll: evidence beyond": {"poll": twin_pb2.PollRequest(task_id=1, evidence=3)},
    "poll: an epoch far off": {"poll": twin_pb2.PollRequest(task_id=1, epoch=(1 << 32) - 1)},
}
_EDGE_HELLOS: dict[str, dict[str, Any]] = {
    "no name": {"edge_id": ""},
    "a name with a blank": {"edge_id": "an edge"},
    "a name of 64": {"edge_id": "x" * 64},
    "no address": {"advertise_address": ""},
    "an address without port": {"advertise_address": "edge"},
    "an address with a path": {"advertise_address": "edge:7100:x"},
    "too high a port": {"advertise_address": "edge:65536"},
    "a port without end": {"advertise_address": "edge:" + "9" * 5000},
    "a short digest": {"models": [twin_pb2.EdgeModel(model_digest=bytes(31), tail_s=[0.1])]},
    "too many times": {"models": [twin_pb2.EdgeModel(model_digest=bytes(32), tail_s=[0.1] * MANY)]},
    "too many models": {"models": [twin_pb2.EdgeModel(model_digest=bytes(32), tail_s=[0.1])] * 257},
    "an address with a long host": {"advertise_address": "e" * 256 + ":7100"},
    "an address with an empty label": {"advertise_address": "a..b:7100"},
    "an address with a long label": {"other_addresses": ["e" * 64 + ".lan:7100"]},
    "an address that a terminal obeys": {"advertise_address": "a\x1b[31m:7100"},
    "too many addresses": {"other_addresses": [f"edge:{port}" for port in range(1, 10)]},
    "another address that is none": {"other_addresses": ["nowhere"]},
}
_BACKLOGS: dict[str, dict[str, Any]] = {
    "nothing": {"backlog": edge_pb2.Backlog()},
    "no time constant": {"backlog": edge_pb2.Backlog(backlog_s=1.0)},
    "too much arrived": {"arrived_work_s": [0.1] * MANY},
    "arrivals of unequal length": {"arrivals": twin_pb2.ArrivalLog(age_s=[0.1, 0.2], work_s=[0.1])},
    "an arrival of nobody": {
        "arrivals": twin_pb2.ArrivalLog(age_s=[0.1], work_s=[0.1], device=[2], task_id=[1], device_ids=["cam"])
    },
    "an arrival of no name": {
        "arrivals": twin_pb2.ArrivalLog(age_s=[0.1], work_s=[0.1], device=[1], task_id=[1], device_ids=["a cam"])
    },
}


def _manifests() -> dict[str, bytes]:
    manifest = json.loads(MANIFEST_BYTES)
    return {
        "empty": b"",
        "another one": json.dumps(manifest | {"name": "other"}).encode(),
        "with a byte more": MANIFEST_BYTES + b" ",
        "cut short": MANIFEST_BYTES[:-1],
    }


def bad_manifests() -> dict[str, bytes]:
    """Manifests that a hello announces rightly and that are none."""
    manifest = json.loads(MANIFEST_BYTES)
    (exit_0,) = manifest["exits"]
    return {
        "empty": b"",
        "no JSON": b"{",
        "not UTF-8": b'{"name": "\xff"}',
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "a number without end": b'{"schema_version": ' + b"9" * 5000 + b"}",
        "of another schema": json.dumps(manifest | {"schema_version": 99}).encode(),
        "an unknown key": json.dumps(manifest | {"extra": 1}).encode(),
        "no segments": json.dumps(manifest | {"segments": []}).encode(),
        "segments out of order": json.dumps(manifest | {"segments": manifest["segments"][::-1]}).encode(),
        "a cut too few": json.dumps(manifest | {"cuts": manifest["cuts"][:-1]}).encode(),
        "more segments held than there are": json.dumps(manifest | {"device_segments": 4}).encode(),
        "a file elsewhere": MANIFEST_BYTES.replace(b"s0.onnx", b"../s0.onnx"),
        "a probability of 2": json.dumps(manifest | {"whole_accuracy": 2}).encode(),
        "a probability of nan": json.dumps(manifest | {"whole_accuracy": float("nan")}).encode(),
        "an exit without bins": json.dumps(manifest | {"exits": [exit_0 | {"p_right": []}]}).encode(),
        "a prior that is none": json.dumps(manifest | {"exits": [exit_0 | {"prior": [0.6, 0.6]}]}).encode(),
        "an exit beyond": json.dumps(manifest | {"exits": [exit_0 | {"after_segment": 3}]}).encode(),
    }
