"""Backlog updates: sent when, and only when, they change a decision that is still ahead."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import SEGMENT_S, StepRule, World, ended_task, state
from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable
from twin_service.messages import (
    BacklogInterest,
    BacklogUpdate,
    DeviceHeartbeat,
    PlanMessage,
    ProgressReport,
    StartReport,
    TaskReport,
)
from twin_service.planner import PlannerSettings
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.types import Outcome, Reason

LIMIT_S = 0.2


class PatientWhereTasksWait(StepRule):
    """Offloads below a backlog of 0.5 s, too, where two tasks wait."""

    def table(self, situation: Situation) -> PlanTable:
        table = super().table(situation)
        cells = np.concatenate((table.table, table.table[..., -1:]), axis=-1)
        cells[1:3, :, 2:, 1] = cells[1:3, :, 2:, 0]
        return replace(table, table=cells, band_edges_s=(LIMIT_S, 0.5))


def world_in_service(rule: StepRule | None = None, queue_length: int = 0) -> World:
    """An idle edge, and a device whose task 1 has just started: epochs 1 and 2 at 0.11 and 0.21 s decide by backlog."""
    world = World(rule or StepRule(LIMIT_S))
    world.attach_edge()
    world.attach_device()
    world.say(StartReport(1, world.now_s, queue_length))
    world.take()
    return world


def updates(world: World) -> list[BacklogUpdate]:
    return world.take(BacklogUpdate)


def test_a_backlog_that_changes_a_decision_ahead_is_sent_at_once() -> None:
    world = world_in_service()
    world.edge_reports(0.8)
    (update,) = updates(world)
    assert update.backlog.backlog_s == 0.8


def test_a_backlog_that_changes_no_decision_is_not_sent() -> None:
    world = world_in_service()
    world.edge_reports(0.1)
    world.edge_reports(0.21)  # drained below the limit by the time of epoch 1
    assert updates(world) == []


def test_a_changed_decision_that_costs_too_little_buys_no_message() -> None:
    """By epoch 1 it is a few milliseconds above the limit, which only three samples in five would notice."""
    world = World(StepRule(LIMIT_S), planner=PlannerSettings(update_threshold_s=0.003))
    world.attach_edge()
    world.attach_device()
    world.say(StartReport(1, world.now_s))
    world.take()
    world.edge_reports(0.2208)
    assert updates(world) == []
    world.edge_reports(0.23)
    assert len(updates(world)) == 1


def test_without_a_threshold_every_changed_decision_is_told() -> None:
    world = World(StepRule(LIMIT_S), planner=PlannerSettings(update_threshold_s=0.0))
    world.attach_edge()
    world.attach_device()
    world.say(StartReport(1, world.now_s))
    world.take()
    world.edge_reports(0.2208)
    assert len(updates(world)) == 1


def test_the_same_news_is_not_sent_twice() -> None:
    world = world_in_service()
    world.edge_reports(0.8)
    world.edge_reports(0.85)
    assert len(updates(world)) == 1


def test_a_backlog_that_falls_again_is_sent_again() -> None:
    world = world_in_service()
    world.edge_reports(0.8)
    world.wait(0.02)
    world.edge_reports(0.0)
    assert len(updates(world)) == 2


def test_a_decision_that_lies_behind_buys_nothing() -> None:
    world = world_in_service()
    world.wait(0.22)
    world.edge_reports(0.8)
    assert updates(world) == []


def test_a_task_that_lags_behind_has_its_decisions_ahead_again() -> None:
    world = world_in_service()
    world.wait(0.22)
    world.say(ProgressReport(1, 0, world.now_s))
    world.edge_reports(0.8)
    assert len(updates(world)) == 1


def test_with_a_queue_the_next_start_is_a_decision_ahead() -> None:
    for queue_length, expected in ((0, 0), (1, 1)):
        world = world_in_service(StepRule(LIMIT_S, is_going_on=False), queue_length)
        world.edge_reports(5.0)
        world.take()
        world.wait(0.25)
        world.edge_reports(0.0)
        assert len(updates(world)) == expected


def test_a_queue_that_is_likely_to_grow_counts_before_it_is_reported() -> None:
    """Where two tasks wait, 0.4 s and 0.8 s are not decided alike, though less than one is expected to."""
    for tasks, expected in ((0, 0), (30, 1)):
        world = World(PatientWhereTasksWait(LIMIT_S))
        world.attach_edge(backlog_s=0.4)
        world.attach_device()
        world.say(DeviceHeartbeat(state=state(entered=0)))
        world.wait(10.0)
        world.say(DeviceHeartbeat(state=state(entered=tasks)))
        world.edge_reports(0.4)
        world.say(StartReport(1, world.now_s))
        standing = world.core.devices["cam"].standing
        assert standing is not None
        standing.hears(world.report(0.4).backlog)
        world.take()
        world.edge_reports(0.8)
        assert len(updates(world)) == expected


def test_a_device_without_an_edge_is_told_no_backlog() -> None:
    world = World()
    world.attach_edge(models={"f" * 64: (0.1,) * 3})
    world.attach_device()
    world.say(StartReport(1, world.now_s))
    world.edge_reports(0.8)
    assert updates(world) == []


def test_a_polled_device_is_told_no_backlog() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.say(StartReport(1, world.now_s))
    world.edge_reports(0.8)
    assert updates(world) == []


def test_what_the_edge_told_the_device_in_an_answer_need_not_be_told_again() -> None:
    world = world_in_service()
    world.wait(0.12)
    world.edge_reports(0.9)
    world.take()
    world.wait(0.3)
    answer = ended_task(1, world.now_s - 0.42, outcome=Outcome.EDGE, epochs=1, ended_at_s=world.now_s)
    world.say(TaskReport((answer,), StartReport(2, world.now_s)))
    assert updates(world) == []
    held = world.core.devices["cam"].standing
    assert held is not None
    assert held.held is not None
    assert held.held.at_s == world.now_s


def test_a_refusal_of_the_edge_tells_its_backlog_too() -> None:
    world = world_in_service()
    world.wait(0.3)
    refused = replace(ended_task(1, world.now_s - 0.31), reason=Reason.EDGE_REFUSED)
    world.say(TaskReport((refused,)))
    standing = world.core.devices["cam"].standing
    assert standing is not None
    assert standing.held is not None
    assert standing.held.at_s == pytest.approx(world.now_s)


def test_the_twin_reckons_for_the_device_with_what_the_device_has() -> None:
    """After any course of reports the twin's idea of the device's decision is the device's own decision."""
    rng = np.random.default_rng(3)
    world = world_in_service()
    held = world.core.edges["edge"].reading
    task_id, compared = 1, 0
    for _ in range(200):
        world.wait(float(rng.uniform(0.0, 0.08)))
        if rng.random() < 0.5:
            world.edge_reports(float(rng.uniform(0.0, 0.6)))
        elif rng.random() < 0.5:
            task_id += 1
            world.say(StartReport(task_id, world.now_s))
        for message in world.take():
            if isinstance(message, BacklogUpdate | PlanMessage) and message.backlog is not None:
                held = message.backlog
        device = world.core.devices["cam"]
        assert device.standing is not None
        assert device.standing.held == held
        task = device.status.task
        assert task is not None
        newest = world.core.edges["edge"].reading
        for epoch in (1, 2):
            at_s = task.reached_at_s(epoch)
            is_low = predicted_backlog_s(held, at_s) < LIMIT_S
            if at_s > world.now_s:
                compared += 1
                assert is_low == (predicted_backlog_s(newest, at_s) < LIMIT_S)
            if is_low:
                break  # it offloads there, and nothing of this task is ahead any more
    assert compared > 100


def busy_world(rate_per_s: float, rule: StepRule | None = None) -> World:
    """A device known to get ``rate_per_s`` tasks, idle now, and an edge that reports every 0.1 s."""
    world = World(rule or StepRule(LIMIT_S, is_going_on=False))
    world.attach_edge()
    world.attach_device()
    for k in range(1, 101):
        world.wait(0.1)
        world.edge_reports(0.0)
        world.say(DeviceHeartbeat(state=state(entered=int(k * 0.1 * rate_per_s))))
    world.take()
    return world


def test_an_idle_device_is_told_when_a_task_is_likely_to_start_before_the_next_report() -> None:
    world = busy_world(rate_per_s=10.0)
    world.edge_reports(0.8)
    assert len(updates(world)) == 1


def test_an_idle_device_that_hardly_gets_tasks_is_told_when_one_starts() -> None:
    world = busy_world(rate_per_s=0.1)
    world.edge_reports(0.4)
    assert updates(world) == []
    world.say(StartReport(1, world.now_s))
    assert len(updates(world)) == 0, "its one decision is taken, and the next start is far"
    going_on = busy_world(rate_per_s=0.1)
    going_on.core.planner.rule = StepRule(LIMIT_S)
    going_on.attach_device()
    going_on.take()
    going_on.edge_reports(0.4)
    assert updates(going_on) == []
    going_on.say(StartReport(1, going_on.now_s))
    assert len(updates(going_on)) == 1


def test_an_idle_device_whose_own_reckoning_leaves_the_truth_is_told_when_it_does() -> None:
    """It believes the edge drains while new work keeps coming: no report falls out of its interval, but time does."""
    world = busy_world(rate_per_s=10.0)
    world.edge_reports(0.5)
    assert len(updates(world)) == 1
    world.wait(0.2)
    world.edge_reports(0.48)
    assert updates(world) == []
    world.wait(0.8)
    assert updates(world) == [], "by now it expects 0.22 s itself"
    world.wait(0.2)
    (update,) = updates(world)
    assert update.backlog.backlog_s == 0.48


@pytest.mark.parametrize("limit_s", [0.1, 0.13, 0.17, 0.19, 0.2, 0.23])
def test_an_idle_device_whose_own_reckoning_rises_past_a_break_point_is_told_that_it_is_wrong(limit_s: float) -> None:
    world = busy_world(rate_per_s=10.0, rule=StepRule(limit_s, is_going_on=False))
    for _ in range(2):
        world.edge_reports(0.0, backlog=BacklogState(0.0, world.now_s, mean_s=0.8, time_constant_s=2.0))
        assert updates(world) == []
        world.wait(0.15)
    world.core.devices["cam"].standing.held = BacklogState(0.0, world.now_s - 0.15, mean_s=0.8, time_constant_s=2.0)
    world.say(DeviceHeartbeat(state=state(entered=100)))
    world.edge_reports(0.0, backlog=BacklogState(0.0, world.now_s, mean_s=0.8, time_constant_s=2.0))
    assert updates(world) == []
    world.wait(2.0 * math.log(0.8 / (0.8 - limit_s)) - 0.15 + 0.01)
    assert len(updates(world)) == 1


def test_a_one_time_rule_is_told_only_what_its_next_start_needs() -> None:
    world = world_in_service(StepRule(LIMIT_S, observation=Observation.SERVICE_START))
    world.edge_reports(0.8)
    assert updates(world) == []
    queued = world_in_service(StepRule(LIMIT_S, observation=Observation.SERVICE_START), queue_length=1)
    queued.edge_reports(3.0)
    assert len(updates(queued)) == 1


def test_a_task_that_has_very_likely_left_makes_room_for_the_next() -> None:
    """The plan offloads everybody at epoch 1, so from then on the device waits for a start, not for epoch 2."""
    rule = StepRule(LIMIT_S)
    world = World(rule)
    world.attach_edge()
    world.attach_device()
    device = world.core.devices["cam"]
    assert device.standing is not None
    going_on = np.array(device.standing.points._going_on)
    going_on[1] = (0.0, 1.0)
    device.standing.points._going_on = going_on.data
    world.say(StartReport(1, world.now_s))
    world.take()
    world.wait(0.15)
    world.edge_reports(0.8)
    assert updates(world) == []


def interest_of(world: World, backlog_s: float = 0.0) -> BacklogInterest | None:
    return world.core.edge_said("edge", world.streams["edge"], world.report(backlog_s), world.now_s)


def test_an_edge_is_told_once_up_to_which_backlog_its_devices_decide_by_it() -> None:
    world = World(StepRule(LIMIT_S))
    world.attach_edge()
    assert interest_of(world) is None, "nobody has a plan"
    world.attach_device()
    interest = interest_of(world)
    assert interest is not None
    assert LIMIT_S < interest.ceiling_s < 1.2 * LIMIT_S
    assert interest_of(world) is None


def test_the_device_that_needs_most_counts() -> None:
    world = World(StepRule(LIMIT_S))
    world.attach_edge()
    world.attach_device("low")
    assert interest_of(world) is not None
    world.core.planner.rule = StepRule(2.0 * LIMIT_S)
    world.attach_device("high")
    higher = interest_of(world)
    assert higher is not None
    assert higher.ceiling_s > 2.0 * LIMIT_S
    world.core.detach_device("low", world.streams["low"])
    assert interest_of(world) is None
    world.attach_device("low")
    world.core.detach_device("high", world.streams["high"])
    world.core.planner.rule = StepRule(LIMIT_S)
    world.attach_device("low")
    lower = interest_of(world)
    assert lower is not None
    assert lower.ceiling_s < 1.2 * LIMIT_S


def test_an_edge_learns_that_its_devices_have_become_busy_though_their_plans_stand() -> None:
    world = World(PatientWhereTasksWait(LIMIT_S))
    world.attach_edge()
    world.attach_device()
    calm = interest_of(world)
    assert calm is not None
    assert calm.ceiling_s < 0.5
    world.take()
    for task_id in range(1, 30):
        world.wait(0.4)
        world.say(TaskReport((ended_task(task_id, world.now_s - 0.35),), None, 0, state(entered=task_id)))
    busy = interest_of(world)
    assert world.take(PlanMessage) == [], "the plan that stands is as good as ever"
    assert busy is not None
    assert busy.ceiling_s > 0.5


def test_an_edge_that_attaches_anew_is_told_anew() -> None:
    world = World(StepRule(LIMIT_S))
    world.attach_edge()
    world.attach_device()
    assert interest_of(world) is not None
    world.attach_edge()
    assert interest_of(world) is not None


def test_one_report_looks_only_at_devices_that_it_concerns() -> None:
    world = World()
    world.attach_edge()
    looked: list[str] = []
    for k in range(50):
        world.attach_device(f"d{k}")
        world.say(StartReport(1, world.now_s), f"d{k}")
    original = world.core.work.look
    world.core.work.look = lambda device, now_s: looked.append(device.device_id) or original(device, now_s)
    world.edge_reports(0.05)
    assert looked == []
    world.say(DeviceHeartbeat(), "d7")  # idle, and hardly ever gets a task
    looked.clear()
    world.edge_reports(0.9)
    assert sorted(looked) == sorted(f"d{k}" for k in range(50) if k != 7)


def test_looks_are_done_in_batches() -> None:
    world = World(look_batch=10)
    world.attach_edge()
    for k in range(25):
        world.attach_device(f"d{k}")
        world.say(StartReport(1, world.now_s), f"d{k}")
    world.core.edge_said("edge", world.streams["edge"], world.report(0.9), world.now_s)
    sizes = []
    while world.core.next_due_s() == -math.inf:
        sizes.append(len(world.core.tick(world.now_s)))
    assert sizes == [10, 10, 5]


def test_the_boundaries_used_are_those_of_the_made_up_model() -> None:
    assert sum(SEGMENT_S) == pytest.approx(0.3)
