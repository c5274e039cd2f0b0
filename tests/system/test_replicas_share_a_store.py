"""Three twins on one PostgreSQL under load, one killed and back: devices bring what is known of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.faults.replica_fleet import PATIENCE_S, ReplicaFleet, running_fleet
from tests.system.postgres_server import postgres
from twin_service.store.postgres import PostgresStore

pytestmark = [pytest.mark.needs("postgresql"), pytest.mark.timeout(180)]

AT_ONCE = 6
DEVICES = 24
LATE_TASKS = 8
"""Of any device: on the way."""
LOST_TASKS = 8
"""Of a device whose replica was killed: reported in the last moments, and not kept yet."""


async def until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until_s, "it did not come about"
        await asyncio.sleep(0.05)


async def test_devices_of_a_killed_replica_bring_their_documents_there_and_back(tmp_path: Path) -> None:
    with postgres() as server:
        store = server.new_database("replicas")
        async with running_fleet(tmp_path, twins=3, devices=DEVICES, store=store) as fleet:
            await until(lambda: fleet.are_home(fleet.replicas))
            # Far more of them than may be missing later.
            await until(lambda: min(device.tasks for device in fleet.devices) > 2 * (LATE_TASKS + LOST_TASKS))
            lost = fleet.replicas[0]
            orphans = {device.name for device in fleet.devices if device.route.address == lost}
            assert 0 < len(orphans) < DEVICES
            fleet.twins[lost].kill()
            await until(lambda: away_from(fleet, lost))
            await assert_known(fleet, orphans)
            await asyncio.to_thread(fleet.twins[lost].start)
            await until(lambda: fleet.are_home(fleet.replicas))
            await assert_known(fleet, orphans)
            await fleet.await_held()
            assert fleet.disorder() == []


def away_from(fleet: ReplicaFleet, lost: str) -> bool:
    return all(d.link.is_attached and d.route.address != lost for d in fleet.devices)


async def assert_known(fleet: ReplicaFleet, orphans: set[str]) -> None:
    """Every task of a device is on record where the device is, but for the last ones and those lost, and none twice."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        # What is missing for good is missing as well when both have grown.
        due = {d.name: d.tasks - LATE_TASKS - LOST_TASKS * (d.name in orphans) for d in fleet.devices}
        reported = await fleet.reported()
        most = {device.name: device.tasks for device in fleet.devices}
        assert {name: count for name, count in reported.items() if count > most[name]} == {}
        if all(reported.get(name, 0) >= count for name, count in due.items()):
            return
        assert time.monotonic() < until_s, (due, reported)
        await asyncio.sleep(0.1)


def test_replicas_that_start_at_once_make_the_tables_of_a_new_database_once() -> None:
    def opened(address: str, at_once: Barrier) -> None:
        at_once.wait()
        with contextlib.closing(PostgresStore(address, is_candidate=False)) as store:
            assert store.documents() == []

    with postgres() as server, ThreadPoolExecutor(AT_ONCE) as threads:
        for number in range(4):
            address, at_once = server.new_database(f"new_{number}"), Barrier(AT_ONCE)
            for done in [threads.submit(opened, address, at_once) for _ in range(AT_ONCE)]:
                done.result(PATIENCE_S)
