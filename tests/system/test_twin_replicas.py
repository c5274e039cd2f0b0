"""Two real twin services on one real PostgreSQL: one learns and both serve it, devices move, each part is killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.test_twin_process import TwinProcess, attach_and_end_a_task, running_twin, twinsplit
from tests.integration.test_twin_streams import Peer, attached_device, attached_edge
from tests.system.postgres_server import PASSWORD, PostgresServer, postgres
from tests.unit.learning.made_up_tasks import made_up_tasks
from tests.unit.twin_service.made_up_twins import DIGEST
from twin_service.store.postgres import PostgresStore
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import plan_from_wire
from twinsplit.types import Decision

pytestmark = [pytest.mark.needs("postgresql"), pytest.mark.timeout(600)]

_NUMBERS = itertools.count(1)
_LEARNT_WITHIN_S = 300.0
"""A lesson is 10 s of one core, on a machine that may have other work."""
_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> str:
    return server.new_database(f"replicas_{next(_NUMBERS)}")


@pytest.fixture
def replicas(address: str, tmp_path: Path) -> Iterator[list[TwinProcess]]:
    """The first one is there when the second one starts, so it learns."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_twin(tmp_path / name, "--store", address, "--save-s", "0.2", "--learning-share", "0.9")
            )
            for name in ("first", "second")
        ]


def metric(twin: TwinProcess, name: str) -> float | None:
    """Of the one series of that name; ``None``: there is none."""
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", twin.get("/metrics"), re.MULTILINE)
    return None if found is None else float(found[1])


async def until(condition: Callable[[], bool], patience_s: float, what: str) -> None:
    until_s = time.monotonic() + patience_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < until_s, f"after {patience_s:g} s: not {what}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def device_at(twin: TwinProcess, device_id: str = "cam") -> AsyncIterator[tuple[Peer, object]]:
    async with open_channel(twin.address) as channel:
        await attached_edge(channel)
        yield await attached_device(channel, device_id=device_id)


def kept_outcomes(server: PostgresServer, address: str, device_id: str) -> list[tuple[object, ...]]:
    """Tasks of a device that ended on it, as the database has them."""
    outcomes = "SELECT json::json -> 'outcomes' ->> 'device' FROM twinsplit.documents WHERE device_id = %s"
    return server.run(outcomes, device_id, database=address.rpartition("/")[2])


def replay_of_others(address: str, count: int, seed: int) -> None:
    """A third replica keeps tasks in which offloading brought 0.8 s less than open-loop believes."""
    with contextlib.closing(PostgresStore(address, is_candidate=False)) as store:
        # In one go: a lesson from the first few of them would promote nothing, and the next waits for as many again.
        store.keep_replay(made_up_tasks(count, seed=seed, model_digest=DIGEST, epochs=4, offload_bias_s=-0.8))
        assert len(store.replay(DIGEST, 10_000)) >= count


def versions(twin: TwinProcess) -> list[tuple[int, str]]:
    done = twin.command("weights", "--json")
    assert done.returncode == 0, done.stderr
    return [(each["version"], each["state"]) for each in json.loads(done.stdout)]


async def test_one_learns_both_serve_it_and_when_it_is_killed_the_other_takes_over(
    replicas: list[TwinProcess], address: str
) -> None:
    learner, other = replicas
    await until(lambda: metric(learner, "twinsplit_is_learner") == 1.0, _PATIENCE_S, "one learns")
    assert metric(other, "twinsplit_is_learner") == 0.0
    async with device_at(learner) as (_, plan), device_at(other, "dock") as (dock, dock_plan):
        assert plan_from_wire(plan).decision(0, 0, 0, 0.0).is_offload
        before = plan_from_wire(dock_plan)
        assert before.decision(0, 0, 0, 0.0).is_offload
        # The learner replays nothing itself: all that it learns from was kept by somebody else. Its first lesson begins
        # once it has read some of them, and may be refused for that; there are enough for others.
        await asyncio.to_thread(replay_of_others, address, 1000, 0)
        await until(lambda: (metric(learner, "twinsplit_weights_version") or 0.0) > 0.0, _LEARNT_WITHIN_S, "learnt")
        version = metric(learner, "twinsplit_weights_version")
        await until(lambda: metric(other, "twinsplit_weights_version") == version, _PATIENCE_S, "served by the other")
        assert metric(other, "twinsplit_lessons_total") == 0.0
        assert re.search(r'weights_results_total\{result="adopted"\} 1.0', other.get("/metrics"))
        serving = (int(version or 0), "serving")
        assert (await asyncio.to_thread(versions, other))[-1] == serving
        after = plan_from_wire(await dock.hear("plan"))
        assert after.plan_id > before.plan_id
        assert after.decision(0, 0, 0, 0.0) is Decision.CONTINUE
    learner.process.kill()
    await until(lambda: metric(other, "twinsplit_is_learner") == 1.0, _PATIENCE_S, "taken over")
    # It goes on from the tasks of all, with the weights that serve as those to be better than.
    await until(lambda: (metric(other, "twinsplit_lessons_total") or 0.0) >= 1.0, _PATIENCE_S, "begun to learn")
    assert serving in await asyncio.to_thread(versions, other)


async def test_a_device_that_moved_is_known_there_and_its_old_replica_lets_it_go(
    replicas: list[TwinProcess], server: PostgresServer, address: str, tmp_path: Path
) -> None:
    first, second = replicas
    plan_id = await attach_and_end_a_task(first.address, "cam")
    await until(lambda: kept_outcomes(server, address, "cam") == [("1",)], _PATIENCE_S, "kept")
    async with device_at(second) as (_, plan):
        shown = await asyncio.to_thread(second.command, "show", "cam")
        assert "1 tasks ended: device 100%" in shown.stdout
        assert plan.plan_id > plan_id
        await until(lambda: first.command("show", "cam").returncode == 9, _PATIENCE_S, "let go")
        # What was recorded at one replica is exported by any.
        folders = (str(tmp_path / f"out-{number}") for number in itertools.count())
        await until(
            lambda: "1 documents, 1 tasks" in second.command("export", next(folders)).stdout, _PATIENCE_S, "exported"
        )
        # What happened elsewhere is not counted twice.
        assert 'twinsplit_tasks_reported_total{outcome="device"} 0.0' in second.get("/metrics")
        assert 'twinsplit_tasks_reported_total{outcome="device"} 1.0' in first.get("/metrics")
    async with device_at(first):
        assert "1 tasks ended: device 100%" in (await asyncio.to_thread(first.command, "show", "cam")).stdout


async def test_a_lost_database_stops_no_plan_and_what_was_not_kept_is_kept_when_it_is_back(
    replicas: list[TwinProcess], server: PostgresServer, address: str
) -> None:
    first, second = replicas

    def kept(device_id: str) -> object:
        return kept_outcomes(server, address, device_id)

    await attach_and_end_a_task(first.address, "dock")
    await until(lambda: kept("dock") == [("1",)], _PATIENCE_S, "kept")
    async with AsyncExitStack() as stack:
        device, _ = await stack.enter_async_context(device_at(first))
        server.stop()
        try:
            await until(lambda: metric(first, "twinsplit_store_degraded") == 1.0, _PATIENCE_S, "noticed")
            await until(lambda: metric(first, "twinsplit_is_learner") == 0.0, _PATIENCE_S, "deposed")
            await end_a_task(device)
            # It comes while nobody can be asked what is known of it.
            dock, plan = await stack.enter_async_context(device_at(second, "dock"))
            assert plan.plan_id > 0
            await end_a_task(dock)
            assert first.get("/readyz") == "ok\n"
        finally:
            server.start()
        await until(lambda: metric(first, "twinsplit_store_degraded") == 0.0, _PATIENCE_S, "back")
        assert (metric(first, "twinsplit_store_errors_total") or 0.0) >= 1.0
        await until(lambda: kept("cam") == [("1",)], _PATIENCE_S, "kept")
        await until(lambda: kept("dock") == [("2",)], _PATIENCE_S, "added to what was kept before")
        await until(
            lambda: sum(metric(twin, "twinsplit_is_learner") or 0.0 for twin in replicas) == 1.0,
            _PATIENCE_S,
            "one learns",
        )


async def end_a_task(device: Peer) -> None:
    await device.say(task=twin_pb2.TaskReport(ended=[_ended_task()]))
    await device.say(poll=twin_pb2.PollRequest(task_id=2))
    await device.hear("poll")


def _ended_task() -> twin_pb2.EndedTask:
    return twin_pb2.EndedTask(
        task_id=1,
        outcome=twin_pb2.OUTCOME_DEVICE,
        reason="not-worth-it",
        started_age_s=0.31,
        arrived_age_s=0.31,
        epoch_s=[0.11, 0.21, 0.31],
        stop_epoch=3,
        evidence=1,
    )


def test_what_cannot_be_used_is_one_line_with_its_cure_and_never_a_password(
    server: PostgresServer, address: str, tmp_path: Path
) -> None:
    with contextlib.closing(PostgresStore(address)):
        pass
    server.run("UPDATE twinsplit.version SET number = 99", database=address.rpartition("/")[2])
    secret = "pa55w0rd"
    for store, exit_code, named in (
        (address, 7, "schema version 99"),
        (server.address(password=secret), 7, "password authentication failed"),
        (server.address("nowhere"), 7, "does not exist"),
        (f"postgresql://postgres:{secret}@127.0.0.1:1/x", 7, "refused"),
        (f"postgresql://u:{secret}@x@127.0.0.1/x", 2, "%40"),
    ):
        base = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--state", str(tmp_path)]
        done = twinsplit("twin", "serve", *base, "--store", store)
        assert (done.returncode, named in done.stderr) == (exit_code, True), (store, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert secret not in done.stderr
        assert PASSWORD not in done.stderr
