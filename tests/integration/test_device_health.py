"""A device that is slowed down: a recorded machine whose highest frequency the test lowers. No real sensor."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.energy.places import Places
from device.health import HealthReader
from tests.integration.device_bench import DeviceBench, running_device, until, write_network
from tests.unit.device.recorded_sensors import copied, write

pytestmark = pytest.mark.slow

PROMPT = {"health_interval_s": 0.02}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


def lower(places: Places, khz: int) -> None:
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq", khz)


def health(bench: DeviceBench) -> dict[str, object]:
    found: dict[str, object] = bench.device.status()["health"]
    return found


async def test_a_device_that_heat_slows_down_reckons_with_it_at_once_and_takes_it_back(model, tmp_path):
    places = copied("cpufreq-board", tmp_path)
    async with running_device(model, sysfs=places.sysfs, **PROMPT) as bench:
        await until(lambda: health(bench)["is_throttled"] is False)
        before = bench.device.status()["tracked"]["segment_s"]
        lower(places, 1_200_000)
        # A look may come between the two files that are written.
        await until(lambda: health(bench)["speed_share"] == 0.5)
        assert health(bench)["is_throttled"] is True
        assert bench.device.status()["tracked"]["segment_s"] == pytest.approx([2.0 * s for s in before])
        lower(places, 2_400_000)
        await until(lambda: health(bench)["speed_share"] == 1.0)
        assert bench.device.status()["tracked"]["segment_s"] == pytest.approx(before)


async def test_an_emulated_device_is_as_slow_as_it_was_told_whatever_the_host_does(model, tmp_path):
    places = copied("cpufreq-board", tmp_path)
    async with running_device(model, sysfs=places.sysfs, emulate_slowdown=3.0, **PROMPT) as bench:
        before = bench.device.status()["tracked"]["segment_s"]
        lower(places, 1_200_000)
        await until(lambda: health(bench)["is_throttled"] is True)
        assert health(bench)["speed_share"] is None
        assert bench.device.status()["tracked"]["segment_s"] == before


async def test_a_look_that_fails_is_said_and_the_next_one_counts(model, tmp_path, monkeypatch, caplog):
    read = HealthReader.read
    looks = iter(range(1_000_000))

    def unsteady(self: HealthReader) -> object:
        if next(looks) % 2:
            raise OSError("no such sensor any more")
        return read(self)

    monkeypatch.setattr(HealthReader, "read", unsteady)
    async with running_device(model, sysfs=tmp_path, **PROMPT) as bench:
        await until(lambda: health(bench)["memory_share"] is not None)
        await until(lambda: any(record.getMessage() == "health-unreadable" for record in caplog.records))
