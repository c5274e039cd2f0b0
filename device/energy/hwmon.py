"""Current sensors of Texas Instruments (INA219, INA226, INA260, INA3221 and kin) and the rails of Jetson boards.

Formats: Documentation/hwmon/ina2xx.rst, ina3221.rst and sysfs-interface.rst (millivolts, milliamperes, microwatts), and
for JetPack 4 the ``ina3221x`` driver of NVIDIA's kernel (``rail_name_N``, milliwatts). A Jetson's whole draw is the
rail VDD_IN, or on boards without it the sum of its rails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.energy.places import Places, number_in, text_in
from twinsplit.energy import Absent, Meter, MeterReading

INA_SOURCE = "ina"
JETSON_SOURCE = "jetson"
_WHOLE_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Input of the module: Orin NX and Nano, Xavier NX, TX2; Nano."""
_SUMMED_RAILS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""AGX Orin; AGX Xavier."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured supply: its power, or its current and voltage."""

    label: str
    files: tuple[Path, ...]
    """Multiplied."""
    unit_watts: float
    """Watts in one of what they then hold."""

    def watts(self) -> float | None:
        """Power now; ``None``: a file cannot be read."""
        product = self.unit_watts
        for path in self.files:
            number = number_in(path)
            if number is None:
                return None
            product *= number
        return product


class ChannelMeter:
    """The sum of some channels."""

    interval_s = 0.05

    def __init__(self, source: str, channels: Sequence[Channel]) -> None:
        self.source = source
        self.channels = tuple(channels)

    def read(self) -> MeterReading | None:
        watts = [channel.watts() for channel in self.channels]
        known = [each for each in watts if each is not None]
        return MeterReading(watts=sum(known)) if len(known) == len(watts) else None

    def close(self) -> None:
        return


def find_jetson(places: Places, rail: str = "") -> Meter | Absent:
    """A Jetson's rails; ``rail``: one of them by its label."""
    channels = {channel.label: channel for channel in (*_ina3221x(places.sysfs), *_hwmon(places.sysfs))}
    whole = next(((label,) for label in _WHOLE_RAILS if label in channels), None)
    summed = next((labels for labels in _SUMMED_RAILS if all(label in channels for label in labels)), None)
    known = whole or summed
    if known is None:
        rails = f", only {', '.join(channels)}" if channels else ""
        return Absent(f"{places.sysfs} has no rail of a Jetson, such as VDD_IN{rails}", "choose another meter")
    return _checked(JETSON_SOURCE, channels, (rail,) if rail else known)


def find_ina(places: Places, rail: str = "") -> Meter | Absent:
    """An INA sensor; ``rail``: its label, where there are several."""
    channels = {channel.label: channel for channel in _hwmon(places.sysfs)}
    if not channels:
        return Absent(
            f"{places.sysfs}/class/hwmon has no INA sensor",
            "load its driver (device-tree overlay, see docs/how-to/energy.md), or choose another meter",
        )
    if not rail and len(channels) > 1:
        return Absent(
            f"{places.sysfs}/class/hwmon has several: {', '.join(channels)}",
            f"say which one feeds this device, such as --energy {INA_SOURCE}:{next(iter(channels))}",
            is_there=True,
        )
    return _checked(INA_SOURCE, channels, (rail,) if rail else tuple(channels))


def _checked(source: str, channels: dict[str, Channel], labels: Sequence[str]) -> Meter | Absent:
    missing = [label for label in labels if label not in channels]
    if missing:
        return Absent(
            f"there is no rail {missing[0]!r}, only {', '.join(channels)}", "name a rail that is there", is_there=True
        )
    meter = ChannelMeter(source, [channels[label] for label in labels])
    if meter.read() is None:
        return Absent(f"the files of rail {labels[0]} cannot be read", "let this user read them", is_there=True)
    return meter


def _hwmon(sysfs: Path) -> Iterator[Channel]:
    for folder in sorted((sysfs / "class/hwmon").glob("hwmon*"), key=lambda path: (len(path.name), path.name)):
        chip = text_in(folder / "name") or ""
        if chip == "ina3221":
            yield from _ina3221(folder)
        elif chip.startswith("ina"):
            yield from _ina2xx(folder, chip)


def _ina3221(folder: Path) -> Iterator[Channel]:
    for number in (1, 2, 3):
        files = (folder / f"curr{number}_input", folder / f"in{number}_input")
        is_off = number_in(folder / f"in{number}_enable") == 0.0
        if not is_off and all(path.exists() for path in files):
            label = text_in(folder / f"in{number}_label") or f"{folder.name}-{number}"
            yield Channel(label, files, 1e-6)


def _ina2xx(folder: Path, chip: str) -> Iterator[Channel]:
    label = text_in(folder / "power1_label") or text_in(folder / "label") or f"{chip}-{folder.name}"
    power, parts = folder / "power1_input", (folder / "curr1_input", folder / "in1_input")
    if power.exists():
        yield Channel(label, (power,), 1e-6)
    elif all(path.exists() for path in parts):
        yield Channel(label, parts, 1e-6)


def _ina3221x(sysfs: Path) -> Iterator[Channel]:
    for folder in sorted((sysfs / "bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for number in (0, 1, 2):
            label, power = text_in(folder / f"rail_name_{number}"), folder / f"in_power{number}_input"
            if label and power.exists():
                yield Channel(label, (power,), 1e-3)
