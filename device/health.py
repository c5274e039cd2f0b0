"""How the machine does: processor, memory, temperature, and whether heat or the supply slows it down.

psutil tells the first three. Throttling is told by the Raspberry Pi's firmware (``vcgencmd get_throttled``), by the
counters that x86 processors keep of it (``thermal_throttle``), and by cpufreq where the kernel's thermal control lowers
the highest frequency. ``None`` is unknown, as everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from device.energy.places import Places, number_in
from device.vcgencmd import clock_hertz, is_throttled

_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "CPU-therm", "soc_thermal", "acpitz")
_BUSY_CORES = 0.5
"""A clock that runs slowly because there is nothing to do says nothing; one with so many processors busy does."""
_LOWERED = 0.99


@dataclass(frozen=True, slots=True)
class Health:
    """The machine at one instant; ``None``: unknown."""

    cpu_share: float | None = None
    """Of all processors, 0..1."""
    memory_share: float | None = None
    temperature_celsius: float | None = None
    is_throttled: bool | None = None
    """Slowed down now by heat or a weak supply."""
    speed_share: float | None = None
    """Speed of the processor over its full speed; 1 while nothing slows it down."""


class HealthReader:
    """Looks at the machine; a few milliseconds each time, and up to some seconds where the firmware hangs."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._cpus = places.sysfs / "devices/system/cpu"
        self._full_khz = _highest(self._cpus, "scaling_max_freq")
        """As it stood at the start, so that a limit that somebody set is no throttling."""
        self._throttle_events = self._throttle_count()
        self._speed_share: float | None = None
        # The first reading of psutil's is the base of the next.
        psutil.cpu_percent()

    def read(self) -> Health:
        """Look now."""
        cpu_share = psutil.cpu_percent() / 100.0
        throttled = self._is_throttled()
        return Health(
            cpu_share=cpu_share,
            memory_share=psutil.virtual_memory().percent / 100.0,
            temperature_celsius=_temperature_celsius(),
            is_throttled=throttled,
            speed_share=self._speed(throttled, cpu_share),
        )

    def _is_throttled(self) -> bool | None:
        said: list[bool] = []
        text = self._places.vcgencmd("get_throttled")
        if text is not None and (firmware := is_throttled(text)) is not None:
            said.append(firmware)
        before, self._throttle_events = self._throttle_events, self._throttle_count()
        if before is not None and self._throttle_events is not None:
            said.append(self._throttle_events > before)
        if (limit := self._limit_share()) is not None:
            said.append(limit < _LOWERED)
        return any(said) if said else None

    def _speed(self, throttled: bool | None, cpu_share: float) -> float | None:
        if throttled is None:
            return None
        if not throttled:
            self._speed_share = 1.0
        elif (share := self._slowed_share(is_busy=cpu_share * (os.cpu_count() or 1) >= _BUSY_CORES)) is not None:
            self._speed_share = share
        return self._speed_share

    def _slowed_share(self, *, is_busy: bool) -> float | None:
        """Clock over full clock while throttled; ``None``: it cannot be told now."""
        limit = self._limit_share()
        if limit is not None and limit < _LOWERED:
            return limit
        if not is_busy or self._full_khz is None:
            return None
        text = self._places.vcgencmd("measure_clock", "arm")
        hertz = None if text is None else clock_hertz(text)
        khz = _highest(self._cpus, "scaling_cur_freq") if hertz is None else 1e-3 * hertz
        return None if not khz else min(1.0, khz / self._full_khz)

    def _limit_share(self) -> float | None:
        """Highest frequency that may be used now, over that at the start."""
        limit = _highest(self._cpus, "scaling_max_freq")
        return None if limit is None or not self._full_khz else limit / self._full_khz

    def _throttle_count(self) -> float | None:
        counters = self._cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
        counts = [count for path in counters if (count := number_in(path)) is not None]
        return sum(counts) if counts else None


def _highest(cpus: Path, name: str) -> float | None:
    """The highest of all processors' values of a cpufreq file, kHz."""
    return max((khz for path in cpus.glob(f"cpu[0-9]*/cpufreq/{name}") if (khz := number_in(path))), default=None)


def _temperature_celsius() -> float | None:
    """The processor's hottest sensor, else the hottest of all."""
    try:
        sensors = psutil.sensors_temperatures()
    except (OSError, psutil.Error):
        return None
    named = [entry.current for name in _CPU_SENSORS for entry in sensors.get(name, ())]
    return max(named or [entry.current for entries in sensors.values() for entry in entries], default=None)
