from dataclasses import replace

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import (
    EDGE_ADDRESS,
    MANIFEST,
    StepRule,
    World,
    ended_task,
    plans,
    state,
)
from twin_service.decision.rules import rule_named
from twin_service.documents import Desired
from twin_service.memory import VolatileMemory
from twin_service.messages import DeviceHeartbeat, LeaseRenewal, PlanMessage, PollRequest, TaskReport, Welcome
from twin_service.planner import Cause, PlannerSettings, _largest_move
from twinsplit.errors import BadMessageError, StaleWriteError, UnknownTwinError
from twinsplit.plan import BusyUplink, Observation, check_plan
from twinsplit.types import Decision


def test_a_device_is_welcomed_asked_for_its_manifest_and_gets_a_plan() -> None:
    world = World()
    world.attach_edge()
    world.attach_device()
    welcome, plan = world.take()
    assert welcome == Welcome(needs_manifest=True, attachment_epoch=1)
    assert isinstance(plan, PlanMessage)
    assert (plan.plan.edge_id, plan.plan.edge_address, plan.plan.rule) == ("edge", EDGE_ADDRESS, "step")
    assert plan.backlog is not None


def test_every_plan_can_be_obeyed_by_its_device() -> None:
    for rule in (
        "multi-step",
        "one-time",
        "device-only",
        "edge-only",
        "static:1",
        "load-only",
        "one-time-threshold:0.9",
    ):
        world = World(rule_named(rule))
        world.attach_device()
        world.attach_edge()
        made = plans(world)
        assert [plan.edge_id for plan in made] == [None, "edge"]
        for plan in made:
            check_plan(plan, MANIFEST)


def test_plan_ids_grow_over_restarts_and_beyond_what_a_device_has_seen() -> None:
    memory = VolatileMemory()
    ids = []
    for last_seen in (0, 0, 700):
        world = World(memory=memory)
        world.attach_device(last_plan_id=last_seen)
        ids += [plan.plan_id for plan in plans(world)]
    assert ids == sorted(set(ids))
    assert ids[-1] == 701


def test_a_plan_is_kept_while_keeping_it_costs_nothing() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.take()
    for k in range(1, 6):
        world.wait(1.0)
        task = ended_task(k, world.now_s - 0.5)
        world.say(TaskReport((task,), state=state(entered=k, goodput_bytes_per_s=1e6 * (1 + 0.02 * k))))
    assert plans(world) == []


def test_a_goodput_that_collapses_brings_a_new_plan_with_its_cause() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    (first,) = plans(world)
    world.wait(1.0)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    (second,) = plans(world)
    assert second.plan_id > first.plan_id
    assert world.core.devices["cam"].document.plan_revisions["goodput"] == 1
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    assert plans(world) == []


def test_a_plan_that_a_high_threshold_does_not_buy_is_not_sent() -> None:
    world = World(rule_named("open-loop"), planner=PlannerSettings(plan_threshold_s=1e9))
    world.attach_edge()
    world.attach_device()
    world.take()
    weighed = world.core.planner.weighed
    world.wait(1.0)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=3e5)))
    assert world.core.planner.weighed == weighed + 1
    assert plans(world) == []


def test_a_device_whose_numbers_jump_is_not_weighed_all_the_time() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    weighed = world.core.planner.weighed
    for k in range(200):
        world.wait(0.01)
        world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=3e5 if k % 2 else 3e6)))
    assert 1 <= world.core.planner.weighed - weighed <= 4


@pytest.mark.parametrize(
    ("whole_s", "before", "now", "is_called_for"),
    [
        (0.1, 1.0, 1.3, False),  # a twentieth of a task more while one is served changes next to nothing
        (0.1, 1.0, 1.5, True),
        (0.1, 1.0, 0.5, True),
        (1.0, 0.5, 0.55, False),
        (1.0, 0.5, 0.65, True),  # a busy device is weighed from a fifth on, as for any other number
    ],
)
def test_a_task_rate_counts_by_what_comes_while_one_is_served(
    whole_s: float, before: float, now: float, is_called_for: bool
) -> None:
    world = World(rule_named("open-loop"))
    world.attach_device()
    s = world.core.planner.situation(world.core.devices["cam"], None, world.now_s)
    s = replace(s, segment_s=(whole_s / 2, whole_s / 2), task_rate_per_s=before)
    assert _largest_move(s, replace(s, task_rate_per_s=now), 0.2) is (Cause.TASK_RATE if is_called_for else None)


def test_what_moves_right_after_a_weighing_is_weighed_when_that_is_no_longer_fresh() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.take()
    world.wait(0.1)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    world.wait(0.39)
    assert plans(world) == [], "not yet"
    world.wait(0.02)
    assert len(plans(world)) == 1, "without another word of the device"


def test_a_device_that_goes_right_after_a_weighing_is_not_considered_again() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    weighed = world.core.planner.weighed
    world.core.detach_device("cam", world.streams["cam"])
    world.wait(2.0)
    assert world.core.planner.weighed == weighed


def test_desired_weights_change_the_plan() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device(goodput_bytes_per_s=1e4)
    world.take()
    version = world.core.device_view("cam", world.now_s).version
    assert world.core.desire("cam", Desired(alpha_s=0.01), version) == version + 1
    world.run()
    assert len(plans(world)) == 1
    assert world.core.devices["cam"].document.plan_revisions["weights"] == 1
    with pytest.raises(StaleWriteError):
        world.core.desire("cam", Desired(alpha_s=1.0), version)
    with pytest.raises(UnknownTwinError):
        world.core.desire("nobody", Desired(), 0)


def test_desired_weights_survive_a_restart() -> None:
    memory = VolatileMemory()
    world = World(memory=memory)
    world.attach_device()
    world.core.desire("cam", Desired(alpha_s=0.5), world.core.device_view("cam", 0.0).version)
    world.core.archive.save()
    again = World(memory=memory)
    assert not again.core.device_view("cam", again.now_s).is_attached
    again.attach_device()
    assert again.core.devices["cam"].weights(again.core.planner.weights).alpha_s == 0.5


def test_silence_is_ended_by_a_renewal_at_half_of_the_lease() -> None:
    world = World()
    world.attach_device()
    world.take()
    world.wait(4.9)
    assert world.take() == []
    world.wait(0.2)
    assert world.take() == [LeaseRenewal()]
    world.wait(5.1)
    assert world.take() == [LeaseRenewal()]


def test_any_message_puts_the_renewal_off() -> None:
    world = World()
    world.attach_device()
    world.take()
    world.wait(4.0)
    world.attach_edge()
    assert len(plans(world)) == 1
    world.wait(4.0)
    assert world.take(LeaseRenewal) == []
    world.wait(1.5)
    assert world.take(LeaseRenewal) == [LeaseRenewal()]


def test_a_polled_device_is_answered_from_the_same_table_with_the_backlog_of_now() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.take()
    world.say(PollRequest(1, 1, 1, 0))
    world.edge_reports(0.9)
    world.say(PollRequest(1, 1, 1, 0))
    world.say(PollRequest(1, 1, 2, 0))
    decisions = [message.decision for message in world.take()]
    assert decisions == [Decision.OFFLOAD_TENSOR, Decision.CONTINUE, Decision.EXIT]


def test_a_polled_device_under_a_one_time_rule_decides_by_what_was_at_its_start() -> None:
    world = World(StepRule(observation=Observation.SERVICE_START))
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.take()
    world.say(PollRequest(1, 0, 0, 0))
    world.edge_reports(0.9)
    world.say(PollRequest(1, 1, 1, 0))
    world.say(PollRequest(2, 0, 0, 0))
    world.say(PollRequest(2, 1, 1, 0))
    decisions = [message.decision for message in world.take()]
    assert decisions == [Decision.CONTINUE, Decision.OFFLOAD_TENSOR, Decision.CONTINUE, Decision.CONTINUE]


def test_a_polled_device_says_how_long_its_uplink_is_busy() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(is_polled=True)
    standing = world.core.devices["cam"].standing
    assert standing is not None
    stays = np.full_like(standing.plan.table, Decision.CONTINUE)
    standing.plan = replace(standing.plan, busy_uplink=BusyUplink(0.03, standing.plan.band_edges_s, stays))
    world.take()
    world.say(PollRequest(1, 1, 1, 0, uplink_busy_s=0.029))
    world.say(PollRequest(1, 1, 1, 0, uplink_busy_s=0.03))
    assert [message.decision for message in world.take()] == [Decision.OFFLOAD_TENSOR, Decision.CONTINUE]


def test_a_poll_that_the_model_cannot_have_is_refused() -> None:
    world = World()
    world.attach_device(is_polled=True)
    with pytest.raises(BadMessageError, match="epoch 7"):
        world.say(PollRequest(1, 7, 0, 0))
