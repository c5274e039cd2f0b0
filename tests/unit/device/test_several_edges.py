"""Several edges at a device: which one is used, and what becomes of a task that one of them fails."""

from __future__ import annotations

import json

import pytest

from device.breaker import BreakerSettings
from device.reports import TaskReport
from device.status import status_document
from device.status_text import status_text
from device.task import RunSegment
from tests.unit.device.made_up_device import (
    EDGE,
    ENCODE_S,
    SEGMENT_S,
    MadeUpDevice,
    device_with,
    manifest_of,
    offload_at,
    plan_of,
    settings_of,
    whole_answer,
)
from tests.unit.device.test_status import IDENTITY, metrics_of
from twinsplit.edge_list import ListedEdge
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, Outcome, Payload, Reason

MANIFEST = manifest_of()
SECOND = "127.0.0.1:7002"
THIRD = "127.0.0.1:7003"
TAIL_S = (0.008, 0.006, 0.004, 0.002)
LIMIT_S = 0.1
"""Backlog from which the plan of :func:`device_of` no longer offloads."""


def listed(device: MadeUpDevice, *edges: tuple[str, str, float]) -> None:
    """Edges as (name, address, backlog)."""
    device.take(
        device.pipeline.edges_listed(
            device.now_s,
            tuple(
                ListedEdge(name, address, TAIL_S, BacklogState(backlog_s, device.now_s, backlog_s))
                for name, address, backlog_s in edges
            ),
        )
    )


def device_of(*, second_backlog_s: float = 0.0, is_second_connected: bool = True, **changes: object) -> MadeUpDevice:
    """A device whose plan offloads at epoch 2 below :data:`LIMIT_S`, with a second edge in its list."""
    plan = plan_of(
        MANIFEST,
        lambda epoch, evidence, queue, band: Decision.OFFLOAD_TENSOR if epoch == 2 and band == 0 else Decision.CONTINUE,
        exits_run=(False, False),
        band_edges_s=(LIMIT_S,),
    )
    device = device_with(plan, **changes)
    listed(device, ("edge", EDGE, 0.0), ("second", SECOND, second_backlog_s))
    device.take(device.pipeline.edge_connected(device.now_s, EDGE))
    if is_second_connected:
        device.take(device.pipeline.edge_connected(device.now_s, SECOND))
    return device


def offloaded(device: MadeUpDevice) -> MadeUpDevice:
    """With task 1 in flight."""
    device.arrive()
    device.run()
    assert list(device.uploads) == [1]
    return device


def used(device: MadeUpDevice) -> str:
    return device.uploads[1].offload.edge_address


class TestSendingOn:
    @pytest.mark.parametrize("reason", [Reason.EDGE_REFUSED, Reason.EDGE_LOST])
    def test_the_next_edge_gets_the_same_payload_without_another_step(self, reason):
        device = offloaded(device_of())
        first = device.uploads[1].offload
        device.clock.advance(0.01)
        device.take(device.pipeline.upload_failed(device.now_s, 1, reason, EDGE))
        second = device.uploads[1].offload
        assert (first.edge_address, second.edge_address, second.edge_id) == (EDGE, SECOND, "second")
        assert (second.payload, second.cut, second.wire_bytes) == (Payload.TENSOR, 2, 1000)
        assert device.step is None
        assert device.pipeline.kept_tensors == 1
        device.clock.advance(0.02)
        device.answer(1, edge_queue_s=0.003, edge_compute_s=0.002)
        record = device.record
        assert (record.outcome, record.reason, record.degraded) == (Outcome.EDGE, Reason.OFFLOAD_PAYS, False)
        assert (record.edge_id, record.sent_on) == ("second", 1)
        assert record.stages.upload == pytest.approx(0.01 + 0.015), "the time at the first edge is part of it"
        assert record.latency_s == pytest.approx(2 * SEGMENT_S + ENCODE_S + 0.03)
        assert device.pipeline.offloads.sent_on == {reason: 1}
        assert not device.pipeline.offloads.came_back

    def test_everything_in_flight_goes_on_when_the_connection_is_lost(self):
        device = device_of()
        for _ in range(3):
            device.arrive()
        device.run()
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        assert {upload.offload.edge_address for upload in device.uploads.values()} == {SECOND}
        assert sorted(device.uploads) == [1, 2, 3]

    def test_a_late_answer_of_the_first_edge_is_dropped(self):
        device = offloaded(device_of())
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED, EDGE))

        def answer(address: str) -> None:
            device.take(
                device.pipeline.answer_received(
                    device.now_s, 1, whole_answer(), edge_queue_s=0.0, edge_compute_s=0.0, edge_address=address
                )
            )

        answer(EDGE)
        assert not device.records
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED, EDGE))
        assert used(device) == SECOND, "nor does a second refusal of the first one count"
        answer(SECOND)
        answer(EDGE)
        answer(SECOND)
        assert [r.outcome for r in device.records] == [Outcome.EDGE]

    def test_a_task_goes_to_every_edge_once_and_then_resumes_at_its_cut(self):
        device = offloaded(device_of())
        for address in (EDGE, SECOND):
            device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED, address))
        assert isinstance(device.step, RunSegment)
        assert device.step.index == 2
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.EDGE_REFUSED)
        assert (device.record.edge_id, device.record.sent_on, device.record.degraded) == ("second", 1, True)

    def test_it_resumes_where_the_next_edge_is_too_busy_for_the_plan(self):
        device = offloaded(device_of(second_backlog_s=LIMIT_S + 0.01))
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST, EDGE))
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.EDGE_LOST)

    def test_it_resumes_where_the_next_edge_is_not_connected(self):
        device = offloaded(device_of(is_second_connected=False))
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST, EDGE))
        device.run()
        assert device.record.outcome is Outcome.DEVICE

    def test_all_edges_together_have_the_time_of_the_first(self):
        device = offloaded(device_of(settings=settings_of(answer_timeout_s=0.5)))
        device.clock.advance(0.4)
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST, EDGE))
        assert device.uploads[1].budget_s == pytest.approx(0.1)
        device.clock.advance(0.11)
        device.take(device.pipeline.tick(device.now_s))
        device.run()
        assert (device.record.outcome, device.record.reason) == (Outcome.DEVICE, Reason.EDGE_TOO_LATE)
        assert [c.offload.edge_address for c in device.cancelled] == [SECOND]

    def test_it_resumes_where_the_next_edge_would_be_too_late(self):
        device = offloaded(device_of(second_backlog_s=0.05, settings=settings_of(answer_timeout_s=0.5)))
        device.clock.advance(0.46)
        device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_LOST, EDGE))
        assert device.step is not None
        device.run()
        assert device.record.outcome is Outcome.DEVICE


class TestStandingIn:
    def test_while_the_plans_edge_cannot_be_used_tasks_go_to_the_next(self):
        device = device_of()
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        offloaded(device)
        assert used(device) == SECOND
        device.answer(1)
        assert not device.record.degraded

    def test_the_plans_edge_is_used_again_when_it_returns(self):
        device = device_of(settings=settings_of(breaker=BreakerSettings(open_s=0.2)))
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.take(device.pipeline.edge_connected(device.now_s, EDGE))
        offloaded(device)
        assert used(device) == EDGE

    @pytest.mark.parametrize(("backlog_s", "goes"), [(LIMIT_S - 0.01, True), (LIMIT_S + 0.01, False)])
    def test_its_own_backlog_decides(self, backlog_s, goes):
        device = device_of(second_backlog_s=backlog_s)
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.arrive()
        device.run()
        assert (1 in device.uploads) is goes

    def test_a_slower_edge_counts_as_one_with_a_longer_backlog(self):
        device = device_of()
        slow = ListedEdge("second", SECOND, tuple(0.5 + s for s in TAIL_S), BacklogState(0.0, device.now_s))
        plans_own = ListedEdge("edge", EDGE, TAIL_S, BacklogState(0.0, device.now_s))
        device.take(device.pipeline.edges_listed(device.now_s, (plans_own, slow)))
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        assert device.pipeline.offloads.backlog_s(device.now_s, 2) == pytest.approx(0.5)
        device.arrive()
        device.run()
        assert device.record.outcome is Outcome.DEVICE

    def test_the_newest_answer_of_an_edge_tells_its_backlog(self):
        device = device_of()
        busy = BacklogState(0.7, device.now_s, 0.7)
        device.take(device.pipeline.backlog_seen(device.now_s, busy, SECOND))
        assert device.plans.backlog_s(device.now_s) == 0.0, "the plan's edge is another one"
        assert device.pipeline.offloads.edges.backlog_s(SECOND, device.now_s) == pytest.approx(0.7)

    def test_without_a_list_there_is_the_plans_edge_only(self):
        device = device_with(plan_of(MANIFEST, offload_at(2), exits_run=(False, False)))
        device.take(device.pipeline.edge_connected(device.now_s, SECOND))
        device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
        device.arrive()
        device.run()
        assert device.record.reason is Reason.BREAKER_OPEN

    def test_a_fixed_edge_stays_the_only_one(self):
        device = device_of(fixed_edge_address=THIRD)
        assert device.pipeline.offloads.target(device.now_s) == THIRD


class TestTheList:
    def test_an_edge_that_is_gone_leaves_nothing_behind(self):
        device = device_of()
        offloads = device.pipeline.offloads
        for number in range(50):
            address = f"127.0.0.1:{8000 + number}"
            listed(device, ("edge", EDGE, 0.0), (f"edge-{number}", address, 0.0))
            device.take(device.pipeline.edge_connected(device.now_s, address))
        assert set(offloads.breakers) == {EDGE, address}
        assert offloads.addresses() == {EDGE, address}

    def test_an_edge_stays_connected_while_something_is_in_flight_there(self):
        device = offloaded(device_of())
        device.take(device.pipeline.plan_received(device.now_s, plan_of(MANIFEST, plan_id=2, edge_id=None), None))
        listed(device)
        assert device.pipeline.offloads.addresses() == {EDGE}
        device.answer(1)
        assert device.pipeline.offloads.addresses() == set()

    def test_every_way_has_its_own_goodput_and_round_trip(self):
        device = device_of()
        device.tracker.round_trip_measured(0.010, EDGE)
        device.tracker.round_trip_measured(0.030, SECOND)
        offloaded(device)
        device.clock.advance(0.060)
        device.answer(1, edge_queue_s=0.0, edge_compute_s=0.0)
        first, second = device.pipeline.offloads.links(device.now_s)
        assert (first.edge_id, first.round_trip_s, first.is_reachable) == ("edge", 0.010, True)
        assert first.goodput_bytes_per_s == pytest.approx(1000 / 0.050)
        assert (second.edge_id, second.goodput_bytes_per_s, second.round_trip_s) == ("second", None, 0.030)
        assert device.tracker.goodput_to(SECOND) == pytest.approx(1000 / 0.050), "until it is measured"

    def test_the_twin_is_told_of_a_way_when_it_has_moved(self):
        device = device_of()
        device.tracker.round_trip_measured(0.030, SECOND)

        def told() -> list[tuple[str, bool]]:
            device.arrive()
            device.run()
            device.answer(device.pipeline.outcomes.entered)
            report = device.reports[-1]
            assert isinstance(report, TaskReport)
            return [(link.edge_id, link.is_reachable) for link in report.state.links]

        device.take(device.pipeline.twin_attached(device.now_s, 5.0))
        assert told() == [("edge", True)], "its goodput, just measured; the second's was told at attachment"
        assert told() == []
        device.take(device.pipeline.edge_disconnected(device.now_s, SECOND))
        assert told() == [("second", False)]


def test_status_and_its_text_show_every_way():
    device = device_of(second_backlog_s=0.04)
    device.tracker.round_trip_measured(0.003, SECOND)
    offloaded(device)
    device.take(device.pipeline.upload_failed(device.now_s, 1, Reason.EDGE_REFUSED, EDGE))
    device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
    status = status_document(device.pipeline, device.now_s, IDENTITY)
    assert json.loads(json.dumps(status)) == status
    assert status["edge"]["sent_on"] == {"edge-refused": 1}
    ways = [(way["edge"], way["is_used"], way["is_connected"], way["breaker"]) for way in status["edges"]]
    assert ways == [("edge", False, False, "open"), ("second", True, True, "closed")]
    text = status_text(status)
    assert "1 sent on to the next edge" in text
    assert f"  edge ({EDGE}): stands by, NOT connected, breaker open, backlog 0.000 s\n" in text
    assert f"  second ({SECOND}): used now, connected, breaker closed, backlog 0.040 s, round trip 3 ms\n" in text


def test_metrics_of_ways_are_labelled_by_place():
    device = device_of()
    device.tracker.round_trip_measured(0.003, SECOND)
    device.take(device.pipeline.edge_disconnected(device.now_s, EDGE))
    metrics = metrics_of(device)
    reachable = {labels: value for (name, labels), value in metrics.items() if name == "twinsplit_edge_reachable"}
    assert reachable == {(("place", "1"),): 0.0, (("place", "2"),): 1.0}
    assert metrics["twinsplit_edge_round_trip_seconds", (("place", "2"),)] == pytest.approx(0.003)
