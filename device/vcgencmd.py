"""What the Raspberry Pi's firmware says through its tool ``vcgencmd``: rails of the PMIC, throttling, clocks.

Formats are those of the Raspberry Pi documentation (computers/os, ``vcgencmd``).
"""

from __future__ import annotations

import re
import shutil
import subprocess

TOOL = "vcgencmd"
_PATIENCE_S = 2.0
_RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)
_THROTTLED = re.compile(r"throttled=(0x[0-9a-fA-F]+)")
_CLOCK = re.compile(r"frequency\(\d+\)=(\d+)")

CAPPED_BIT, THROTTLED_BIT, SOFT_LIMIT_BIT = 1 << 1, 1 << 2, 1 << 3
"""Of ``get_throttled``: now; bits 16 to 19 say that it has happened since the start. Bit 0, under-voltage, is the cause
of capping, not a slowdown by itself."""


def run_vcgencmd(*words: str) -> str | None:
    """What ``vcgencmd`` prints; ``None``: it is not there, fails, or does not end in time."""
    if shutil.which(TOOL) is None:
        return None
    try:
        done = subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def pmic_watts(text: str) -> float | None:
    """Power of all rails whose current and voltage ``pmic_read_adc`` tells; ``None``: there is none."""
    amperes: dict[str, float] = {}
    volts: dict[str, float] = {}
    for rail, unit, number in _RAIL.findall(text):
        (amperes if unit == "A" else volts)[rail] = float(number)
    rails = amperes.keys() & volts.keys()
    return sum(amperes[rail] * volts[rail] for rail in rails) if rails else None


def is_throttled(text: str) -> bool | None:
    """Whether ``get_throttled`` says that the processor is slowed down now; ``None``: it does not say."""
    found = _THROTTLED.search(text)
    return None if found is None else bool(int(found[1], 16) & (CAPPED_BIT | THROTTLED_BIT | SOFT_LIMIT_BIT))


def clock_hertz(text: str) -> float | None:
    """The clock that ``measure_clock`` tells; ``None``: it tells none."""
    found = _CLOCK.search(text)
    return None if found is None else float(found[1])
