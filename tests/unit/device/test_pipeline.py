"""The life of a task: what the pipeline asks for, and how tasks end."""

from __future__ import annotations

import pytest

from device.task import AskTwin, Encode, RunExit, RunSegment
from tests.unit.device.made_up_device import (
    EDGE,
    EXIT_S,
    SEGMENT_S,
    device_with,
    exit_answer,
    manifest_of,
    offload_at,
    plan_of,
    settings_of,
    whole_answer,
)
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, DropPolicy, Outcome, Payload, Payloads, Reason

MANIFEST = manifest_of()
HEAD = manifest_of(4, (1, 2), device_segments=3)
HEAD_WITHOUT_EXITS = manifest_of(4, (), device_segments=3)


class TestOnTheDevice:
    def test_segments_and_planned_exits_run_in_order(self):
        device = device_with(plan_of(MANIFEST, exits_run=(True, False)))
        device.arrive()
        device.run()
        asked = [(type(step), step.index) for step in device.steps]
        assert asked == [(RunSegment, 0), (RunExit, 0), (RunSegment, 1), (RunSegment, 2), (RunSegment, 3)]

    def test_the_whole_network_answers_with_its_calibrated_confidence(self):
        device = device_with(plan_of(MANIFEST), exit_bin=1)
        device.arrive("garment.jpg")
        device.run()
        record = device.record
        assert (record.outcome, record.reason, record.stop_epoch) == (Outcome.DEVICE, Reason.NOT_WORTH_IT, 4)
        assert (record.frame, record.label, record.label_index) == ("garment.jpg", "boot", 1)
        assert record.confidence == 0.9  # P(whole right | bin 1 of the last exit that ran)
        assert record.exit_confidences == (0.7, 0.7)
        assert record.exit_agrees is False
        assert record.plan_id == 1
        assert not record.degraded

    def test_without_evidence_the_confidence_is_that_of_the_whole_network_on_all_samples(self):
        device = device_with(plan_of(MANIFEST, exits_run=(False, False)))
        device.arrive()
        device.run()
        assert device.record.confidence == MANIFEST.p_whole_right(0)
        assert device.record.exit_agrees is None

    def test_an_exit_without_an_answer_leaves_the_evidence_of_the_one_before(self):
        device = device_with(plan_of(MANIFEST), exit_bin=1)
        device.arrive()
        while not (isinstance(device.step, RunExit) and device.step.index == 1):
            device.do_step()
        device.step = None
        device.take(device.pipeline.exit_done(device.now_s, 1, None))
        device.run()
        record = device.record
        assert (record.outcome, record.exit_confidences) == (Outcome.DEVICE, (0.7, None))
        assert record.evidence == exit_answer(0, 1).evidence

    def test_where_nothing_is_calibrated_the_confidence_is_unknown(self):
        device = device_with(manifest=manifest_of(3, (), task="raw"))
        device.arrive()
        device.run()
        assert device.record.confidence is None

    def test_an_exit_answers_where_the_plan_says_so(self):
        def leave_when_sure(epoch, evidence, queue, band):
            return Decision.EXIT if evidence == 3 else Decision.CONTINUE

        device = device_with(plan_of(MANIFEST, leave_when_sure), exit_bin=2)
        device.arrive()
        device.run()
        record = device.record
        assert (record.outcome, record.reason, record.exit_index) == (Outcome.EXIT, Reason.EXIT_CONFIDENT, 0)
        assert (record.stop_epoch, record.label, record.confidence) == (1, "coat", 0.95)

    def test_the_queue_length_at_each_epoch_decides(self):
        def leave_when_others_wait(epoch, evidence, queue, band):
            return Decision.EXIT if evidence and queue >= 1 else Decision.CONTINUE

        device = device_with(plan_of(MANIFEST, leave_when_others_wait))
        device.arrive()
        device.do_step()
        device.arrive()  # waits from now on
        device.do_step()
        assert device.record.outcome is Outcome.EXIT

    def test_a_newer_plan_counts_from_the_next_epoch_on(self):
        device = device_with(plan_of(MANIFEST, exits_run=(False, False)))
        device.arrive()
        device.do_step()
        newer = plan_of(MANIFEST, offload_at(2), plan_id=2, exits_run=(False, False))
        device.take(device.pipeline.plan_received(device.now_s, newer, None))
        assert isinstance(device.step, RunSegment), "the step under way goes on"
        device.do_step()
        assert isinstance(device.step, Encode)

    def test_a_backlog_update_counts_from_the_next_epoch_on(self):
        def offload_while_the_edge_is_idle(epoch, evidence, queue, band):
            return Decision.OFFLOAD_TENSOR if epoch == 2 and band == 0 else Decision.CONTINUE

        device = device_with(plan_of(MANIFEST, offload_while_the_edge_is_idle, exits_run=(False, False)))
        device.arrive()
        device.do_step()
        busy = BacklogState(5.0, device.now_s, mean_s=5.0)
        device.take(device.pipeline.backlog_seen(device.now_s, busy))
        device.run()
        assert device.record.outcome is Outcome.DEVICE

    def test_rules_that_decide_at_service_start_keep_what_was_seen_there(self):
        def offload_at_2_while_idle(epoch, evidence, queue, band):
            return Decision.OFFLOAD_TENSOR if epoch == 2 and band == 0 and queue == 0 else Decision.CONTINUE

        plan = plan_of(
            MANIFEST, offload_at_2_while_idle, exits_run=(False, False), observation=Observation.SERVICE_START
        )
        device = device_with(plan)
        device.arrive()
        device.do_step()
        device.take(device.pipeline.backlog_seen(device.now_s, BacklogState(5.0, device.now_s, mean_s=5.0)))
        device.arrive()
        device.do_step()
        assert isinstance(device.step, Encode)

    def test_stages_add_up_to_the_latency(self):
        device = device_with(plan_of(MANIFEST))
        device.arrive()
        device.arrive()
        device.run()
        for record in device.records:
            assert record.latency_s == pytest.approx(record.stages.queue + record.stages.compute)
        assert device.records[1].stages.queue == pytest.approx(4 * SEGMENT_S + 2 * EXIT_S)
        assert device.records[0].energy_joules == pytest.approx(3.0 * (4 * SEGMENT_S + 2 * EXIT_S))
        assert device.records[0].energy_source == "model"

    def test_epochs_are_reached_after_their_exit(self):
        device = device_with(plan_of(MANIFEST, exits_run=(True, False)))
        device.arrive()
        device.run()
        times_s = [t - device.record.started_at_s for t in device.record.epoch_times_s]
        assert times_s == pytest.approx(
            [0.0, SEGMENT_S + EXIT_S, 2 * SEGMENT_S + EXIT_S, 3 * SEGMENT_S + EXIT_S, 4 * SEGMENT_S + EXIT_S]
        )

    def test_a_step_that_fails_fails_its_task_and_no_other(self):
        device = device_with(plan_of(MANIFEST))
        device.arrive()
        device.arrive()
        device.step = None
        device.take(device.pipeline.step_failed(device.now_s))
        assert (device.record.outcome, device.record.reason) == (Outcome.FAILED, Reason.COMPUTE_ERROR)
        device.run()
        assert device.records[1].outcome is Outcome.DEVICE

    def test_a_bad_frame_has_its_outcome_and_harms_nothing(self):
        device = device_with(plan_of(MANIFEST))
        device.arrive()
        device.take(device.pipeline.frame_refused(device.now_s, "broken.jpg"))
        assert (device.record.outcome, device.record.reason) == (Outcome.FAILED, Reason.BAD_FRAME)
        device.run()
        assert [r.outcome for r in device.records] == [Outcome.FAILED, Outcome.DEVICE]


class TestQueue:
    def test_the_newest_frame_takes_the_place_of_the_waiting_one(self):
        device = device_with(settings=settings_of(queue_capacity=1, drop_policy=DropPolicy.NEWEST_WINS))
        for name in ("served", "replaced", "newest"):
            device.arrive(name)
        assert (device.record.frame, device.record.reason) == ("replaced", Reason.NEWER_FRAME)
        device.run()
        assert [r.frame for r in device.records[1:]] == ["served", "newest"]

    def test_or_the_oldest_stay(self):
        device = device_with(settings=settings_of(queue_capacity=2, drop_policy=DropPolicy.OLDEST_STAYS))
        for name in ("served", "first", "second", "late"):
            device.arrive(name)
        record = device.record
        assert (record.frame, record.outcome, record.reason) == ("late", Outcome.DROPPED, Reason.QUEUE_FULL)
        assert (record.stop_epoch, record.started_at_s, record.stages.compute) == (None, None, None)

    def test_a_queue_without_room_is_refused(self):
        with pytest.raises(ValueError, match="at least 1"):
            device_with(settings=settings_of(queue_capacity=0))


class TestHeadOnly:
    def test_an_exit_without_an_answer_is_no_last_resort(self):
        device = device_with(plan_of(HEAD, offload_at(3), exits_run=(False, False)), manifest=HEAD)
        device.arrive()
        device.run()
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED))
        step, device.step = device.step, None
        assert isinstance(step, RunExit)
        device.clock.advance(EXIT_S)
        device.take(device.pipeline.exit_done(device.now_s, step.index, None))
        record = device.record
        assert (record.outcome, record.reason) == (Outcome.FAILED, Reason.COMPUTE_ERROR)
        assert record.stages.compute == pytest.approx(3 * SEGMENT_S + EXIT_S)

    def test_its_best_exit_answers_degraded_when_the_edge_is_lost(self):
        device = device_with(plan_of(HEAD, offload_at(3)), manifest=HEAD)
        device.arrive()
        device.run()
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.run()
        record = device.record
        assert (record.outcome, record.reason, record.exit_index) == (Outcome.EXIT, Reason.HEAD_ONLY, 1)
        assert record.degraded
        assert record.payload is Payload.TENSOR

    def test_an_exit_that_the_plan_did_not_run_is_run_then(self):
        device = device_with(plan_of(HEAD, offload_at(3), exits_run=(False, False)), manifest=HEAD)
        device.arrive()
        device.run()
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED))
        assert isinstance(device.step, RunExit)
        device.run()
        assert (device.record.outcome, device.record.exit_index) == (Outcome.EXIT, 1)

    def test_without_any_exit_the_task_fails(self):
        device = device_with(plan_of(HEAD_WITHOUT_EXITS, offload_at(3)), manifest=HEAD_WITHOUT_EXITS)
        device.arrive()
        device.run()
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST))
        assert (device.record.outcome, device.record.reason) == (Outcome.FAILED, Reason.EDGE_LOST)

    def test_without_a_plan_it_uses_the_edge_that_it_was_told(self):
        device = device_with(manifest=HEAD, fixed_edge_address=EDGE)
        device.take(device.pipeline.edge_connected(device.now_s, EDGE))
        device.arrive()
        device.run()
        device.answer(1)
        record = device.record
        assert (record.outcome, record.reason, record.stop_epoch) == (Outcome.EDGE, Reason.NO_PLAN, 3)


class TestWithoutAPlan:
    def test_the_contingency_of_the_manifest_decides(self):
        device = device_with(exit_bin=2)  # P(right) 0.95, the whole network 0.9
        device.arrive()
        device.run()
        record = device.record
        assert (record.outcome, record.reason, record.degraded) == (Outcome.EXIT, Reason.EXIT_CONFIDENT, True)

    def test_a_device_without_a_twin_is_not_degraded_by_it(self):
        device = device_with(is_plan_expected=False)
        device.arrive()
        device.run()
        assert (device.record.reason, device.record.degraded) == (Reason.NO_PLAN, False)

    def test_when_the_lease_has_ended_the_plans_contingency_decides(self):
        plan = plan_of(MANIFEST, offload_at(1), lease_s=1.0, thresholds=(2.0, 2.0), contingency_cut=2)
        device = device_with(plan)
        device.take(device.pipeline.edge_connected(device.now_s, EDGE))
        device.clock.advance(1.0)
        device.arrive()
        device.run()
        assert device.uploads[1].offload.cut == 2
        device.answer(1)
        record = device.record
        assert (record.reason, record.degraded) == (Reason.LEASE_ENDED, True)

    def test_a_contingency_offloads_only_to_an_edge_that_is_known_to_answer(self):
        plan = plan_of(MANIFEST, lease_s=1.0, thresholds=(2.0, 2.0), contingency_cut=2)
        device = device_with(plan)
        device.clock.advance(1.0)
        device.arrive()
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.LEASE_ENDED)


class TestTensorsOnly:
    @pytest.mark.parametrize("decision", [Decision.OFFLOAD_INPUT, Decision.OFFLOAD_TENSOR])
    def test_in_polled_mode_the_twin_cannot_have_the_input(self, decision):
        device = device_with(plan_of(MANIFEST), settings=settings_of(is_polled=True), payloads=Payloads.TENSORS_ONLY)
        device.arrive()
        device.step = None
        device.take(device.pipeline.polled(device.now_s, decision))
        assert isinstance(device.step, RunSegment)


class TestPolled:
    def test_the_twin_is_asked_at_every_epoch_and_obeyed(self):
        device = device_with(plan_of(MANIFEST, exits_run=(True, True)), settings=settings_of(is_polled=True))
        device.arrive()
        assert isinstance(device.step, AskTwin)
        device.step = None
        device.take(device.pipeline.polled(device.now_s, Decision.CONTINUE))
        device.do_step()  # segment
        device.do_step()  # exit
        question = device.step
        assert isinstance(question, AskTwin)
        assert (question.epoch, question.evidence, question.queue_length) == (1, 1, 0)
        device.step = None
        device.take(device.pipeline.polled(device.now_s, Decision.EXIT))
        assert device.record.outcome is Outcome.EXIT

    def test_waiting_for_the_twin_counts_as_waiting(self):
        device = device_with(plan_of(MANIFEST, exits_run=(False, False)), settings=settings_of(is_polled=True))
        device.arrive()
        for _ in range(4):
            device.clock.advance(0.03)
            device.do_step()
            device.do_step()
        stages = device.record.stages
        assert stages.queue == pytest.approx(4 * 0.03)
        assert device.record.latency_s == pytest.approx(stages.queue + stages.compute)

    def test_without_an_answer_the_standing_plan_decides(self):
        device = device_with(plan_of(MANIFEST, offload_at(0)), settings=settings_of(is_polled=True))
        device.arrive()
        device.step = None
        device.take(device.pipeline.polled(device.now_s, None))
        assert isinstance(device.step, Encode)

    def test_an_answer_that_cannot_be_obeyed_is_not(self):
        device = device_with(plan_of(MANIFEST), settings=settings_of(is_polled=True))
        device.arrive()
        device.step = None
        device.take(device.pipeline.polled(device.now_s, Decision.EXIT))  # without evidence
        assert isinstance(device.step, RunSegment)


class TestTheEnd:
    def test_after_close_frames_are_dropped_and_tasks_finished(self):
        device = device_with(plan_of(MANIFEST))
        device.arrive()
        device.take(device.pipeline.close())
        device.arrive("too late")
        assert (device.record.outcome, device.record.reason) == (Outcome.DROPPED, Reason.SHUTDOWN)
        device.run()
        assert device.pipeline.is_empty

    def test_abort_gives_everything_its_outcome(self):
        device = device_with(plan_of(MANIFEST, offload_at(1)))
        for _ in range(3):
            device.arrive()
        while not device.uploads:
            device.do_step()
        device.take(device.pipeline.abort(device.now_s))
        outcomes = {r.task_id: r.outcome for r in device.records}
        assert outcomes == {1: Outcome.FAILED, 2: Outcome.FAILED, 3: Outcome.DROPPED}
        assert {r.reason for r in device.records} == {Reason.SHUTDOWN}
        assert [c.task.task_id for c in device.cancelled] == [1]

    def test_what_comes_in_after_abort_changes_nothing(self):
        device = device_with(plan_of(MANIFEST))
        device.arrive()
        device.take(device.pipeline.abort(device.now_s))
        late = [
            device.pipeline.segment_done(device.now_s, whole_answer()),
            device.pipeline.exit_done(device.now_s, 0, exit_answer(0, 0)),
            device.pipeline.encoded(device.now_s, 10),
            device.pipeline.polled(device.now_s, None),
            device.pipeline.step_failed(device.now_s),
        ]
        assert not any(late)
        assert len(device.records) == 1
