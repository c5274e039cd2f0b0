"""Three twins as real processes under load: one is killed and rejoins, one is lost without a word, load is shared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.light_devices import REPORT_S
from tests.faults.replica_fleet import LEASE_S, PATIENCE_S, ReplicaFleet, running_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEVICES = 24
TASKS = 1000
"""Of the whole fleet, over which messages are counted."""


async def until(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Wait for it; how long it took, seconds."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < patience_s, "it did not come about"
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


def attached_without(fleet: ReplicaFleet, lost: str) -> bool:
    return all(
        device.link.is_attached and device.route.address != lost and device.taken[-1].replica == device.route.address
        for device in fleet.devices
    )


async def assert_in_order(fleet: ReplicaFleet) -> None:
    """No plan of two replicas at once, no task without a plan in force, every device at exactly one replica."""
    assert fleet.disorder() == []
    assert {device.name: device.tasks_without_plan for device in fleet.devices if device.tasks_without_plan} == {}
    await fleet.await_held()


async def test_a_replica_that_is_killed_and_rejoins_moves_only_its_devices_and_no_plan_is_served_twice(
    tmp_path: Path,
) -> None:
    async with running_fleet(tmp_path, twins=3, devices=DEVICES) as fleet:
        await until(lambda: fleet.are_home(fleet.replicas))
        lost = fleet.replicas[0]
        orphans = [device for device in fleet.devices if device.route.address == lost]
        others = [device for device in fleet.devices if device.route.address != lost]
        assert len(orphans) == len(others) / 2
        await asyncio.sleep(2.0 * REPORT_S)

        fleet.twins[lost].kill()
        took_s = await until(lambda: attached_without(fleet, lost))
        assert took_s < LEASE_S, "nobody waits for the end of a lease"
        heirs = [address for address in fleet.replicas if address != lost]
        assert all(device.route.address == fleet.home(device, tuple(heirs)) for device in orphans)
        await asyncio.sleep(1.0)

        fleet.twins[lost].start()
        await until(lambda: fleet.are_home(fleet.replicas))
        await asyncio.sleep(2.0)

        assert {device.link.attached_times for device in others} == {1}, "the others noticed nothing"
        assert {device.route.moves for device in orphans} == {2}, "there and back, once"
        assert all(len({each.replica for each in device.taken}) == 2 for device in orphans)
        await until(lambda: sum(len(device.taken) for device in fleet.devices) > 4 * DEVICES)  # plans go all the while
        await assert_in_order(fleet)


async def test_a_replica_lost_without_a_word_is_left_within_the_lease_and_told_when_it_is_in_reach_again(
    tmp_path: Path,
) -> None:
    """The way is cut so that neither end hears of it: that replica goes on planning for devices that have gone, until
    they tell it."""
    async with running_fleet(tmp_path, twins=2, devices=DEVICES // 2) as fleet:
        await until(lambda: fleet.are_home(fleet.replicas))
        lost = fleet.replicas[0]
        orphans = [device for device in fleet.devices if device.route.address == lost]
        assert len(orphans) == len(fleet.devices) / 2
        assert fleet.links[lost].leave_half_open() == len(orphans)
        took_s = await until(lambda: attached_without(fleet, lost))
        assert took_s < 2.0 * LEASE_S, "nobody waits for keepalive"

        # New connections to it work: the first thing that it hears is where its devices are.
        await until(lambda: not any(device.route.untold for device in orphans))
        assert fleet.links[lost].fired["bytes swallowed"] > 0
        released = await fleet.metric(lost, "twinsplit_devices_released_total")
        assert released == len(orphans)
        await until(lambda: fleet.are_home(fleet.replicas))
        await asyncio.sleep(1.0)
        assert {device.route.moves for device in orphans} == {2}
        await fleet.await_held()
        assert fleet.disorder() == []


async def test_a_second_replica_takes_its_share_of_the_load_off_the_first(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, twins=2, devices=2 * DEVICES, listed=1) as fleet:
        alone, second = fleet.replicas
        await until(lambda: fleet.are_home((alone,)))
        (before,) = await messages_per_task(fleet, (alone,))

        fleet.list(fleet.replicas)
        await until(lambda: fleet.are_home(fleet.replicas))
        after = await messages_per_task(fleet, (alone, second))
        await assert_in_order(fleet)
    print(f"messages per task: {before:.3f} at the one replica, then {after[0]:.3f} and {after[1]:.3f}")
    assert before == pytest.approx(1.0, rel=0.1), "a report for every task, and a little of an idle edge"
    assert [load / before for load in after] == pytest.approx([0.5, 0.5], rel=0.1)


async def messages_per_task(fleet: ReplicaFleet, addresses: tuple[str, ...]) -> list[float]:
    """Messages that each of these takes, over tasks that all of them take: so it does not matter how fast they come."""
    first = [await fleet.heard_and_tasks(address) for address in addresses]
    while True:
        last = [await fleet.heard_and_tasks(address) for address in addresses]
        heard, tasks = np.subtract(last, first).T
        if tasks.sum() >= TASKS:
            return list(heard / tasks.sum())
        await asyncio.sleep(0.2)
