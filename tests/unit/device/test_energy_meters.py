"""Meters read recorded machines (recordings/README.md): what is there, what it draws, why it cannot be used."""

from __future__ import annotations

import os

import pytest

from device.energy.cpu_model import CpuModelMeter
from device.energy.hwmon import find_ina, find_jetson
from device.energy.places import Places, number_in
from device.energy.pmic import find_pmic
from device.energy.powercap import find_rapl
from device.vcgencmd import is_throttled, pmic_watts, run_vcgencmd
from tests.unit.device.recorded_sensors import RECORDINGS, Firmware, copied, places_of, silent, write
from twinsplit.clock import ManualClock
from twinsplit.energy import Absent, Meter
from twinsplit.model.profile import Powers

PACKAGE, DRAM = "class/powercap/intel-rapl:0", "class/powercap/intel-rapl:0:2"


def usable(found: Meter | Absent) -> Meter:
    assert not isinstance(found, Absent), found
    return found


def absent(found: Meter | Absent) -> Absent:
    assert isinstance(found, Absent)
    return found


def watts(found: Meter | Absent) -> float:
    reading = usable(found).read()
    assert reading is not None
    assert reading.watts is not None
    return reading.watts


# RAPL.


def test_rapl_counts_packages_and_memory_once_and_no_part_twice(tmp_path):
    places = copied("rapl-desktop", tmp_path)
    meter = usable(find_rapl(places))
    assert [zone.name for zone in meter.zones] == ["package-0", "dram"]
    before = meter.read().joules
    write(places, f"{PACKAGE}/energy_uj", 262_002_000_000)
    write(places, f"{DRAM}/energy_uj", 15_000_500_000)
    write(places, f"{PACKAGE}:0/energy_uj", 81_999_000_000)
    assert meter.read().joules - before == pytest.approx(2.5)


def test_rapl_counters_wrap_around_each_at_its_own_range(tmp_path):
    places = copied("rapl-desktop", tmp_path)
    meter = usable(find_rapl(places))
    before = meter.read().joules
    write(places, f"{PACKAGE}/energy_uj", 1_000_000)
    write(places, f"{DRAM}/energy_uj", 3_000_000)
    package_uj = 262_143_328_850 - 262_000_000_000 + 1_000_000
    dram_uj = 65_712_999_613 - 15_000_000_000 + 3_000_000
    assert meter.read().joules - before == pytest.approx(1e-6 * (package_uj + dram_uj))


def test_a_rapl_zone_that_vanishes_is_unknown_and_back_without_a_jump(tmp_path):
    places = copied("rapl-desktop", tmp_path)
    meter = usable(find_rapl(places))
    before = meter.read().joules
    path = places.sysfs / DRAM / "energy_uj"
    path.unlink()
    assert meter.read() is None
    write(places, f"{DRAM}/energy_uj", 5)
    # What the counters did meanwhile is nobody's; from here on they count again.
    assert meter.read().joules == before
    write(places, f"{PACKAGE}/energy_uj", 262_000_000_007)
    assert meter.read().joules == pytest.approx(before + 7e-6)


def test_the_platform_is_taken_where_it_works():
    assert [zone.name for zone in usable(find_rapl(places_of("rapl-laptop"))).zones] == ["psys"]


def test_a_rapl_zone_can_be_named():
    assert [zone.name for zone in usable(find_rapl(places_of("rapl-desktop"), "core")).zones] == ["core"]
    missing = absent(find_rapl(places_of("rapl-desktop"), "gpu"))
    assert "only core, dram, package-0, psys, uncore" in missing.cause


def test_without_rapl_and_without_permission_it_says_which(tmp_path, monkeypatch):
    assert not absent(find_rapl(places_of("ina226"))).is_there
    places = copied("rapl-laptop", tmp_path)
    for number in (0, 1):
        path = places.sysfs / f"class/powercap/intel-rapl:{number}/energy_uj"
        path.unlink()
        # Root reads everything; a folder is what it cannot read as a number either.
        path.mkdir()
    denied = absent(find_rapl(places))
    assert denied.is_there
    assert "cannot be read by this user" in denied.cause
    assert "udev" in denied.cure


# INA sensors and Jetson rails.


def test_an_ina226_tells_its_power_and_an_ina219_current_times_voltage():
    assert watts(find_ina(places_of("ina226"))) == pytest.approx(6.17)
    assert watts(find_ina(places_of("ina219-without-power"))) == pytest.approx(5.12 * 0.8)


def test_of_several_supplies_one_must_be_named_and_one_switched_off_is_none():
    several = absent(find_ina(places_of("ina3221-three-supplies")))
    assert several.is_there
    assert several.cause.endswith("sensor, board")
    assert "--energy ina:sensor" in several.cure
    assert watts(find_ina(places_of("ina3221-three-supplies"), "board")) == pytest.approx(6.6 * 0.2)
    assert "'spare'" in absent(find_ina(places_of("ina3221-three-supplies"), "spare")).cause


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("jetson-orin-nano", 4.984 * 1.16),
        ("jetson-agx-orin", 19.136 * 0.256 + 5.0 * 0.8),
        ("jetson-nano-jetpack4", 2.184),
        ("jetson-agx-xavier-jetpack4", 1.25 + 0.78 + 1.56 + 0.31 + 2.2),
    ],
)
def test_a_jetson_is_its_input_rail_or_the_sum_of_its_rails(recording, expected):
    assert watts(find_jetson(places_of(recording))) == pytest.approx(expected)


def test_one_rail_of_a_jetson_can_be_named():
    assert watts(find_jetson(places_of("jetson-orin-nano"), "VDD_CPU_GPU_CV")) == pytest.approx(4.984 * 0.248)
    assert "'VDD_GPU'" in absent(find_jetson(places_of("jetson-orin-nano"), "VDD_GPU")).cause
    assert not absent(find_jetson(places_of("ina226"))).is_there


def test_a_sensor_that_vanishes_is_unknown_until_it_is_back(tmp_path):
    places = copied("ina226", tmp_path)
    meter = usable(find_ina(places))
    path = "class/hwmon/hwmon1/power1_input"
    (places.sysfs / path).unlink()
    assert meter.read() is None
    write(places, path, "")
    assert meter.read() is None
    write(places, path, 4_000_000)
    assert meter.read().watts == 4.0


# Raspberry Pi.


def test_the_rails_of_a_raspberry_pi_5_add_up():
    meter = usable(find_pmic(Places(vcgencmd=Firmware(pmic_read_adc="pmic_read_adc"))))
    expected = (
        0.09 * 3.7
        + 0.07 * 3.3
        + 0.18 * 1.8
        + 0.02 * 1.1
        + 0.19 * 1.1
        + 0.35 * 0.8
        + 1.5 * 0.75
        + 6e-5 * 3.3
        + 0.004 * 0.8
        + 0.016 * 5.1
    )
    assert meter.read().watts == pytest.approx(expected)


def test_another_raspberry_pi_and_none_at_all_say_so():
    older = absent(find_pmic(Places(vcgencmd=Firmware(pmic_read_adc="pmic_read_adc-pi4", version="measure_clock-arm"))))
    assert "only that of a Raspberry Pi 5" in older.cause
    assert "group `video`" in absent(find_pmic(Places(vcgencmd=silent))).cure


def test_a_rail_without_its_voltage_is_left_out():
    assert pmic_watts(" A_A current(0)=1.0A\n B_A current(1)=2.0A\n B_V volt(2)=3.0V\n") == 6.0
    assert pmic_watts("EXT5V_V volt(24)=5.1V") is None


@pytest.mark.parametrize(
    ("recording", "expected"),
    [("never", False), ("earlier", False), ("under-voltage", False), ("now", True), ("soft-limit", True)],
)
def test_only_what_slows_down_now_is_throttling(recording, expected):
    assert is_throttled((RECORDINGS / f"vcgencmd/get_throttled-{recording}.txt").read_text()) is expected
    assert is_throttled("VCHI initialization failed") is None


def test_the_firmware_tool_is_run_and_its_failure_is_unknown(tmp_path, monkeypatch):
    tool = tmp_path / "vcgencmd"
    tool.write_text('#!/bin/sh\n[ "$1" = fail ] && exit 1\necho "$1 $2"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run_vcgencmd("measure_clock", "arm") is None
    tool.chmod(0o755)
    assert run_vcgencmd("measure_clock", "arm") == "measure_clock arm\n"
    assert run_vcgencmd("fail") is None


# The model.


class FakeProcess:
    def __init__(self) -> None:
        self.user, self.system = 5.0, 1.0

    def cpu_times(self):
        return self


def test_the_model_adds_what_processor_time_was_measured_to_cost():
    clock, process = ManualClock(7.0), FakeProcess()
    meter = CpuModelMeter(Powers("ina", 2.0, 8.0, busy_cores=1.5), clock, process)
    assert meter.read().joules == 0.0
    clock.advance(10.0)
    process.user += 2.5
    process.system += 0.5
    assert meter.read().joules == pytest.approx(2.0 * 10.0 + 6.0 * 3.0 / 1.5)
    meter.close()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "much", "1 2"])
def test_what_is_no_number_of_a_sensor_is_unknown(tmp_path, text):
    path = tmp_path / "power1_input"
    path.write_text(text)
    assert number_in(path) is None
