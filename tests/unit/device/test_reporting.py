"""Which report is due, and when."""

from __future__ import annotations

import pytest

from device.reports import Heartbeat, ProgressReport, StartReport, TaskReport
from tests.unit.device.made_up_device import (
    EXIT_S,
    SEGMENT_S,
    MadeUpDevice,
    manifest_of,
    offload_at,
    plan_of,
    settings_of,
)
from twinsplit.reckoning import ProgressModel, task_boundaries_s
from twinsplit.types import Decision, Outcome, Reason

MANIFEST = manifest_of()


def attached_device(plan=None, **changes) -> MadeUpDevice:
    """A device that the twin knows, with a plan if there is one; its reports so far are forgotten."""
    device = MadeUpDevice(MANIFEST, **changes)
    device.take(device.pipeline.twin_attached(device.now_s, 5.0))
    if plan is not None:
        device.take(device.pipeline.plan_received(device.now_s, plan, None))
    device.reports.clear()
    return device


def kinds(device: MadeUpDevice) -> list[type]:
    return [type(report) for report in device.reports]


def test_a_task_that_starts_on_an_idle_device_is_announced():
    device = attached_device(plan_of(MANIFEST))
    device.arrive()
    (report,) = device.reports
    assert isinstance(report, StartReport)
    assert (report.started.task_id, report.started.at_s, report.started.first_epoch) == (1, device.now_s, 0)


class TestATaskThatLeavesAtOnce:
    """It is offloaded where it starts: all that the device does for it is to encode its input."""

    def started(self, encode_s, **changes):
        device = attached_device(plan_of(MANIFEST, offload_at(0, Decision.OFFLOAD_INPUT)), **changes)
        device.tracker.encode_s[0, 1] = encode_s
        device.arrive()
        return device

    def test_is_not_announced(self):
        device = self.started(0.0009)
        assert kinds(device) == []
        device.run()
        device.clock.advance(0.1)
        device.answer(1)
        assert kinds(device) == [TaskReport]
        (ended,) = device.reports[0].ended
        assert ended.task_id == 1

    def test_is_announced_where_encoding_takes_a_noticeable_part_of_the_report_threshold(self):
        assert kinds(self.started(0.0011)) == [StartReport]

    def test_is_told_of_with_a_report_that_is_due_anyway(self):
        device = attached_device(plan_of(MANIFEST, offload_at(0, Decision.OFFLOAD_INPUT)))
        device.clock.advance(6.0)
        device.arrive()
        (report,) = device.reports
        assert isinstance(report, Heartbeat)
        assert report.started.task_id == 1

    def test_is_announced_when_it_comes_back(self):
        device = self.started(0.0)
        device.run()
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST))
        assert kinds(device) == [StartReport]
        assert device.reports[0].started.task_id == 1

    def test_is_not_announced_with_a_question_in_polled_mode(self):
        device = attached_device(
            plan_of(MANIFEST, offload_at(0, Decision.OFFLOAD_INPUT)), settings=settings_of(is_polled=True)
        )
        device.arrive()
        assert kinds(device) == []
        device.step = None
        device.take(device.pipeline.polled(device.now_s, Decision.CONTINUE))
        assert kinds(device) == [StartReport], "it stays"


def test_one_report_per_ended_task_also_tells_what_started():
    device = attached_device(plan_of(MANIFEST))
    device.arrive()
    device.arrive()
    device.arrive()
    device.run()
    assert kinds(device) == [StartReport, TaskReport, TaskReport, TaskReport]
    first, second, last = device.reports[1:]
    assert [r.task_id for r in first.ended] == [1]
    assert (first.started.task_id, first.queue_length) == (2, 1)
    assert second.started.task_id == 3
    assert last.started is None


def test_a_task_that_starts_after_an_offload_is_announced_since_no_report_carries_it():
    device = attached_device(plan_of(MANIFEST, offload_at(1)))
    device.arrive()
    device.arrive()
    while not device.uploads:
        device.do_step()
    assert kinds(device) == [StartReport, StartReport]
    assert device.reports[1].started.task_id == 2


def offloaded(**changes) -> MadeUpDevice:
    """A device whose task 1 is at the edge."""
    device = attached_device(plan_of(MANIFEST, offload_at(1)), **changes)
    device.arrive()
    device.run()
    device.reports.clear()
    return device


def test_on_an_idle_device_an_answer_of_the_edge_is_told_at_once():
    device = offloaded()
    device.answer(1)
    (report,) = device.reports
    assert [ended.outcome for ended in report.ended] == [Outcome.EDGE]


def test_while_another_task_is_in_service_an_answer_of_the_edge_waits_for_the_next_report():
    device = offloaded()
    device.arrive()
    device.reports.clear()
    device.answer(1)
    assert device.reports == []
    device.arrive()
    while len(device.uploads) < 2:
        device.do_step()
    (report,) = device.reports
    assert isinstance(report, TaskReport)
    assert [ended.task_id for ended in report.ended] == [1]
    assert report.started.task_id == 3


def test_an_answer_waits_no_longer_than_another_task_is_in_service():
    device = offloaded()
    device.arrive()
    device.reports.clear()
    device.answer(1)
    device.run()
    assert [[ended.task_id for ended in report.ended] for report in device.reports] == [[1]]
    assert device.reports[0].started is None


def test_a_late_task_is_mentioned_though_an_answer_waits():
    device = offloaded(slowness=1.6)
    device.arrive()
    device.reports.clear()
    device.answer(1)
    device.do_step()
    device.do_step()
    assert kinds(device) == [ProgressReport]


def test_at_the_end_no_record_waits():
    device = offloaded()
    device.arrive()
    device.reports.clear()
    device.answer(1)
    device.take(device.pipeline.close())
    device.take(device.pipeline.abort(device.now_s))
    assert [[ended.task_id for ended in report.ended] for report in device.reports] == [[1, 2]]


def test_a_resumed_task_is_announced_with_the_segments_it_has_done():
    device = attached_device(plan_of(MANIFEST, offload_at(2)))
    device.arrive()
    device.run()
    device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED))
    report = device.reports[-1]
    assert isinstance(report, StartReport)
    assert (report.started.task_id, report.started.first_epoch) == (1, 2)


def test_a_task_on_time_is_not_mentioned_again():
    device = attached_device(plan_of(MANIFEST))
    device.arrive()
    device.run()
    assert kinds(device) == [StartReport, TaskReport]


def test_a_task_that_leaves_the_threshold_is_and_the_twin_then_reckons_from_there():
    device = attached_device(plan_of(MANIFEST), slowness=1.6)  # 12 ms late per segment, 10 ms are allowed
    device.arrive()
    device.do_step()
    device.do_step()
    report = device.reports[-1]
    assert isinstance(report, ProgressReport)
    assert (report.task_id, report.epoch, report.reached_at_s) == (1, 1, device.now_s)
    device.run()
    assert kinds(device).count(ProgressReport) == 3, "each epoch is late by the same again"


def test_a_drifting_task_is_reported_only_once_per_threshold():
    device = attached_device(plan_of(MANIFEST), slowness=1.25)  # 5 to 6 ms late per segment
    device.arrive()
    device.run()
    assert kinds(device).count(ProgressReport) == 1, "of four epochs"


def test_the_twin_never_errs_by_more_than_the_threshold_and_one_epoch():
    device = attached_device(plan_of(MANIFEST), slowness=1.7)
    device.arrive()
    boundaries_s = task_boundaries_s([SEGMENT_S] * 4, [EXIT_S] * 2, MANIFEST.exit_after, (True, True))
    started = device.reports[0].started
    believed = ProgressModel(started.task_id, started.at_s, boundaries_s)
    told = 1
    while device.step is not None and device.pipeline.in_service is not None:
        device.do_step()
        for report in device.reports[told:]:
            if isinstance(report, ProgressReport):
                shift_s = believed.deviation_s(report.epoch, report.reached_at_s)
                believed = ProgressModel(1, believed.started_at_s + shift_s, boundaries_s)
        told = len(device.reports)
        task = device.pipeline.in_service
        if task is not None:
            epoch = len(task.epoch_times_s) - 1
            late_s = believed.deviation_s(epoch, task.epoch_times_s[epoch])
            assert abs(late_s) <= device.reporter.report_threshold_s + 1e-9
    assert device.records


def test_a_heartbeat_fills_silence():
    device = attached_device()
    device.clock.advance(4.9)
    device.take(device.pipeline.tick(device.now_s))
    assert device.reports == []
    device.clock.advance(0.1)
    device.take(device.pipeline.tick(device.now_s))
    (report,) = device.reports
    assert isinstance(report, Heartbeat)
    assert (report.started, report.queue_length) == (None, 0)


def test_before_a_twin_attaches_there_is_no_heartbeat():
    device = MadeUpDevice(MANIFEST)
    device.clock.advance(100.0)
    device.take(device.pipeline.tick(device.now_s))
    assert device.reports == []


def test_any_report_puts_the_heartbeat_off():
    device = attached_device(plan_of(MANIFEST))
    device.clock.advance(4.0)
    device.arrive()
    device.run()
    device.reports.clear()
    device.clock.advance(4.9)
    device.take(device.pipeline.tick(device.now_s))
    assert device.reports == []


def test_after_attaching_anew_the_twin_is_told_what_is_in_service():
    device = attached_device(plan_of(MANIFEST))
    device.arrive()
    device.do_step()
    device.take(device.pipeline.twin_attached(device.now_s, 2.0))
    report = device.reports[-1]
    assert isinstance(report, Heartbeat)
    assert report.started.task_id == 1
    assert device.reporter.heartbeat_s == 2.0
    device.take(device.pipeline.twin_attached(device.now_s, 0.0))
    assert device.reporter.heartbeat_s == 2.0, "this twin names none"


def test_a_tracked_profile_is_told_again_when_it_has_moved():
    device = attached_device(plan_of(MANIFEST))
    device.arrive()
    device.run()
    assert device.reports[-1].state.segment_s == ()
    device.slowness = 1.5
    device.arrive()
    device.run()
    state = device.reports[-1].state
    assert len(state.segment_s) == 4
    assert len(state.exit_s) == 2
    assert state.segment_s[0] == pytest.approx(SEGMENT_S + (0.5 * SEGMENT_S) / 16)


def test_the_state_tells_of_edge_plan_and_losses():
    device = attached_device(plan_of(MANIFEST, offload_at(1), lease_s=1.0))
    device.take(device.pipeline.edge_disconnected(device.now_s, "127.0.0.1:7001"))
    device.clock.advance(2.0)
    device.take(device.pipeline.frame_refused(device.now_s, "bad"))
    state = device.reports[-1].state
    assert (state.is_edge_reachable, state.is_degraded, state.entered, state.lost) == (False, True, 1, 1)
    assert state.goodput_bytes_per_s is None


def test_a_plan_that_runs_other_exits_moves_what_the_twin_expects():
    device = attached_device(plan_of(MANIFEST, exits_run=(False, False)))
    device.arrive()
    device.do_step()
    both = plan_of(MANIFEST, plan_id=2, exits_run=(True, True))
    device.take(device.pipeline.plan_received(device.now_s, both, None))
    device.run()
    assert kinds(device) == [StartReport, TaskReport], "both sides reckon with the new exits"
