"""Frames to measure and calibrate with: a folder of pictures (or ``.npy`` tensors) and, where known, their labels.

Labels come from a table ``file,label`` (``labels.csv`` in the folder, or named), whose labels are class names or
indices, or from subfolders called like the classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsplit.errors import SettingsError, SourceError
from twinsplit.model.preprocessing import Frame

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif", ".npy"})
LABELS_NAME = "labels.csv"


@dataclass(frozen=True)
class LabelledFrames:
    """Frames, and the class index of each where it is known."""

    frames: Sequence[Frame]
    labels: Sequence[int] | None = None
    names: Sequence[str] | None = None
    """For messages."""

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.frames):
            raise SettingsError(f"{len(self.frames)} frames but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[tuple[str, Frame, int | None]]:
        """(name, frame, label) of every frame."""
        for index, frame in enumerate(self.frames):
            name = self.names[index] if self.names else f"frame {index}"
            yield name, frame, None if self.labels is None else int(self.labels[index])

    def part(self, start: int, step: int) -> LabelledFrames:
        """Every ``step``-th frame from ``start`` on."""
        return self.at(range(start, len(self.frames), step))

    def at(self, indices: Sequence[int]) -> LabelledFrames:
        """Those at ``indices``, in that order."""
        return LabelledFrames(
            self.frames.at(indices) if isinstance(self.frames, FrameFiles) else [self.frames[i] for i in indices],
            None if self.labels is None else [self.labels[i] for i in indices],
            None if self.names is None else [self.names[i] for i in indices],
        )


class FrameFiles(Sequence[Frame]):
    """Files read one at a time, when asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # slices are not needed
        file = self._files[index]
        try:
            return file.read_bytes()
        except OSError as error:
            raise SourceError(f"{file}: {error.strerror}; name a folder of readable frames") from None

    def at(self, indices: Sequence[int]) -> FrameFiles:
        """Those at ``indices``."""
        return FrameFiles([self._files[i] for i in indices])


def read_frames(
    folder: Path, *, classes: Sequence[str] = (), table: Path | None = None, limit: int | None = None
) -> LabelledFrames:
    """Frames of a folder in the order of their names.

    Args:
        folder: pictures or ``.npy`` files, in it or in subfolders.
        classes: class names by index, to read labels that are names.
        table: ``file,label`` with paths below ``folder``; ``None``: ``labels.csv`` in it, if there is one.
        limit: take so many, evenly spread over all.

    Raises:
        SourceError: no such folder, or no frame in it.
        SettingsError: a label that is neither an index nor a class name.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; name one that holds frames")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in FRAME_SUFFIXES and p.is_file())
    table = table or (folder / LABELS_NAME if (folder / LABELS_NAME).is_file() else None)
    labels: list[int] | None = None
    if table is not None:
        by_file = _read_table(table, classes)
        files = [f for f in files if f.relative_to(folder).as_posix() in by_file]
        labels = [by_file[f.relative_to(folder).as_posix()] for f in files]
    elif classes and files and all(f.parent != folder and f.parent.name in classes for f in files):
        labels = [classes.index(f.parent.name) for f in files]
    if not files:
        wanted = f"listed in {table}" if table else f"({', '.join(sorted(FRAME_SUFFIXES))})"
        raise SourceError(f"{folder}: holds no frames {wanted}; name a folder that does")
    if limit is not None and len(files) > limit:
        chosen = [i * len(files) // limit for i in range(limit)]
        files = [files[i] for i in chosen]
        labels = None if labels is None else [labels[i] for i in chosen]
    return LabelledFrames(FrameFiles(files), labels, [f.relative_to(folder).as_posix() for f in files])


def read_classes(file: Path) -> tuple[str, ...]:
    """Class names, one a line, in the order of the network's outputs.

    Raises:
        SettingsError: unreadable, or without a name.
    """
    names = tuple(line.strip() for line in _text(file).splitlines() if line.strip())
    if not names:
        raise SettingsError(f"{file}: holds no class name; write one a line")
    return names


def is_label_table(file: Path) -> bool:
    """Whether ``file`` is a table ``file,label`` rather than a list of class names.

    Raises:
        SettingsError: unreadable, or a table with other columns.
    """
    heading = _text(file).lstrip().lower()
    if heading.startswith(("file;label", "file\tlabel")):
        raise SettingsError(f"{file}: write a comma between file and label, as in the heading `file,label`")
    return heading.startswith("file,label")


def _read_table(table: Path, classes: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in csv.DictReader(_text(table).splitlines()):
        file, label = (row.get("file") or "").strip(), (row.get("label") or "").strip()
        if not file or not label:
            raise SettingsError(f"{table}: every line needs a file and a label, under the heading `file,label`")
        if label in classes:
            found[file] = classes.index(label)
        elif label.isdecimal() and (not classes or int(label) < len(classes)):
            found[file] = int(label)
        else:
            raise SettingsError(f"{table}: '{label}' is neither a class index nor a class name; see --labels")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # as spreadsheets write it, too
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a readable file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: not a text file in UTF-8") from None
