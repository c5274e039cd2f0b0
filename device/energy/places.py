"""Where sensors are looked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device.vcgencmd import run_vcgencmd

SYSFS = Path("/sys")


@dataclass(frozen=True, slots=True)
class Places:
    """A machine's doors to its sensors."""

    sysfs: Path = SYSFS
    """The kernel's; in a container perhaps where the host's is mounted."""
    vcgencmd: Callable[..., str | None] = run_vcgencmd
    """Runs the Raspberry Pi firmware's tool with these words; ``None``: it is not there or fails."""


def number_in(path: Path) -> float | None:
    """The number that a sysfs file holds; ``None``: it cannot be read, or holds none."""
    try:
        number = float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return number if math.isfinite(number) else None


def text_in(path: Path) -> str | None:
    """The line that a sysfs file holds; ``None``: it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
