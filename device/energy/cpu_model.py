"""A meter that is a model: idle power, and what was measured to come on top of it per second of processor time.

The powers come from a calibration (:class:`twinsplit.model.profile.Powers`) that had a meter, or was told; here there
is none. Processor time is that of this process (psutil), all threads together.
"""

from __future__ import annotations

import psutil

from twinsplit.clock import Clock
from twinsplit.energy import MeterReading
from twinsplit.model.profile import Powers

SOURCE = "model"


class CpuModelMeter:
    """Joules = idle power * time + (busy - idle power) * processor time / processors busy when it was measured."""

    source = SOURCE
    interval_s = 0.1

    def __init__(self, powers: Powers, clock: Clock, process: psutil.Process | None = None) -> None:
        self._powers = powers
        self._now_s = clock.monotonic_s
        self._process = process or psutil.Process()
        self._began_s = self._now_s()
        self._cpu_before_s = self._cpu_s()

    def read(self) -> MeterReading | None:
        powers = self._powers
        elapsed_s = self._now_s() - self._began_s
        cpu_s = self._cpu_s() - self._cpu_before_s
        return MeterReading(joules=powers.idle_watts * elapsed_s + powers.compute_watts * cpu_s / powers.busy_cores)

    def close(self) -> None:
        return

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)
