"""Frames and arrivals of a run, laid down as the device's sources read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsplit.errors import SourceError
from twinsplit.model.frames import read_frames
from twinsplit.model.manifest import Manifest

NEVER_S = 1e6
"""An arrival that does not come within any run: a device whose trace has ended would stop before it can be read."""


@dataclass(frozen=True, slots=True)
class PreparedFrames:
    """One run's frames."""

    folder: Path
    """Holds them under names that sort in the order in which they are shown."""
    trace: Path
    """Arrival instants, an offset in seconds on each line."""
    labels: dict[str, str] | None
    """Name to the class that is right; ``None``: no labels are known."""
    count: int


def prepare_frames(
    source: Path, order: Sequence[str], arrivals_s: Sequence[float], lead_s: float, manifest: Manifest, folder: Path
) -> PreparedFrames:
    """Lay frames and trace down in ``folder``.

    Args:
        source: labelled frames.
        order: names of frames in ``source``, one per arrival.
        arrivals_s: instants, ascending.
        lead_s: added to every instant.

    Raises:
        SourceError: a frame cannot be read.
    """
    found = read_frames(source, classes=manifest.classes)
    right = dict(zip(found.names or (), found.labels or (), strict=False))
    frames = folder / "frames"
    frames.mkdir()
    labels: dict[str, str] = {}
    for number, name in enumerate(order):
        shown = f"{number:06d}-{Path(name).name}"
        _place(source / name, frames / shown)
        if name in right:
            labels[shown] = _class_name(manifest, right[name])
    trace = folder / "arrivals.txt"
    instants = [*(lead_s + instant for instant in arrivals_s), NEVER_S]
    trace.write_text("".join(f"{instant:.6f}\n" for instant in instants), encoding="utf-8")
    return PreparedFrames(frames, trace, labels if len(labels) == len(order) else None, len(order))


def frame_names(source: Path, manifest: Manifest) -> list[str]:
    """Names of the frames in ``source``, sorted.

    Raises:
        SourceError: there is none.
    """
    return sorted(read_frames(source, classes=manifest.classes).names or ())


def _class_name(manifest: Manifest, index: int) -> str:
    return manifest.classes[index] if index < len(manifest.classes) else str(index)


def _place(frame: Path, at: Path) -> None:
    try:
        try:
            os.link(frame, at)
        except OSError:
            shutil.copyfile(frame, at)
    except OSError as error:
        raise SourceError(f"{frame}: {error.strerror}; name a folder of readable frames") from None
