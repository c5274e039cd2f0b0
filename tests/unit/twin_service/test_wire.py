import math

import pytest
from google.protobuf.message import Message

from tests.unit.twin_service.made_up_twins import DIGEST, EDGE_ADDRESS, EXIT_S, SEGMENT_S
from twin_service import messages, wire, wire_views
from twin_service.fields import FieldView, Source
from twin_service.views import DeviceView, EdgeView
from twinsplit.edge_list import ListedEdge
from twinsplit.errors import BadMessageError, StaleWriteError
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2, errors_pb2, twin_pb2
from twinsplit.transport.clock_offset import ClockReadings
from twinsplit.types import Decision, Outcome, Payload, Reason

SENT_S = 100.0


def hello(**changes: object) -> twin_pb2.DeviceHello:
    message = twin_pb2.DeviceHello(
        device_id="cam-1", model_digest=bytes.fromhex(DIGEST), segment_s=SEGMENT_S, exit_s=EXIT_S
    )
    message.MergeFrom(twin_pb2.DeviceHello(**changes))
    return message


def test_a_hello_says_unknown_where_nothing_was_measured() -> None:
    found = wire.device_hello_from_wire(hello())
    assert found.device_id == "cam-1"
    assert found.model_digest == DIGEST
    assert (found.goodput_bytes_per_s, found.round_trip_s, found.compute_watts) == (None, None, None)
    assert found.fixed_edge_address is None


def test_a_hello_says_what_was_measured() -> None:
    found = wire.device_hello_from_wire(
        hello(
            encode_s=[twin_pb2.EncodeTime(cut=1, representation_index=2, encode_s=0.004)],
            goodput_bytes_per_s=1e6,
            compute_watts=0.0,
            fixed_edge_address=EDGE_ADDRESS,
            is_polled=True,
            last_plan_id=7,
        )
    )
    assert found.encode_s == {(1, 2): 0.004}
    assert (found.goodput_bytes_per_s, found.compute_watts) == (1e6, 0.0)
    assert (found.fixed_edge_address, found.is_polled, found.last_plan_id) == (EDGE_ADDRESS, True, 7)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"device_id": "a name"}, "device_id"),
        ({"device_id": "x" * 64}, "device_id"),
        ({"model_digest": b"\x01" * 31}, "model_digest"),
        ({"segment_s": [math.nan]}, "segment_s"),
        ({"exit_s": [-1.0]}, "exit_s"),
        ({"segment_s": [0.1] * 5000}, "segment_s"),
        ({"goodput_bytes_per_s": math.inf}, "goodput_bytes_per_s"),
        ({"compute_watts": -3.0}, "compute_watts"),
        ({"fixed_edge_address": "nowhere"}, "fixed_edge_address"),
        ({"report_threshold_s": -1.0}, "report_threshold_s"),
    ],
)
def test_an_impossible_hello_is_refused_by_the_name_of_its_field(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadMessageError, match=named):
        wire.device_hello_from_wire(hello(**changes))


def ended(**changes: object) -> twin_pb2.EndedTask:
    values: dict[str, object] = {
        "task_id": 3,
        "outcome": twin_pb2.OUTCOME_EDGE,
        "reason": "offload-pays",
        "arrived_age_s": 1.0,
        "started_age_s": 0.8,
        "ended_age_s": 0.1,
        "epoch_s": [0.1, 0.2],
        "stop_epoch": 2,
        "evidence": 1,
        "payload": twin_pb2.PAYLOAD_TENSOR,
        "representation_index": 1,
        "encode_s": 0.01,
        "upload_s": 0.2,
        "edge_queue_s": 0.1,
        "edge_service_s": 0.05,
        "exit_confidence": [0.4, -1.0],
        "exit_agrees": True,
        "confidence": 0.9,
        "plan_id": 5,
    }
    return twin_pb2.EndedTask(**{**values, **changes})


def task_event(*tasks: twin_pb2.EndedTask, **changes: object) -> messages.TaskReport:
    report = twin_pb2.TaskReport(ended=tasks, queue_length=2, **changes)
    event = wire.device_event_from_wire(twin_pb2.AttachDeviceRequest(task=report), SENT_S)
    assert isinstance(event, messages.TaskReport)
    return event


def test_ages_become_instants_counted_back_from_the_sending() -> None:
    event = task_event(ended(), started=twin_pb2.StartReport(task_id=4, started_age_s=0.05))
    (task,) = event.ended
    assert task.arrived_at_s == 99.0
    assert task.started_at_s == 99.2
    assert task.ended_at_s == 99.9
    assert task.epoch_times_s == pytest.approx((99.2, 99.3, 99.4))
    assert event.started == messages.StartReport(4, 99.95)


def test_a_task_keeps_its_outcome_payload_and_stages() -> None:
    (task,) = task_event(ended()).ended
    assert (task.outcome, task.reason, task.payload) == (Outcome.EDGE, Reason.OFFLOAD_PAYS, Payload.TENSOR)
    assert (task.stages.encode, task.stages.upload, task.stages.edge_queue) == (0.01, 0.2, 0.1)
    assert task.exit_confidences == (pytest.approx(0.4), None)
    assert task.exit_agrees is True
    assert (task.representation_index, task.plan_id, task.queue_length) == (1, 5, 2)


def test_a_task_tells_what_waited_when_it_left_the_device() -> None:
    known, unknown = task_event(ended(queue_length=5), ended(task_id=4)).ended
    assert (known.queue_length, unknown.queue_length) == (5, 2)


def test_a_thumbnail_is_a_small_jpeg_or_refused() -> None:
    jpeg = b"\xff\xd8\xff" + bytes(4093)
    with_one, without = task_event(ended(thumbnail_jpeg=jpeg), ended()).ended
    assert (with_one.thumbnail_jpeg, without.thumbnail_jpeg) == (jpeg, None)
    for bad in (jpeg + b"\0", b"GIF89a"):
        with pytest.raises(BadMessageError, match="thumbnail_jpeg"):
            task_event(ended(thumbnail_jpeg=bad))


def test_a_task_that_sent_nothing_has_no_stages_of_sending() -> None:
    dropped = twin_pb2.EndedTask(task_id=1, outcome=twin_pb2.OUTCOME_DROPPED, reason="queue-full", confidence=-1.0)
    (task,) = task_event(dropped).ended
    assert task.started_at_s is None
    assert task.epoch_times_s == ()
    assert (task.stages.encode, task.stages.upload, task.payload, task.representation_index) == (None,) * 4
    assert (task.confidence, task.energy_joules, task.plan_id, task.stop_epoch) == (None,) * 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"outcome": 0}, "outcome"),
        ({"outcome": 99}, "outcome"),
        ({"reason": "because"}, "reason"),
        ({"payload": 99}, "payload"),
        ({"arrived_age_s": -1.0}, "arrived_age_s"),
        ({"started_age_s": math.nan}, "started_age_s"),
        ({"ended_age_s": math.inf}, "ended_age_s"),
        ({"epoch_s": [0.2, 0.1]}, "epoch_s"),
        ({"energy_joules": -0.1}, "energy_joules"),
        ({"upload_s": -0.1}, "upload_s"),
    ],
)
def test_an_impossible_task_is_refused_by_the_name_of_its_field(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadMessageError, match=named):
        task_event(ended(**changes))


def test_a_report_without_an_ended_task_is_refused() -> None:
    with pytest.raises(BadMessageError, match="ended"):
        task_event()


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({"start": twin_pb2.StartReport(task_id=1, started_age_s=0.5)}, messages.StartReport(1, 99.5)),
        ({"progress": twin_pb2.ProgressReport(task_id=1, epoch=2)}, messages.ProgressReport(1, 2, 100.0)),
        (
            {"heartbeat": twin_pb2.DeviceHeartbeat()},
            messages.DeviceHeartbeat(state=messages.DeviceState(is_edge_reachable=False)),
        ),
        ({"poll": twin_pb2.PollRequest(task_id=1, epoch=2, evidence=3)}, messages.PollRequest(1, 2, 3, 0)),
        ({"manifest": twin_pb2.ManifestUpload(manifest_json=b"{}")}, messages.ManifestUpload(b"{}")),
    ],
)
def test_every_other_event_is_converted(request_fields: dict[str, Message], expected: object) -> None:
    assert wire.device_event_from_wire(twin_pb2.AttachDeviceRequest(**request_fields), SENT_S) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"speed_share": 0.0},
        {"speed_share": -0.5},
        {"speed_share": math.nan},
        {"cpu_share": -0.1},
        {"memory_share": math.inf},
        {"temperature_celsius": -300.0},
        {"temperature_celsius": math.nan},
    ],
)
def test_an_impossible_machine_is_refused_by_the_name_of_its_field(changes: dict[str, float]) -> None:
    heartbeat = twin_pb2.DeviceHeartbeat(state=twin_pb2.DeviceState(**changes))
    with pytest.raises(BadMessageError, match=next(iter(changes))):
        wire.device_event_from_wire(twin_pb2.AttachDeviceRequest(heartbeat=heartbeat), SENT_S)


def test_every_kind_of_device_message_is_known_or_is_a_hello() -> None:
    kinds = [field.name for field in twin_pb2.AttachDeviceRequest.DESCRIPTOR.oneofs_by_name["kind"].fields]
    for kind in kinds:
        request = twin_pb2.AttachDeviceRequest()
        getattr(request, kind).SetInParent()
        if kind == "hello":
            with pytest.raises(BadMessageError, match="after its hello"):
                wire.device_event_from_wire(request, SENT_S)
        elif kind != "task":
            assert wire.device_event_from_wire(request, SENT_S) is not None
    with pytest.raises(BadMessageError, match="nothing"):
        wire.device_event_from_wire(twin_pb2.AttachDeviceRequest(), SENT_S)


SENT = [
    (messages.Welcome(True), "welcome"),
    (messages.BacklogUpdate(BacklogState(0.4, 99.0, 0.1, 2.0)), "backlog"),
    (messages.LeaseRenewal(), "renewal"),
    (messages.EdgeList((ListedEdge("hall-2", EDGE_ADDRESS, (0.1,), BacklogState(0.4, 99.0)),)), "edges"),
    (messages.PollResponse(1, 2, Decision.EXIT), "poll"),
    (messages.LiveRequest(9), "live"),
    (messages.Refusal(StaleWriteError("moved on")), "error"),
]


@pytest.mark.parametrize(("message", "kind"), SENT)
def test_every_message_to_a_device_has_its_kind_its_clock_and_the_lease(
    message: messages.DeviceMessage, kind: str
) -> None:
    response = wire.device_response(message, ClockReadings(100.0, 7.0, 99.5), lease_s=10.0, heartbeat_s=5.0)
    assert response.WhichOneof("kind") == kind
    assert (response.clock.sent_s, response.clock.echo_sent_s, response.clock.echo_received_s) == (100.0, 7.0, 99.5)
    assert response.lease_s == 10.0


def test_every_kind_of_message_to_a_device_is_made() -> None:
    kinds = {field.name for field in twin_pb2.AttachDeviceResponse.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert kinds == {kind for _, kind in SENT} | {"plan"}


def test_a_backlog_travels_with_its_age() -> None:
    update = messages.BacklogUpdate(BacklogState(0.4, 99.0, 0.1, 2.0))
    response = wire.device_response(update, ClockReadings(100.0), lease_s=10.0, heartbeat_s=5.0)
    assert (response.backlog.backlog.backlog_s, response.backlog.backlog.age_s) == (0.4, 1.0)


def test_every_kind_of_message_to_an_edge_is_made() -> None:
    sent = [messages.Welcome(), messages.BacklogInterest(0.5), messages.Refusal(KeyError("secret"))]
    responses = [wire.edge_response(message, ClockReadings(100.0), heartbeat_s=5.0) for message in sent]
    kinds = {field.name for field in twin_pb2.AttachEdgeResponse.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert {response.WhichOneof("kind") for response in responses} == kinds
    assert responses[1].interest.ceiling_s == 0.5


def test_only_the_public_text_of_an_error_crosses() -> None:
    refusal = messages.Refusal(KeyError("secret"))
    response = wire.edge_response(refusal, ClockReadings(100.0), heartbeat_s=5.0)
    assert response.error.code == errors_pb2.ERROR_CODE_INTERNAL
    assert "secret" not in response.error.text


def backlog_report(**changes: object) -> twin_pb2.BacklogReport:
    backlog = edge_pb2.Backlog(backlog_s=0.4, age_s=0.5, mean_s=0.1, time_constant_s=2.0)
    values = {"backlog": backlog, "arrived_work_s": [0.1, 0.2, 0.3], "speed_factor": 1.5, "busy_share": 0.5}
    return twin_pb2.BacklogReport(**{**values, **changes})


def arrival_log(**changes: object) -> twin_pb2.ArrivalLog:
    columns = {"age_s": [0.5, 0.25], "work_s": [0.5, 0.125], "device": [0, 1], "task_id": [0, 7], "device_ids": ["cam"]}
    return twin_pb2.ArrivalLog(**{**columns, **changes})


def test_an_edge_tells_what_arrived() -> None:
    request = twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log()))
    report = wire.edge_report_from_wire(request, SENT_S)
    assert report.is_logging
    assert report.arrivals == (
        messages.ArrivedTail(SENT_S - 0.5, 0.5),
        messages.ArrivedTail(SENT_S - 0.25, 0.125, "cam", 7),
    )
    silent = wire.edge_report_from_wire(twin_pb2.AttachEdgeRequest(backlog=backlog_report()), SENT_S)
    assert not silent.is_logging


def test_an_edge_says_hello_and_reports() -> None:
    hello = twin_pb2.EdgeHello(
        edge_id="e",
        advertise_address=EDGE_ADDRESS,
        models=[twin_pb2.EdgeModel(model_digest=bytes.fromhex(DIGEST), tail_s=[0.1])],
        backlog=backlog_report(),
    )
    found = wire.edge_hello_from_wire(hello, SENT_S)
    assert found.models == {DIGEST: (0.1,)}
    assert found.backlog is not None
    assert found.backlog.backlog == BacklogState(0.4, 99.5, 0.1, 2.0)
    for request in (
        twin_pb2.AttachEdgeRequest(backlog=backlog_report()),
        twin_pb2.AttachEdgeRequest(heartbeat=twin_pb2.EdgeHeartbeat(backlog=backlog_report())),
    ):
        assert wire.edge_report_from_wire(request, SENT_S) == found.backlog


@pytest.mark.parametrize(
    ("request_message", "named"),
    [
        (twin_pb2.AttachEdgeRequest(), "nothing"),
        (twin_pb2.AttachEdgeRequest(heartbeat=twin_pb2.EdgeHeartbeat()), "time_constant_s"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(speed_factor=-1.0)), "speed_factor"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrived_work_s=[math.nan])), "arrived_work_s"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log(work_s=[0.1]))), "columns"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log(device=[0, 2]))), "position"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log(age_s=[0.1, -1.0]))), "age_s"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log(work_s=[0.1, math.inf]))), "work_s"),
        (twin_pb2.AttachEdgeRequest(backlog=backlog_report(arrivals=arrival_log(device_ids=["?!"]))), "device_ids"),
    ],
)
def test_an_impossible_report_of_an_edge_is_refused(request_message: twin_pb2.AttachEdgeRequest, named: str) -> None:
    with pytest.raises(BadMessageError, match=named):
        wire.edge_report_from_wire(request_message, SENT_S)


def test_an_edge_needs_an_address_that_devices_can_dial() -> None:
    with pytest.raises(BadMessageError, match="advertise_address"):
        wire.edge_hello_from_wire(twin_pb2.EdgeHello(edge_id="e"), SENT_S)


def test_an_edge_may_have_a_few_other_addresses() -> None:
    def found(*others: str) -> messages.EdgeHello:
        hello = twin_pb2.EdgeHello(edge_id="e", advertise_address=EDGE_ADDRESS, other_addresses=others)
        return wire.edge_hello_from_wire(hello, SENT_S)

    assert found("edge:7100").other_addresses == ("edge:7100",)
    for others in (["nowhere"], ["edge:7100"] * 9):
        with pytest.raises(BadMessageError, match="other_addresses"):
            found(*others)


def a_view() -> DeviceView:
    field = FieldView("queue_length", 1.0, 2.5, None, 0.5, 0.1, Source.PREDICTED)
    rare = FieldView("segment_1_s", None, None, None, 0.0, None, Source.REPORTED)
    desired = FieldView("alpha_s", None, None, 1.5, 0.0, None, Source.LIVE)
    return DeviceView(
        "cam", 3, True, DIGEST, (field, rare, desired), 7, None, None, {"edge": 2}, {"offload-pays": 2},
        {"attached": 1}, {"task": 1.0}, 0.97,
    )  # fmt: skip


def test_a_view_reaches_a_reader_unchanged() -> None:
    assert wire_views.device_from_wire(wire_views.device_to_wire(a_view(), SENT_S), SENT_S) == a_view()
    edge = EdgeView("e", EDGE_ADDRESS, False, (DIGEST,), a_view().fields)
    assert wire_views.edge_from_wire(wire_views.edge_to_wire(edge)) == edge


def test_a_list_holds_only_the_fields_that_move() -> None:
    listed = wire_views.device_to_wire(a_view(), SENT_S, is_listed=True)
    assert [field.name for field in listed.fields] == ["queue_length"]
    assert listed.plan_id == 7


def test_every_source_has_a_value_on_the_wire() -> None:
    assert set(wire_views.SOURCES) == set(Source)
    assert len(set(wire_views.SOURCES.values())) == len(Source)
    assert twin_pb2.SOURCE_UNSPECIFIED not in wire_views.SOURCES.values()
