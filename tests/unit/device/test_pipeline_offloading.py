"""Offloading: what is sent, what comes back, and what keeps a task on the device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.breaker import BreakerSettings
from device.task import RunSegment
from tests.unit.device.made_up_device import (
    EDGE,
    ENCODE_S,
    EXIT_S,
    SEGMENT_S,
    device_with,
    manifest_of,
    offload_at,
    plan_of,
    settings_of,
)
from twinsplit.plan import BusyUplink
from twinsplit.types import Decision, Outcome, Payload, Reason

MANIFEST = manifest_of()


class TestOffloading:
    def test_the_tensor_of_the_cut_is_sent_and_the_next_task_starts_at_once(self):
        device = device_with(plan_of(MANIFEST, offload_at(2)))
        device.arrive()
        device.arrive()
        while not device.uploads:
            device.do_step()
        offload = device.uploads[1].offload
        assert (offload.payload, offload.cut, offload.representation_index, offload.edge_address) == (
            Payload.TENSOR,
            2,
            1,
            EDGE,
        )
        assert device.pipeline.in_service.task_id == 2
        assert isinstance(device.step, RunSegment)

    def test_the_input_is_sent_from_any_epoch(self):
        device = device_with(plan_of(MANIFEST, offload_at(1, Decision.OFFLOAD_INPUT)))
        device.arrive()
        device.run()
        assert (device.uploads[1].offload.payload, device.uploads[1].offload.cut) == (Payload.INPUT, 0)

    def test_the_edge_answers(self):
        device = device_with(plan_of(MANIFEST, offload_at(2), exits_run=(True, False)))
        device.arrive()
        device.run()
        device.clock.advance(0.1)
        device.answer(1, edge_queue_s=0.03, edge_compute_s=0.01)
        record = device.record
        assert (record.outcome, record.reason, record.stop_epoch) == (Outcome.EDGE, Reason.OFFLOAD_PAYS, 2)
        assert (record.payload, record.representation, record.wire_bytes) == (Payload.TENSOR, "uint8+zstd", 1000)
        stages = record.stages
        assert stages.upload == pytest.approx(0.06)
        assert record.latency_s == pytest.approx(
            stages.queue + stages.compute + stages.encode + stages.upload + stages.edge_queue + stages.edge_compute
        )
        assert record.energy_joules == pytest.approx(3.0 * (2 * SEGMENT_S + EXIT_S + ENCODE_S) + 1.2 * 0.06)
        assert record.confidence == pytest.approx(0.6 - 0.01)  # less the loss of the representation

    def test_a_tensor_is_kept_until_the_answer_is_in_and_only_so_many(self):
        device = device_with(plan_of(MANIFEST, offload_at(0)), settings=settings_of(kept_tensors=2))
        for _ in range(3):
            device.arrive()
        device.run()
        assert sorted(device.uploads) == [1, 2]
        assert [t.task_id for t in device.pipeline.keepers()] == [1, 2]
        record = device.record
        assert (record.task_id, record.outcome, record.reason) == (3, Outcome.DEVICE, Reason.UPLINK_FULL)
        assert not record.degraded
        device.answer(1)
        device.arrive()
        device.run()
        assert sorted(device.uploads) == [2, 4]

    @pytest.mark.parametrize("reason", [Reason.EDGE_REFUSED, Reason.EDGE_LOST])
    def test_a_task_that_comes_back_resumes_at_its_cut_at_the_head_of_the_queue(self, reason):
        device = device_with(plan_of(MANIFEST, offload_at(2), exits_run=(False, False)))
        device.arrive()
        while not device.uploads:
            device.do_step()
        device.arrive()
        device.arrive()  # waits; the one before is in service
        device.clock.advance(0.005)
        device.take(device.pipeline.upload_failed(device.now_s, 1, reason))
        asked_before = len(device.steps)
        device.run()
        device.take(device.pipeline.tick(device.now_s))
        resumed = next(r for r in device.records if r.task_id == 1)
        assert (resumed.outcome, resumed.reason, resumed.degraded) == (Outcome.DEVICE, reason, True)
        steps_of_1 = [s.index for s in device.steps[asked_before:] if s.task.task_id == 1]
        assert steps_of_1 == [2, 3], "it goes on from its cut"
        order = [s.task.task_id for s in device.steps[asked_before:]]
        assert order.index(1) < order.index(3), "it goes before those that wait"
        assert resumed.stages.queue > 0.0
        assert resumed.stages.upload == pytest.approx(0.005)
        assert resumed.energy_joules == pytest.approx(3.0 * (4 * SEGMENT_S + ENCODE_S) + 1.2 * 0.005)

    def test_several_tasks_come_back_in_the_order_in_which_they_entered(self):
        device = device_with(plan_of(MANIFEST, offload_at(0), exits_run=(False, False)))
        for _ in range(3):
            device.arrive()
        device.run()
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.run()
        assert [r.task_id for r in device.records] == [1, 2, 3]
        assert {r.reason for r in device.records} == {Reason.EDGE_LOST}

    def test_an_answer_too_late_is_given_up_and_counts_no_more(self):
        device = device_with(plan_of(MANIFEST, offload_at(2)), settings=settings_of(answer_timeout_s=0.5))
        device.arrive()
        device.run()
        device.clock.advance(0.49)
        device.take(device.pipeline.tick(device.now_s))
        assert not device.cancelled
        device.clock.advance(0.02)
        device.take(device.pipeline.tick(device.now_s))
        assert [c.task.task_id for c in device.cancelled] == [1]
        device.run()
        device.answer(1)
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.EDGE_TOO_LATE)

    def test_a_deadline_leaves_time_to_finish_on_the_device(self):
        device = device_with(
            plan_of(MANIFEST, offload_at(2), exits_run=(False, False)), settings=settings_of(deadline_s=0.2)
        )
        device.arrive()
        device.run()
        spent_s = 2 * SEGMENT_S + ENCODE_S
        assert device.uploads[1].budget_s == pytest.approx(0.2 - spent_s - 2 * SEGMENT_S)

    def test_where_the_device_would_be_late_too_the_edge_gets_all_the_time(self):
        device = device_with(
            plan_of(MANIFEST, offload_at(2), exits_run=(False, False)), settings=settings_of(deadline_s=0.06)
        )
        device.arrive()
        device.run()
        assert device.uploads[1].budget_s == pytest.approx(0.06 - 2 * SEGMENT_S - ENCODE_S)

    def test_an_open_breaker_keeps_tasks_on_the_device_and_closes_by_itself(self):
        breaker = BreakerSettings(failures_to_open=1, open_s=1.0)
        device = device_with(plan_of(MANIFEST, offload_at(1)), settings=settings_of(breaker=breaker))
        device.arrive()
        device.run()
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED))
        device.arrive()
        device.run()
        assert [(r.task_id, r.reason) for r in device.records] == [(1, Reason.EDGE_REFUSED), (2, Reason.BREAKER_OPEN)]
        assert device.records[1].degraded
        device.clock.advance(1.0)
        device.arrive()
        device.run()
        device.answer(3)
        device.arrive()
        device.run()
        assert sorted(device.uploads) == [1, 4]

    def test_a_hindered_task_still_leaves_at_a_sure_exit(self):
        plan = plan_of(MANIFEST, offload_at(1), thresholds=(0.9, 0.9))
        device = device_with(plan, exit_bin=2)
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.arrive()
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.EXIT, Reason.BREAKER_OPEN)

    def test_without_an_edge_nothing_is_sent(self):
        device = device_with(plan_of(MANIFEST, offload_at(1), edge_id=None))
        device.arrive()
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.NO_EDGE_HOLDS_MODEL)


class TestBusyUplink:
    """1,000 bytes a payload, 20 kB/s: 50 ms each."""

    def device(self, plan=None):
        device = device_with(plan or plan_of(MANIFEST, offload_at(1), exits_run=(False, False)))
        device.tracker.link(EDGE).goodput_bytes_per_s = 20_000.0
        return device

    def send(self, device, count=1):
        for _ in range(count):
            device.arrive()
        device.run()

    def busy_s(self, device):
        return device.pipeline.offloads.uplink_busy_s(device.now_s)

    def test_it_is_free_before_anything_was_sent_and_once_that_has_left(self):
        device = self.device()
        assert self.busy_s(device) == 0.0
        self.send(device)
        assert self.busy_s(device) == pytest.approx(0.05)
        device.clock.advance(0.03)
        assert self.busy_s(device) == pytest.approx(0.02)
        device.clock.advance(0.03)
        assert self.busy_s(device) == 0.0

    def test_payloads_wait_for_one_another(self):
        device = self.device()
        self.send(device, 3)
        between_s = SEGMENT_S + ENCODE_S
        assert self.busy_s(device) == pytest.approx(3 * 0.05 - 2 * between_s)

    def test_an_answer_says_that_what_went_before_has_left(self):
        device = self.device()
        self.send(device, 3)
        device.answer(2, edge_queue_s=0.0, edge_compute_s=0.0)
        goodput = device.tracker.goodput_bytes_per_s
        assert self.busy_s(device) == pytest.approx(1000 / goodput), "the third may still have to go"
        device.answer(3, edge_queue_s=0.0, edge_compute_s=0.0)
        assert self.busy_s(device) == 0.0
        assert set(device.uploads) == {1}, "and the first one, which other edges may be slow to answer, does not count"

    def test_without_a_measured_goodput_nothing_is_expected(self):
        device = device_with(plan_of(MANIFEST, offload_at(1)))
        self.send(device)
        assert self.busy_s(device) == 0.0

    def test_the_plan_is_looked_up_with_it(self):
        free = plan_of(MANIFEST, offload_at(1), exits_run=(False, False))
        device = self.device(replace(free, busy_uplink=BusyUplink(0.025, (), plan_of(MANIFEST, band_edges_s=()).table)))
        self.send(device, 2)
        assert set(device.uploads) == {1}, "with 29 ms left of the first, the second stays"
        assert device.record.task_id == 2
        device.clock.advance(0.05)
        self.send(device)
        assert set(device.uploads) == {1, 3}
