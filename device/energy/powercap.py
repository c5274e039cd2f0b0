"""Intel and AMD processors by the kernel's powercap (RAPL): counters of microjoules that wrap around.

Formats: Documentation/power/powercap/powercap.rst and ABI/testing/sysfs-class-powercap. Counted are the platform where
the zone ``psys`` works, else all packages and their memory (``dram`` is no part of its package). ``energy_uj`` is
readable by root alone on most systems.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device.energy.places import Places, number_in, text_in
from twinsplit.energy import Absent, Meter, MeterReading

SOURCE = "rapl"
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")


@dataclass(slots=True)
class Zone:
    """One counter."""

    name: str
    folder: Path
    range_uj: float
    """Where the counter wraps."""
    raw_uj: float | None = None
    """As last read; ``None``: not read since it was last lost."""

    def grown_uj(self) -> float | None:
        """Microjoules since the last look; ``None``: the counter cannot be read."""
        before, self.raw_uj = self.raw_uj, number_in(self.folder / "energy_uj")
        if self.raw_uj is None:
            return None
        if before is None:
            return 0.0
        grown = self.raw_uj - before
        return grown if grown >= 0.0 else grown + self.range_uj


class RaplMeter:
    """The sum of some zones, as one counter that never wraps."""

    source = SOURCE
    interval_s = 0.05

    def __init__(self, zones: Sequence[Zone]) -> None:
        self.zones = tuple(zones)
        self._joules = 0.0

    def read(self) -> MeterReading | None:
        # All are read, so that a lost one does not make the others' next step look like one.
        grown = [zone.grown_uj() for zone in self.zones]
        known = [uj for uj in grown if uj is not None]
        if len(known) < len(grown):
            for zone in self.zones:
                zone.raw_uj = None
            return None
        self._joules += 1e-6 * sum(known)
        return MeterReading(joules=self._joules)

    def close(self) -> None:
        return


def find_rapl(places: Places, rail: str = "") -> Meter | Absent:
    """RAPL of this machine; ``rail``: one zone by its name, such as ``package-0``."""
    folder = places.sysfs / "class/powercap"
    zones = _zones(folder)
    names = sorted({zone.name for zone in zones})
    chosen = _named(zones, rail) if rail else _whole(zones)
    if not zones or not chosen:
        cause = f"{folder} has no zone {rail!r}, only {', '.join(names)}" if zones else f"{folder} has no RAPL zone"
        return Absent(cause, "name a zone that is there, or choose another meter", is_there=bool(zones))
    meter = RaplMeter(chosen)
    if meter.read() is None:
        return Absent(
            f"{chosen[0].folder}/energy_uj cannot be read by this user",
            "let it, with the udev rule in docs/how-to/energy.md, or choose another meter",
            is_there=True,
        )
    return meter


def _zones(folder: Path) -> list[Zone]:
    found = []
    for path in sorted(folder.glob("intel-rapl:*")):
        name, range_uj = text_in(path / "name"), number_in(path / "max_energy_range_uj")
        if _ZONE.fullmatch(path.name) and name and range_uj:
            found.append(Zone(name, path, range_uj))
    return found


def _named(zones: Sequence[Zone], name: str) -> list[Zone]:
    return [zone for zone in zones if zone.name == name]


def _whole(zones: Sequence[Zone]) -> list[Zone]:
    """Everything once: the platform, or packages with the memory beside them."""
    platform = [zone for zone in _named(zones, "psys") if number_in(zone.folder / "energy_uj")]
    return platform or [zone for zone in zones if _PACKAGE.fullmatch(zone.name) or zone.name == "dram"]
