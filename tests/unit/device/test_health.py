"""How the machine does, as far as it says: recordings in place of its files (recordings/README.md)."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from device.energy.places import Places
from device.health import Health, HealthReader
from device.tracking import Tracker
from tests.unit.device.made_up_device import SEGMENT_S, MadeUpDevice
from tests.unit.device.recorded_sensors import Firmware, copied, places_of, write


@pytest.fixture(autouse=True)
def busy(monkeypatch):
    """A processor with something to do: two of four at work."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 50.0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)


def test_psutil_tells_processor_and_memory(monkeypatch):
    health = HealthReader(places_of("ina226")).read()
    assert health.cpu_share == 0.5
    assert 0.0 < health.memory_share < 1.0


def sensors(**found: float):
    return lambda: {name: [SimpleNamespace(current=value)] for name, value in found.items()}


@pytest.mark.parametrize(
    ("found", "celsius"),
    [
        ({"cpu_thermal": 61.5, "nvme": 80.0}, 61.5),
        ({"coretemp": 55.0, "acpitz": 40.0}, 55.0),
        ({"nvme": 48.0, "wifi": 51.0}, 51.0),
        ({}, None),
    ],
)
def test_the_processors_temperature_is_told_before_any_other(monkeypatch, found, celsius):
    monkeypatch.setattr(psutil, "sensors_temperatures", sensors(**found))
    assert HealthReader(places_of("ina226")).read().temperature_celsius == celsius


def test_a_machine_that_says_nothing_of_throttling_leaves_it_unknown():
    health = HealthReader(places_of("ina226")).read()
    assert (health.is_throttled, health.speed_share) == (None, None)


def test_a_lowered_highest_frequency_is_throttling_and_tells_the_speed(tmp_path):
    places = copied("cpufreq-board", tmp_path)
    reader = HealthReader(places)
    assert reader.read().speed_share == 1.0
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq", 1_200_000)
    health = reader.read()
    assert (health.is_throttled, health.speed_share) == (True, 0.5)
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq", 2_400_000)
    assert reader.read().speed_share == 1.0


def test_a_limit_that_stood_from_the_start_is_no_throttling(tmp_path):
    places = copied("cpufreq-board", tmp_path)
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq", 1_800_000)
    health = HealthReader(places).read()
    assert (health.is_throttled, health.speed_share) == (False, 1.0)


def test_x86_throttles_while_its_counters_grow_at_the_clock_it_then_has(tmp_path):
    places = copied("x86", tmp_path)
    reader = HealthReader(places)
    assert reader.read().is_throttled is False
    write(places, "devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", 4)
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", 2_100_000)
    health = reader.read()
    assert (health.is_throttled, health.speed_share) == (True, 0.5)
    assert reader.read().speed_share == 1.0


def test_the_clock_of_an_idle_processor_says_nothing_of_its_speed(tmp_path, monkeypatch):
    places = copied("x86", tmp_path)
    reader = HealthReader(places)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 1.0)
    write(places, "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", 18)
    for cpu in (0, 1):
        write(places, f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", 800_000)
    health = reader.read()
    assert (health.is_throttled, health.speed_share) == (True, None)


def test_a_raspberry_pis_firmware_tells_throttling_and_clock():
    firmware = Firmware(get_throttled="get_throttled-now", measure_clock="measure_clock-arm")
    health = HealthReader(Places(places_of("cpufreq-board").sysfs, firmware)).read()
    assert health.is_throttled is True
    assert health.speed_share == pytest.approx(0.5, abs=1e-3)
    firmware.recordings["get_throttled"] = "get_throttled-earlier"
    assert HealthReader(Places(places_of("cpufreq-board").sysfs, firmware)).read().is_throttled is False


# What the device makes of it.


def test_another_speed_changes_all_times_at_once_and_measuring_then_only_confirms():
    tracker = Tracker([0.1, 0.2], [0.01], {(0, 0): 0.02})
    assert tracker.speed_seen(0.5)
    assert tracker.segment_s == pytest.approx([0.2, 0.4])
    assert (tracker.exit_s, tracker.encode_s) == ([pytest.approx(0.02)], {(0, 0): pytest.approx(0.04)})
    for _ in range(100):
        tracker.segment_done(0, 0.2)
    assert tracker.segment_s[0] == pytest.approx(0.2)
    assert not tracker.speed_seen(0.52)
    assert tracker.speed_seen(1.0)
    assert tracker.segment_s == pytest.approx([0.1, 0.2])


def test_a_slowdown_that_is_noticed_late_is_not_counted_twice():
    tracker = Tracker([0.1], [], {})
    tracker.speed_seen(1.0)
    for _ in range(200):
        tracker.segment_done(0, 0.2)
    assert tracker.segment_s[0] == pytest.approx(0.2, rel=1e-3)
    assert tracker.speed_seen(0.5)
    assert tracker.segment_s[0] == pytest.approx(0.2, rel=1e-3)
    for _ in range(200):
        tracker.segment_done(0, 0.1)
    assert tracker.speed_seen(1.0)
    assert tracker.segment_s[0] == pytest.approx(0.1, rel=1e-3)


def test_times_measured_at_a_lower_speed_are_not_slowed_down_twice():
    tracker = Tracker([0.2], [], {}, speed_share=0.5)
    assert not tracker.speed_seen(0.5)
    assert tracker.segment_s == [0.2]


def test_a_device_that_is_slowed_down_reports_it_at_once_with_times_that_fit():
    device = MadeUpDevice()
    device.take(device.pipeline.twin_attached(device.now_s, 5.0))
    device.reports.clear()
    device.take(device.pipeline.tick(device.now_s))
    assert device.reports == []
    device.reporter.health_seen(Health(0.4, 0.3, 82.0, is_throttled=True, speed_share=0.5))
    device.take(device.pipeline.tick(device.now_s))
    (report,) = device.reports
    assert report.state.segment_s == pytest.approx((2 * SEGMENT_S,) * 4)
    assert report.state.health == Health(0.4, 0.3, 82.0, is_throttled=True, speed_share=0.5)
    device.reporter.health_seen(Health(0.4, 0.3, 82.0, is_throttled=True, speed_share=0.52))
    device.take(device.pipeline.tick(device.now_s))
    assert len(device.reports) == 1
    # The speed that is told is the one at which the told times hold.
    assert device.reporter.health.speed_share == 0.5
