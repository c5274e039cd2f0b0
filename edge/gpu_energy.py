"""What an edge's GPUs draw, by NVML. It is not told apart into tails: other users of the GPU are in it, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Literal

from twinsplit.clock import Clock
from twinsplit.energy import Absent, EnergyIntegral, Meter, MeterReading, Sampler
from twinsplit.energy.nvml import find_nvml
from twinsplit.errors import SettingsError
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.logs import EventLog

_log = EventLog("edge.gpu_energy")

_GPU_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
_MAX_GAP_S = 2.0


class GpuEnergy:
    """Joules and power of a meter, as metrics."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._source = meter.source
        self._now_s = clock.monotonic_s
        self._lock = threading.Lock()
        self._integral = EnergyIntegral(_MAX_GAP_S)
        self._joules: float | None = None
        self.sampler = Sampler(meter, self.sampled, clock)

    def sampled(self, at_s: float, reading: MeterReading | None) -> None:
        """The meter was looked at."""
        with self._lock:
            interval = self._integral.add(at_s, reading)
            if interval is not None:
                self._joules = (self._joules or 0.0) + interval.joules

    def samples(self) -> Iterator[Sample]:
        """Read now."""
        now_s = self._now_s()
        with self._lock:
            joules, watts = self._joules, self._integral.watts(now_s)
            is_up, losses = self._integral.is_up(now_s), self._integral.losses
        labels = {"source": self._source}
        yield "twinsplit_energy_joules_total", {**labels, "part": "all"}, joules
        yield "twinsplit_power_watts", labels, watts
        yield "twinsplit_energy_meter_up", labels, float(is_up)
        yield "twinsplit_energy_meter_losses_total", labels, losses


def gpu_energy_of(energy: Literal["auto", "nvml", "none"], provider: str, clock: Clock) -> GpuEnergy | None:
    """The meter that the setting ``energy`` means; ``None``: none. ``provider``: ONNX Runtime's name.

    Raises:
        SettingsError: NVML was asked for by name and cannot be used here.
    """
    if energy == "none" or (energy == "auto" and provider not in _GPU_PROVIDERS):
        return None
    found = find_nvml()
    if not isinstance(found, Absent):
        return GpuEnergy(found, clock)
    if energy == "nvml":
        raise SettingsError(f"--energy nvml: {found.cause}; {found.cure}")
    _log.warning("energy-meter-unusable", source="nvml", cause=found.cause, cure=found.cure)
    return None
