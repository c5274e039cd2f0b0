"""Mirrored fields as they were reported, as the twin predicts them, and as they are."""

from __future__ import annotations

import math

from device.reports import StartReport, TaskReport
from device.self_mirror import FieldLayers, Truth
from tests.unit.device.made_up_device import EXIT_S, SEGMENT_S, MadeUpDevice, manifest_of, plan_of

MANIFEST = manifest_of()


def attached_device(**changes: object) -> MadeUpDevice:
    device = MadeUpDevice(MANIFEST, **changes)
    device.take(device.pipeline.twin_attached(device.now_s, 5.0))
    device.take(device.pipeline.plan_received(device.now_s, plan_of(MANIFEST), None))
    return device


def layers(device: MadeUpDevice) -> dict[str, FieldLayers]:
    task, tracker = device.pipeline.in_service, device.tracker
    truth = Truth(
        None if task is None else len(task.epoch_times_s) - 1,
        device.pipeline.queue_length,
        tracker.goodput_bytes_per_s,
        tracker.round_trip_s,
        sum(tracker.segment_s),
    )
    return {field.name: field for field in device.reporter.layers(truth, device.now_s)}


def test_nothing_is_mirrored_before_a_twin_was_told() -> None:
    device = MadeUpDevice(MANIFEST)
    device.tracker.round_trip_measured(0.004)
    assert layers(device) == {}
    assert device.reporter.report_age_s(device.now_s) is None


def test_the_heartbeat_of_attachment_tells_all() -> None:
    device = MadeUpDevice(MANIFEST)
    device.tracker.round_trip_measured(0.004)
    device.take(device.pipeline.twin_attached(device.now_s, 5.0))
    found = layers(device)
    assert found["epoch"] == ("epoch", None, None, None)
    assert found["queue_length"] == ("queue_length", 0, 0.0, 0)
    assert found["round_trip_s"] == ("round_trip_s", 0.004, 0.004, 0.004)
    assert found["goodput_bytes_per_s"].reported is None
    assert math.isclose(found["network_s"].actual or 0.0, 4 * SEGMENT_S)
    device.clock.advance(3.0)
    assert device.reporter.report_age_s(device.now_s) == 3.0


def test_the_predicted_epoch_advances_while_the_reported_one_stays() -> None:
    device = attached_device()
    device.arrive()
    assert isinstance(device.reports[-1], StartReport)
    assert layers(device)["epoch"] == ("epoch", 0, 0, 0)
    device.do_step()
    device.do_step()
    assert layers(device)["epoch"] == ("epoch", 0, 1, 1)
    device.clock.advance(SEGMENT_S + EXIT_S)  # the device hangs, and has not said so yet
    assert layers(device)["epoch"] == ("epoch", 0, 2, 1)


def test_a_progress_report_brings_the_reported_epoch_up_to_date() -> None:
    device = attached_device(slowness=2.0)
    device.arrive()
    device.do_step()
    device.do_step()
    assert layers(device)["epoch"] == ("epoch", 1, 1, 1)


def test_tasks_expected_to_arrive_are_in_the_predicted_queue() -> None:
    device = attached_device()
    for _ in range(4):
        device.clock.advance(0.5)
        device.arrive()
        device.run()
    device.arrive()
    assert isinstance(device.reports[-2], TaskReport)
    device.clock.advance(0.4)
    found = layers(device)["queue_length"]
    assert (found.reported, found.actual) == (0, 0)
    # The report of the fourth task told of four entered in some two seconds.
    assert 0.5 < (found.predicted or 0.0) < 0.9


def test_what_was_measured_since_the_report_is_in_the_actual_layer_only() -> None:
    device = attached_device()
    device.tracker.round_trip_measured(0.010)
    device.tracker.segment_done(0, 2 * SEGMENT_S)
    found = layers(device)
    assert found["round_trip_s"] == ("round_trip_s", None, None, 0.010)
    assert (found["network_s"].actual or 0.0) > (found["network_s"].predicted or 0.0)


def test_an_answer_to_a_question_of_the_twin_counts_as_a_report() -> None:
    device = attached_device()
    device.clock.advance(2.0)
    device.tracker.round_trip_measured(0.010)
    device.reporter.asked(device.now_s, device.pipeline.condition(device.now_s))
    assert device.reporter.report_age_s(device.now_s) == 0.0
    assert layers(device)["round_trip_s"].reported == 0.010


def test_a_twin_that_attaches_anew_was_told_nothing_of_before() -> None:
    device = attached_device()
    device.arrive()
    device.reporter.forgotten()
    assert layers(device) == {}
