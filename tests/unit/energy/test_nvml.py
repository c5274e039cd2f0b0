"""NVML through a stand-in of ``pynvml`` with its documented calls: no GPU was at hand."""

# ruff: noqa: N802 - the names are those of NVML

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from twinsplit.energy import Absent, MeterReading
from twinsplit.energy.nvml import find_nvml


class NVMLError(Exception):
    pass


class StandIn(ModuleType):
    """Two GPUs; ``has_counter``: Volta or newer."""

    NVMLError = NVMLError

    def __init__(self, *, has_counter: bool = True, count: int = 2, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.has_counter, self.count, self.driver, self.is_lost = has_counter, count, driver, False
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.is_lost or not self.has_counter:
            raise NVMLError("Not Supported")
        return 1000 * (handle + 1)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if self.is_lost:
            raise NVMLError("GPU is lost")
        return 20_000 * (handle + 1)


def installed(monkeypatch: pytest.MonkeyPatch, **changes: object) -> StandIn:
    stand_in = StandIn(**changes)
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_energy_counters_of_all_gpus_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = installed(monkeypatch)
    meter = find_nvml()
    assert not isinstance(meter, Absent)
    assert meter.read() == MeterReading(joules=3.0)
    stand_in.is_lost = True
    assert meter.read() is None
    meter.close()
    assert stand_in.open == 0


def test_an_older_gpu_tells_its_power(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, has_counter=False)
    assert find_nvml().read() == MeterReading(watts=60.0)


@pytest.mark.parametrize(
    ("changes", "cause"), [({"driver": False}, "NVML does not start: Driver Not Loaded"), ({"count": 0}, "no GPU")]
)
def test_without_driver_or_gpu_it_says_why(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], cause: str
) -> None:
    installed(monkeypatch, **changes)
    found = find_nvml()
    assert isinstance(found, Absent)
    assert cause in found.cause


def test_without_the_package_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = find_nvml()
    assert isinstance(found, Absent)
    assert "nvidia-ml-py" in found.cause
