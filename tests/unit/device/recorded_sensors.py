"""Recorded machines: a copy that a test may change, and a firmware tool that prints what was recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

from device.energy.places import Places

RECORDINGS = Path(__file__).parent / "recordings"


def silent(*words: str) -> None:
    """No Raspberry Pi."""


def places_of(name: str) -> Places:
    """The machine of that recording, to be read only."""
    return Places(RECORDINGS / name, silent)


def copied(name: str, folder: Path) -> Places:
    """The same to be changed."""
    shutil.copytree(RECORDINGS / name, folder / name)
    return Places(folder / name, silent)


def write(places: Places, name: str, value: object) -> None:
    """Let a file of the kernel hold another value."""
    (places.sysfs / name).write_text(f"{value}\n")


class Firmware:
    """``vcgencmd`` as recorded; what is not given fails."""

    def __init__(self, **recordings: str) -> None:
        self.recordings = recordings
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *words: str) -> str | None:
        self.asked.append(words)
        name = self.recordings.get(words[0])
        return None if name is None else (RECORDINGS / "vcgencmd" / f"{name}.txt").read_text()
