"""Plans of many devices: in batches, and those that fall due together."""

from tests.unit.twin_service.made_up_twins import (
    World,
    device_hello,
    plans,
    state,
)
from twin_service.decision.rules import rule_named
from twin_service.messages import DeviceHeartbeat


def test_many_devices_are_planned_in_batches() -> None:
    world = World(plan_batch=4)
    world.attach_device("d0")
    world.take()
    for k in range(1, 10):
        world.core.attach_device(device_hello(f"d{k}"), world.now_s)
    sizes = []
    while world.core.next_due_s() <= world.now_s:
        sizes.append(len(world.core.tick(world.now_s)))
    assert sizes == [4, 4, 1]


def moved(world: World, *device_ids: str) -> int:
    """Has the goodput of these devices collapse: how many are planned at once."""
    weighed = world.core.planner.weighed
    for device_id in device_ids:
        world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)), device_id)
    return world.core.planner.weighed - weighed


def paused_world(devices: int, **settings: object) -> World:
    """Devices that were planned a while ago, in a core that pauses between plannings."""
    world = World(rule_named("open-loop"), plan_pause_s=0.1, **settings)
    world.attach_edge()
    for k in range(devices):
        world.attach_device(f"d{k}")
    world.wait(1.0)
    world.take()
    return world


def test_plans_that_fall_due_within_a_pause_are_made_together_at_its_end() -> None:
    world = paused_world(4)
    assert moved(world, "d0") == 1, "nobody was planned just before"
    world.wait(0.02)
    assert moved(world, "d1", "d2", "d3") == 0
    world.wait(0.07)
    assert len(plans(world)) == 1
    world.wait(0.02)
    assert len(plans(world)) == 3
    assert world.core.next_due_s() > world.now_s


def test_a_pause_ends_for_a_whole_batch() -> None:
    world = paused_world(5, plan_batch=3)
    moved(world, "d0")
    assert moved(world, "d1", "d2") == 0
    assert moved(world, "d3") == 3
    assert moved(world, "d4") == 0


def test_no_device_is_kept_without_a_plan_or_with_an_edge_that_is_gone_by_a_pause() -> None:
    world = paused_world(2)
    moved(world, "d0")
    world.take()
    world.attach_device("new")
    (plan,) = plans(world)
    assert plan.edge_id == "edge"
    world.core.detach_edge("edge", world.streams["edge"])
    world.run()
    assert [plan.edge_id for plan in plans(world)] == [None] * 3
