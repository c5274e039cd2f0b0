"""A device with a meter: a recorded machine whose power the test moves with what the device does. No real sensor."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from device.compute import Engine
from device.task_records import task_record_schema
from tests.integration.device_bench import DeviceBench, running_device, until, write_frames, write_network
from tests.unit.device.recorded_sensors import copied
from twinsplit.model.profile import Powers, measure_profile, save_profile
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.telemetry.exposition import StateCollector
from twinsplit.types import Decision

pytestmark = pytest.mark.slow

POWER = "class/hwmon/hwmon1/power1_input"
IDLE_WATTS, BUSY_WATTS = 2.0, 6.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


def written_profile(model: Path, path: Path, powers: Powers | None = None) -> Path:
    """A millisecond for every segment, exit and encoder."""
    runtime = SegmentRuntime.load(model)
    profile = measure_profile(runtime, 3)
    even = {"segment_s": (0.001,) * len(profile.segment_s), "exit_s": (0.001,), "encode_s": {(0, 0): 0.001}}
    save_profile(replace(profile, **even, powers=powers), path)
    return path


class Supply:
    """Writes the power of the recorded sensor as the device computes or not, until stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine | None = None
        self.is_plugged = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.002):
            engine = self.engine
            is_busy = engine is not None and engine.look(lambda pipeline, now_s: pipeline.in_service is not None)
            if not self.is_plugged:
                self.path.unlink(missing_ok=True)
                continue
            new = self.path.with_name("new")
            new.write_text(f"{round(1e6 * (BUSY_WATTS if is_busy else IDLE_WATTS))}\n")
            # A reader must never find half a file, as it never does in sysfs.
            os.replace(new, self.path)


@pytest.fixture
def supply(tmp_path: Path):
    sysfs = copied("ina226", tmp_path).sysfs
    (sysfs / POWER).write_text("2000000\n")
    supply = Supply(sysfs / POWER)
    yield supply
    supply.stop()


def metrics(bench: DeviceBench) -> dict[tuple[str, str], float]:
    collector = StateCollector("device", bench.device.shell.samples)
    return {
        (sample.name, sample.labels.get("part", "")): sample.value
        for family in collector.collect()
        for sample in family.samples
        if "energy" in sample.name or "power" in sample.name
    }


async def test_energy_of_tasks_comes_from_the_meter_is_unknown_without_it_and_comes_back(model, frames, supply, caplog):
    caplog.set_level(logging.INFO, logger="twinsplit.energy")
    sysfs = supply.path.parents[3]
    # An emulated device has no meter unless one is named; here each step lasts 0.1 s, so that the meter sees it.
    changes = {"energy": "ina", "sysfs": sysfs, "energy_interval_s": 0.01, "emulate_slowdown": 100.0}
    changes["profile"] = written_profile(model, sysfs / "profile.json")
    async with running_device(model, **changes) as bench:
        supply.engine = bench.device.shell.engine
        bench.plan(lambda *cell: Decision.CONTINUE, None)

        async def ended_one() -> object:
            await bench.submit(frames[:1])
            return (await bench.ended(len(bench.records) + 1))[-1]

        # The supply follows the device, and the meter the supply, as promptly as a busy machine lets them; one that
        # reckons wrongly does so for every task.
        for _ in range(40):
            record = await ended_one()
            assert record.stages.compute >= 0.2
            added = (BUSY_WATTS - IDLE_WATTS) * record.stages.compute
            if record.energy_source == "ina" and record.energy_joules == pytest.approx(added, rel=0.5):
                break
        else:
            raise AssertionError((record.energy_source, record.energy_joules, added))
        assert metrics(bench)["twinsplit_energy_meter_up", ""] == 1.0
        status = bench.device.status()["energy"]["meter"]
        assert (status["source"], status["is_up"]) == ("ina", True)
        idle = pytest.approx(IDLE_WATTS, rel=0.3)
        await until(lambda: bench.device.status()["energy"]["meter"]["idle_watts"] == idle)

        supply.is_plugged = False
        await until(lambda: metrics(bench)["twinsplit_energy_meter_up", ""] == 0.0)
        record = await ended_one()
        assert (record.energy_joules, record.energy_source) == (None, None)
        assert ("twinsplit_power_watts", "") not in metrics(bench)

        supply.is_plugged = True
        await until(lambda: metrics(bench)["twinsplit_energy_meter_up", ""] == 1.0)
        assert metrics(bench)["twinsplit_energy_meter_losses_total", ""] == 1.0
        for _ in range(40):
            record = await ended_one()
            if record.energy_source == "ina":
                break
        assert record.energy_source == "ina"
        assert record.energy_joules > 0.0
        said = [record.getMessage() for record in caplog.records if record.name == "twinsplit.energy"]
        assert said == ["energy-meter-lost", "energy-meter-back"]


async def test_the_best_meter_is_found_by_itself_and_tells_what_its_joules_went_to(model, frames, supply):
    sysfs = supply.path.parents[3]
    async with running_device(model, energy="auto", sysfs=sysfs, energy_interval_s=0.02) as bench:
        supply.engine = bench.device.shell.engine
        await bench.submit(frames)
        records = await bench.ended(len(frames))
        assert {record.energy_source for record in records} <= {"ina", "ina/window", None}
        await until(lambda: ("twinsplit_energy_joules_total", "compute") in metrics(bench))
        computed = metrics(bench)["twinsplit_energy_joules_total", "compute"]
        assert computed >= 0.0
        # It is idle by now, and so only that part grows.
        await until(lambda: metrics(bench)["twinsplit_energy_joules_total", "idle"] > computed)
        assert metrics(bench)["twinsplit_energy_joules_total", "compute"] <= 1.5 * computed + 0.1
        assert metrics(bench)["twinsplit_power_watts", ""] in (IDLE_WATTS, BUSY_WATTS)


class Counter:
    """Moves the RAPL counter of a recorded machine, over its wrap-around."""

    def __init__(self, zone: Path, watts: float) -> None:
        self._watts = watts
        self._path = zone / "energy_uj"
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        # It wraps around three seconds from now, at about the first tasks.
        self._uj = self._range_uj - round(3e6 * watts)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        before_s = time.monotonic()
        while not self._stopped.wait(0.002):
            now_s = time.monotonic()
            self._uj = (self._uj + round(1e6 * self._watts * (now_s - before_s))) % self._range_uj
            before_s = now_s
            new = self._path.with_name("new")
            new.write_text(f"{self._uj}\n")
            os.replace(new, self._path)


def test_a_device_process_writes_the_energy_of_the_tree_that_its_variable_names(model, frames, tmp_path):
    places = copied("rapl-laptop", tmp_path)
    # Calibrated on this meter, so that the idle power is known from the start; it is as busy as it was all the while.
    calibrated = Powers("rapl", IDLE_WATTS, BUSY_WATTS, busy_cores=1.0)
    profile = written_profile(model, tmp_path / "profile.json", calibrated)
    counter = Counter(places.sysfs / "class/powercap/intel-rapl:1", BUSY_WATTS)
    command = [sys.executable, "-m", "device", "--model", str(model), "--source", f"frames:{frames[0].parent}"]
    command += ["--arrivals", "periodic:4", "--count", "3", "--sink", "-", "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--profile", str(profile)]
    command += ["--energy", "rapl", "--energy-interval-s", "0.01", "--emulate-slowdown", "100"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}
    environment["TWINSPLIT_DEVICE_SYSFS"] = str(places.sysfs)
    try:
        done = subprocess.run(command, capture_output=True, timeout=90.0, env=environment, check=False)
    finally:
        counter.stop()
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["energy_source"] for record in records] == ["rapl"] * 3
    validator = Draft202012Validator(task_record_schema())
    for record in records:
        validator.validate(record)
        assert record["energy_joules"] > 0.0
    # The counter moves as promptly as the machine lets it: of all tasks together it tells the truth.
    added = (BUSY_WATTS - IDLE_WATTS) * sum(record["stages_s"]["compute"] for record in records)
    assert sum(record["energy_joules"] for record in records) == pytest.approx(added, rel=0.4)
