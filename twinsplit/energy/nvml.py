"""NVIDIA GPUs by NVML: the energy counter of Volta and newer, else the power. Needs the package ``nvidia-ml-py``.

NVML counts whole boards (``nvmlDeviceGetTotalEnergyConsumption`` in millijoules since the driver was loaded,
``nvmlDeviceGetPowerUsage`` in milliwatts), whoever uses them; the rest of the machine is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinsplit.energy.meter import Absent, Meter, MeterReading

SOURCE = "nvml"
_CURE = "install the NVIDIA driver and `pip install 'twinsplit[edge-gpu]'`, or choose another meter"


class NvmlMeter:
    """All GPUs of this machine together."""

    source = SOURCE
    interval_s = 0.1

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._has_counter = all(_has_counter(nvml, handle) for handle in handles)

    def read(self) -> MeterReading | None:
        nvml = self._nvml
        try:
            if self._has_counter:
                millijoules = sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles)
                return MeterReading(joules=1e-3 * millijoules)
            return MeterReading(watts=1e-3 * sum(nvml.nvmlDeviceGetPowerUsage(handle) for handle in self._handles))
        except nvml.NVMLError:
            return None

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def find_nvml() -> Meter | Absent:
    """The meter of this machine's GPUs."""
    try:
        import pynvml
    except ImportError:
        return Absent("the package nvidia-ml-py is not installed", _CURE)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Absent(f"NVML does not start: {error}", _CURE)
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    meter = NvmlMeter(pynvml, handles)
    if not handles or meter.read() is None:
        meter.close()
        return Absent("NVML knows no GPU whose power can be read", _CURE)
    return meter


def _has_counter(nvml: Any, handle: Any) -> bool:
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:
        return False
    return True
