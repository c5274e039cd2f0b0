"""Device, edge and real engines: the same answers as by the edge itself, also when an engine is killed under load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.engines.mlserver import running_mlserver
from benchmarks.engines.server import EngineServer
from benchmarks.engines.triton import running_triton
from edge.service import EdgeService
from tests.integration.device_bench import running_device, running_edge, until, write_frames
from tests.unit.device.made_up_device import offload_at
from twinsplit.model.manifest import read_manifest
from twinsplit.types import Outcome, Reason, TaskRecord

Start = Callable[[Path], AbstractContextManager[EngineServer]]
pytestmark = pytest.mark.timeout(300)
UNDER_WAY = 40
IN_FLIGHT = 4
TAILS = "twinsplit_engine_tails_total"
IN_FLIGHT_NOW = "twinsplit_engine_tails_in_flight"
READY = "twinsplit_engine_ready"
PATIENT = {"kept_tensors": 256, "answer_timeout_s": 60.0, "queue_capacity": 256}
"""Nothing but an engine may make a task end elsewhere."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames"), 12).iterdir())


def of_server(edge: EdgeService, server: EngineServer, name: str, outcome: str = "") -> float:
    """A metric of ``server`` at ``edge``."""
    labels = {"back_end": server.address} | ({"outcome": outcome} if outcome else {})
    found = [value for metric, given, value in edge.executor.samples() if (metric, given) == (name, labels)]
    return float(found[0]) if found else 0.0


async def records_by(model: Path, frames: list[Path], cut: int, **edge_settings: object) -> list[TaskRecord]:
    async with running_edge(model, **edge_settings) as edge, running_device(model, **PATIENT) as device:
        device.plan(offload_at(cut), edge.address, representation=0)
        await device.submit(frames)
        return sorted(await device.ended(len(frames)), key=lambda record: str(record.frame))


@pytest.mark.parametrize("engine", ["triton", "mlserver"])
async def test_every_tail_of_an_engine_answers_as_the_edge_itself(
    engine: str, model: Path, frames: list[Path], request: pytest.FixtureRequest
) -> None:
    server: EngineServer = request.getfixturevalue(engine)
    for cut in range(read_manifest(model)[0].segment_count):
        found = await records_by(model, frames, cut, engine=f"oip://{server.address}")
        expected = await records_by(model, frames, cut)
        ended = Counter((record.outcome, record.stop_epoch, record.reason) for record in found)
        assert ended == {(Outcome.EDGE, cut, Reason.OFFLOAD_PAYS): len(frames)}
        assert [record.label for record in found] == [record.label for record in expected]
        confidences = [record.confidence for record in expected]
        assert [record.confidence for record in found] == pytest.approx(confidences, abs=1e-5)


@pytest.mark.parametrize("killed", ["triton", "mlserver"])
async def test_an_engine_killed_under_load_costs_no_task(
    killed: str,
    model: Path,
    repository: Path,
    tails: Path,
    frames: list[Path],
    triton: EngineServer,
    tmp_path: Path,
) -> None:
    starts: dict[str, Start] = {
        "triton": lambda place: running_triton(repository, place),
        "mlserver": lambda place: running_mlserver(tails, place),
    }
    expected = {record.frame: record.label for record in await records_by(model, frames, 0)}
    with starts[killed](tmp_path) as victim:
        engine = f"oip://{victim.address},{triton.address}"
        async with (
            running_edge(model, engine=engine, queue_capacity=256, engine_in_flight=IN_FLIGHT) as edge,
            running_device(model, **PATIENT) as device,
        ):
            # The whole network runs at the engines, so that they are what everything waits for.
            device.plan(offload_at(0), edge.address, representation=0)
            submitted, is_enough = 0, asyncio.Event()

            async def offer() -> None:
                nonlocal submitted
                while not is_enough.is_set():
                    if submitted - len(device.records) < UNDER_WAY:
                        await device.submit([frames[submitted % len(frames)]])
                        submitted += 1
                    await asyncio.sleep(0.001)

            offering = asyncio.ensure_future(offer())
            try:
                await until(lambda: min(of_server(edge, each, TAILS, "finished") for each in (victim, triton)) >= 10)
                # It answers nothing more, so that what it has at its end is sure not to be answered.
                os.killpg(victim.process.pid, signal.SIGSTOP)
                await until(lambda: of_server(edge, victim, IN_FLIGHT_NOW) >= 1)
                victim.kill()
                since = submitted
                await until(lambda: submitted >= since + UNDER_WAY)
            finally:
                is_enough.set()
                await offering
            records = await device.ended(submitted)
            assert of_server(edge, victim, TAILS, "moved") >= 1, "it died with tails"
            await until(lambda: of_server(edge, triton, READY) == 1.0)
            await until(lambda: of_server(edge, victim, READY) == 0.0)
    assert Counter((record.outcome, record.reason) for record in records) == {
        (Outcome.EDGE, Reason.OFFLOAD_PAYS): submitted
    }
    assert sorted(record.task_id for record in records) == list(range(1, submitted + 1))
    assert all(record.label == expected[record.frame] for record in records)
