"""Raspberry Pi 5: the rails that its power chip measures (``vcgencmd pmic_read_adc``).

They are what the chip gives out: losses of its converters, and what hangs on the 5 V of USB and the header, are not in
it. Each look starts the tool, so that it is looked at once a second.
"""

from __future__ import annotations

from device.energy.places import Places
from device.vcgencmd import TOOL, pmic_watts
from twinsplit.energy import Absent, Meter, MeterReading

SOURCE = "pi5-pmic"


class PmicMeter:
    """All rails together."""

    source = SOURCE
    interval_s = 1.0

    def __init__(self, places: Places) -> None:
        self._vcgencmd = places.vcgencmd

    def read(self) -> MeterReading | None:
        text = self._vcgencmd("pmic_read_adc")
        watts = None if text is None else pmic_watts(text)
        return None if watts is None else MeterReading(watts=watts)

    def close(self) -> None:
        return


def find_pmic(places: Places) -> Meter | Absent:
    """The power chip of a Raspberry Pi 5."""
    meter = PmicMeter(places)
    if meter.read() is not None:
        return meter
    if places.vcgencmd("version") is None:
        return Absent(
            f"{TOOL} is not here, or this user may not use it",
            "install it, and put this user into the group `video`; or choose another meter",
        )
    return Absent("this firmware tells no rails; only that of a Raspberry Pi 5 does", "choose another meter")
