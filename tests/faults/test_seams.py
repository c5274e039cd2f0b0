"""Faults through doors that the code has anyway: its clock, its sensors' folder, its session."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.service import start_device
from device.settings import DeviceSettings
from edge.service import start_edge
from edge.settings import EdgeSettings
from tests.faults.catalogue import Fault, has_not_fired
from tests.integration.device_bench import ANY_PORT, running_device, until, write_frames, write_network
from tests.unit.device.recorded_sensors import copied
from twin_service.service import start_twin
from twin_service.settings import TwinSettings
from twinsplit.clock import SystemClock
from twinsplit.errors import ComputeError
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.types import Decision, Outcome, Reason, TaskRecord

pytestmark = pytest.mark.slow

HOUR_NS = 3_600 * 10**9
"""Far less than a jump, and more than any machine is late."""
DAY_NS = 24 * HOUR_NS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


class JumpingClock(SystemClock):
    """The system's clocks, with a wall clock that can be moved."""

    def __init__(self) -> None:
        self.jump_ns = 0
        self.jumped_reads = 0

    def unix_ns(self) -> int:
        self.jumped_reads += self.jump_ns != 0
        return super().unix_ns() + self.jump_ns


async def test_a_wall_clock_that_jumps_changes_no_duration_and_no_outcome(
    model: Path, frames: list[Path], tmp_path: Path
) -> None:
    clock = JumpingClock()
    records: list[TaskRecord] = []
    async with AsyncExitStack() as running:
        twin = await start_twin(
            TwinSettings(listen=ANY_PORT, http_listen=ANY_PORT, state=tmp_path, rule="edge-only", save_s=0.05),
            clock=clock,
        )
        running.push_async_callback(twin.stop)
        edge = await start_edge(
            EdgeSettings(models=model, listen=ANY_PORT, http_listen=ANY_PORT, twin=twin.address, drain_s=0.0),
            clock=clock,
        )
        running.push_async_callback(edge.stop)
        device = await start_device(
            DeviceSettings(
                model=model,
                listen=ANY_PORT,
                http_listen=ANY_PORT,
                twin=twin.address,
                energy="model",
                answer_timeout_s=60.0,
            ),
            clock=clock,
        )
        running.push_async_callback(device.stop)

        async def ended(count: int) -> list[TaskRecord]:
            first = len(records)
            for path in frames[:count]:
                await device.submit(
                    path.name, path.read_bytes(), lambda record, answer, problem: records.append(record)
                )
            await until(lambda: len(records) == first + count)
            return records[first:]

        await until(lambda: device.status()["plan"]["in_force"] and device.status()["edge"] is not None)
        await until(lambda: device.status()["edge"]["breaker"] == "closed")
        for jump_ns in (0, DAY_NS, -DAY_NS):
            clock.jump_ns = jump_ns
            seen_ns = twin.exchange.described("device").unix_ns
            assert abs(seen_ns - SystemClock().unix_ns() - jump_ns) < HOUR_NS, "the services do not see the jump"
            found = await ended(3)
            assert {record.outcome for record in found} == {Outcome.EDGE}
            assert max(record.latency_s for record in found) < HOUR_NS / 1e9
            assert device.status()["plan"]["in_force"]
    assert clock.jumped_reads > 0, has_not_fired(Fault.CLOCK_JUMP)
    assert device.summary()["entered"] == len(records) == 9


async def test_a_sensor_that_vanishes_while_tasks_run_costs_their_energy_and_nothing_else(
    model: Path, frames: list[Path], tmp_path: Path
) -> None:
    sysfs = copied("ina226", tmp_path).sysfs
    power = sysfs / "class/hwmon/hwmon1/power1_input"
    power.write_text("2000000\n")
    async with running_device(model, energy="ina", sysfs=sysfs, energy_interval_s=0.01) as bench:
        bench.plan(lambda *cell: Decision.CONTINUE, None)
        await bench.submit(frames[:3])
        power.unlink()
        await bench.submit(frames[:3])
        await until(lambda: not bench.device.status()["energy"]["meter"]["is_up"])
        losses = bench.device.status()["energy"]["meter"]["losses"]
        await bench.submit(frames[:1])
        records = await bench.ended(7)
    assert losses > 0, has_not_fired(Fault.SENSOR_LOST)
    assert [record.outcome for record in records] == [Outcome.DEVICE] * 7
    assert records[-1].energy_joules is None
    assert bench.device.summary()["entered"] == 7


async def test_a_session_that_fails_fails_its_task_and_no_other(
    model: Path, frames: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_segment = SegmentRuntime.run_segment
    failures = 0

    def failing(runtime: SegmentRuntime, index: int, tensor: np.ndarray) -> Any:
        nonlocal failures
        if index == 1 and bench.device.status()["entered"] % 2 == 0:
            failures += 1
            raise ComputeError("out of memory")
        return run_segment(runtime, index, tensor)

    async with running_device(model) as bench:
        monkeypatch.setattr(SegmentRuntime, "run_segment", failing)
        bench.plan(lambda *cell: Decision.CONTINUE, None)
        for number, path in enumerate(frames[:4], 1):
            await bench.submit([path])
            await bench.ended(number)
    assert failures > 0, has_not_fired(Fault.SESSION_FAILS)
    right, wrong = (Outcome.DEVICE, Reason.NO_EDGE_HOLDS_MODEL), (Outcome.FAILED, Reason.COMPUTE_ERROR)
    assert [(record.outcome, record.reason) for record in bench.records] == [right, wrong] * 2
    assert bench.device.summary() == {"entered": 4, "edge": 0, "exit": 0, "device": 2, "dropped": 0, "failed": 2}
