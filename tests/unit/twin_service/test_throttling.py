"""A device that heat slows down is planned for as slow as it is: at once, and once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import SEGMENT_S, World, device_hello, ended_task, state
from twin_service.decision.rules import rule_named
from twin_service.messages import DeviceHeartbeat, DeviceState, PlanMessage, TaskReport

HALF = tuple(2.0 * s for s in SEGMENT_S)
ENCODE_S = {(0, 0): 0.004}
SLOWED = {"is_throttled": True, "speed_share": 0.5}


def world_of(**hello: object) -> World:
    """Open-loop plans, and an edge whose backlog is about worth the rest of the network."""
    world = World(rule_named("open-loop"))
    world.attach_edge(backlog_s=0.3)
    world.attach_device(encode_s=ENCODE_S, **hello)
    world.say(DeviceHeartbeat(state=state(speed_share=hello.get("speed_share", 1.0), is_throttled=False)))
    world.wait(1.0)
    world.take()
    return world


def said(world: World, **changes: object) -> None:
    # A plan is sent when it matters at the backlog that there is now.
    world.edge_reports(0.4)
    world.take()
    world.say(DeviceHeartbeat(state=state(**changes)))


def test_a_plan_changes_as_soon_as_a_device_says_that_it_is_slowed_down() -> None:
    world = world_of()
    before = world.core.devices["cam"].standing.plan
    said(world, **SLOWED)
    (message,) = world.take(PlanMessage)
    assert not (message.plan.band_edges_s == before.band_edges_s and np.array_equal(message.plan.table, before.table))
    # Twice as slow, the edge may be twice as busy and is still worth it.
    assert max(message.plan.band_edges_s) > 1.5 * max(before.band_edges_s)
    assert world.core.devices["cam"].document.plan_revisions["device-profile"] == 1


def test_what_a_slowed_down_device_measures_is_not_slowed_down_again() -> None:
    world = world_of()
    status = world.core.devices["cam"].status
    said(world, **SLOWED)
    assert status.segment_s == pytest.approx(HALF)
    world.wait(1.0)
    world.take()
    # The device's own times have caught up, and hold at the speed that goes with them.
    said(world, **SLOWED, segment_s=HALF, exit_s=(0.02,))
    assert status.segment_s == HALF
    assert status.exit_s == (0.02,)
    said(world, **SLOWED)
    assert status.segment_s == HALF
    world.wait(1.0)
    assert world.take(PlanMessage) == []


def test_the_speed_is_taken_back_when_the_device_has_cooled_down() -> None:
    world = world_of()
    first = world.core.devices["cam"].standing.plan
    said(world, **SLOWED, segment_s=HALF)
    world.wait(1.0)
    assert len(world.take(PlanMessage)) == 1
    said(world, is_throttled=False, speed_share=1.0)
    world.wait(1.0)
    assert world.core.devices["cam"].status.segment_s == pytest.approx(SEGMENT_S)
    (message,) = world.take(PlanMessage)
    assert message.plan.band_edges_s == pytest.approx(first.band_edges_s)


def test_a_device_that_attaches_slowed_down_is_as_slow_as_it_says() -> None:
    world = world_of(segment_s=HALF, speed_share=0.5)
    status = world.core.devices["cam"].status
    assert status.segment_s == HALF
    assert status.encode_s() == ENCODE_S
    said(world, is_throttled=False, speed_share=1.0)
    assert status.segment_s == pytest.approx(SEGMENT_S)
    assert status.encode_s() == {(0, 0): pytest.approx(0.002)}


def test_encoding_slows_down_with_the_rest() -> None:
    world = world_of()
    said(world, **SLOWED)
    device = world.core.devices["cam"]
    situation = world.core.planner.situation(device, world.core.edges["edge"], world.now_s)
    assert situation.encode_s == {(0, 0): pytest.approx(0.008)}


def test_a_device_that_knows_no_speed_is_taken_at_its_word() -> None:
    world = world_of()
    said(world, is_throttled=True)
    assert world.core.devices["cam"].status.segment_s == SEGMENT_S


def test_health_and_the_source_of_energy_are_mirrored() -> None:
    world = world_of()
    health = {"cpu_share": 0.75, "memory_share": 0.5, "temperature_celsius": 81.5, **SLOWED}
    task = ended_task(1, world.now_s - 0.31)
    world.say(TaskReport((task,), state=state(1, **health)))
    fields = {field.name: field for field in world.core.device_view("cam", world.now_s).fields}
    for name, value in health.items():
        assert fields[name].reported == float(value), name
        assert fields[name].age_s == 0.0


def test_what_has_no_sensor_is_never_reported() -> None:
    world = World()
    world.attach_device()
    world.say(DeviceHeartbeat(state=DeviceState()))
    fields = {field.name: field for field in world.core.device_view("cam", world.now_s).fields}
    for name in ("cpu_share", "memory_share", "temperature_celsius", "is_throttled", "speed_share"):
        assert fields[name].reported is None, name
    assert device_hello().speed_share is None
