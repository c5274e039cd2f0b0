"""What the device says on the wire is what the twin reads from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.health import Health
from device.reports import DeviceState, Heartbeat, ProgressReport, Started, StartReport, TaskReport
from device.twin_wire import Announcement, Attachment, LiveState, hello_to_wire, live_to_wire, report_to_wire
from tests.unit.device.test_task_records import records_of_every_kind
from twin_service import messages
from twin_service.wire import device_event_from_wire, device_hello_from_wire
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.types import Payloads

HEALTH = Health(0.5, 0.25, -4.5, is_throttled=False, speed_share=0.75)
STATE = DeviceState(5e4, 0.01, (0.1, 0.2), (0.01,), True, False, entered=9, lost=2, health=HEALTH)


def heard(request: twin_pb2.AttachDeviceRequest, sent_at_s: float) -> messages.DeviceEvent:
    """As the twin reads the bytes, on a clock that happens to be the device's."""
    return device_event_from_wire(twin_pb2.AttachDeviceRequest.FromString(request.SerializeToString()), sent_at_s)


def test_a_task_report_arrives_as_it_was_sent():
    records = tuple(records_of_every_kind())
    now_s = max(r.ended_at_s for r in records) + 0.5
    report = TaskReport(records, Started(77, now_s - 0.25, 2), 3, STATE)
    event = heard(report_to_wire(report, now_s), now_s)
    assert isinstance(event, messages.TaskReport)
    assert event.queue_length == 3
    assert (event.started.task_id, event.started.first_epoch) == (77, 2)
    assert event.started.started_at_s == pytest.approx(now_s - 0.25)
    assert (event.state.goodput_bytes_per_s, event.state.entered, event.state.lost) == (5e4, 9, 2)
    for sent, read in zip(records, event.ended, strict=True):
        for name in ("task_id", "outcome", "reason", "stop_epoch", "evidence", "exit_index", "payload"):
            assert getattr(read, name) == getattr(sent, name), name
        for name in ("representation_index", "wire_bytes", "label", "degraded", "plan_id", "queue_length"):
            assert getattr(read, name) == getattr(sent, name), name
        assert read.arrived_at_s == pytest.approx(sent.arrived_at_s)
        assert read.ended_at_s == pytest.approx(sent.ended_at_s)
        assert read.epoch_times_s == pytest.approx(sent.epoch_times_s)
        assert read.exit_confidences == pytest.approx(sent.exit_confidences)
        assert (read.energy_joules, read.energy_source) == (sent.energy_joules, sent.energy_source)
        assert read.confidence == sent.confidence


def test_a_thumbnail_arrives_with_its_task():
    record = replace(next(iter(records_of_every_kind())), thumbnail_jpeg=b"\xff\xd8\xff and so on")
    report = TaskReport((record,), None, 0, STATE)
    (read,) = heard(report_to_wire(report, record.ended_at_s), record.ended_at_s).ended
    assert read.thumbnail_jpeg == record.thumbnail_jpeg


def test_starts_progress_and_heartbeats_arrive_with_their_ages():
    started = Started(5, 9.0, 1)
    event = heard(report_to_wire(StartReport(started, 2), 10.0), 10.0)
    assert event == messages.StartReport(5, 9.0, 2, 1)
    event = heard(report_to_wire(ProgressReport(5, 3, 9.5, 1), 10.0), 10.0)
    assert event == messages.ProgressReport(5, 3, 9.5, 1)
    event = heard(report_to_wire(Heartbeat(None, 0, STATE), 10.0), 10.0)
    assert isinstance(event, messages.DeviceHeartbeat)
    assert event.started is None
    assert event.state.segment_s == (0.1, 0.2)
    for name in Health.__slots__:
        assert getattr(event.state, name) == getattr(HEALTH, name), name


def test_what_the_machine_does_not_tell_is_left_out():
    state = DeviceState(None, None, (), (), True, False, entered=0, lost=0)
    event = heard(report_to_wire(Heartbeat(None, 0, state), 10.0), 10.0)
    assert isinstance(event, messages.DeviceHeartbeat)
    assert {getattr(event.state, name) for name in Health.__slots__} == {None}


def test_a_live_report_tells_the_state_now():
    live = LiveState(1, Started(5, 9.0, 0), 2, 9.75, STATE)
    event = heard(live_to_wire(42, live, 10.0), 10.0)
    assert isinstance(event, messages.LiveReport)
    assert (event.read_id, event.epoch, event.reached_at_s) == (42, 2, 9.75)


@pytest.mark.parametrize("watts", [3.0, None])
def test_a_hello_says_who_attaches(watts):
    announcement = Announcement("cam-1", "ab" * 32, Payloads.TENSORS_ONLY, "127.0.0.1:7100", watts, watts, True, 0.02)
    attachment = Attachment((0.1, 0.2), (0.01, 0.0), {(0, 1): 0.003}, None, 0.01, 12, speed_share=0.5)
    hello = device_hello_from_wire(hello_to_wire(announcement, attachment).hello)
    assert (hello.device_id, hello.model_digest, hello.last_plan_id) == ("cam-1", "ab" * 32, 12)
    assert (hello.segment_s, hello.exit_s, hello.encode_s) == ((0.1, 0.2), (0.01, 0.0), {(0, 1): 0.003})
    assert hello.is_tensors_only
    assert hello.is_polled
    assert hello.fixed_edge_address == "127.0.0.1:7100"
    assert (hello.goodput_bytes_per_s, hello.round_trip_s, hello.compute_watts) == (None, 0.01, watts)
    assert (hello.report_threshold_s, hello.speed_share) == (0.02, 0.5)
