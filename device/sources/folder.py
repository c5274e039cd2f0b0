"""Frames of a folder, arriving as told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from device.sources.arrivals import Arrivals
from device.sources.source import Problem, SourceFrame, SourceWatch
from twinsplit.errors import SourceError
from twinsplit.model.frames import FRAME_SUFFIXES
from twinsplit.model.preprocessing import Frame


class FolderSource:
    """Pictures (and ``.npy`` tensors) below a folder. A file's name relative to the folder is its frame's name."""

    is_live = False

    def __init__(
        self,
        folder: Path,
        arrivals: Arrivals,
        now_s: Callable[[], float],
        *,
        is_shuffled: bool = False,
        is_repeated: bool = True,
        seed: int = 0,
    ) -> None:
        """
        Args:
            is_repeated: start over after the last file; else the source ends with it.

        Raises:
            SourceError: no folder, or no frames in it.
        """
        self._folder = folder
        self._arrivals = arrivals
        self._now_s = now_s
        self._is_shuffled = is_shuffled
        self._is_repeated = is_repeated
        self._seed = seed
        if not folder.is_dir():
            raise SourceError(f"{folder}: is no folder; name one with pictures in --source frames:DIR")
        self._files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in FRAME_SUFFIXES and p.is_file())
        if not self._files:
            raise SourceError(f"{folder}: holds no pictures (such as .jpg or .png); name another --source frames:DIR")

    def frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        started_at_s = self._now_s()
        for path, offset_s in zip(self._in_order(), self._arrivals.offsets_s(), strict=False):
            # Read before its instant: a camera has its frame in memory when it is generated.
            try:
                data = _read(path)
            except (OSError, ValueError) as error:
                watch.note(Problem.UNREADABLE, file=path.name, error=str(error))
                data = None
            if not watch.sleep_until(started_at_s + offset_s):
                return
            if data is not None:
                watch.note_frame()
                yield SourceFrame(path.relative_to(self._folder).as_posix(), data, started_at_s + offset_s)

    def _in_order(self) -> Iterator[Path]:
        files = list(self._files)
        rng = random.Random(f"order {self._seed}")
        while True:
            if self._is_shuffled:
                rng.shuffle(files)
            yield from files
            if not self._is_repeated:
                return


def _read(path: Path) -> Frame:
    return np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else path.read_bytes()
