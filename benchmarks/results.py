"""Files of results: seen to be writable before a long run starts, written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from twinsplit.errors import StorageError

RESULTS_FOLDER = Path(__file__).resolve().parent / "results"
RESERVED_BYTES = 256 * 1024
"""Kept on the disk during the run; more than any result takes."""


class ResultFile:
    """A place for one result, mostly a JSON document, reserved before the run.

    Args:
        path: where it will stand; folders that are missing are made.

    Raises:
        StorageError: it cannot be written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part: Path | None = None
        try:
            if _is_special(path):
                # A device or pipe cannot be replaced; white space before a JSON document is still JSON.
                _append(path, b"\n")
                return
            if path.is_dir():
                raise IsADirectoryError(0, "is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(0, "may not be overwritten")
            self._part = path.with_name(f".{path.name}.part")
            _write(self._part, bytes(RESERVED_BYTES))
        except OSError as error:
            self.discard()
            raise _unwritable(path, error) from None

    def write(self, document: Any) -> None:
        """Put ``document`` in place.

        Raises:
            StorageError: the disk has become full or unwritable.
        """
        self.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")

    def write_text(self, text: str) -> None:
        """Put ``text`` in place, where something else than JSON is wanted.

        Raises:
            StorageError: the disk has become full or unwritable.
        """
        data = text.encode()
        try:
            if self._part is None:
                _append(self.path, data)
                return
            # Over the reserved bytes first: writing there needs no space that the disk may have lost since.
            with self._part.open("r+b") as file:
                file.write(data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._part, self.path)
            self._part = None
        except OSError as error:
            self.discard()
            raise _unwritable(self.path, error) from None

    def discard(self) -> None:
        """Give the reserved place back; nothing is left behind."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _append(path: Path, data: bytes) -> None:
    # Unbuffered: a full disk must show here and not when the file is closed.
    with path.open("wb", buffering=0) as file:
        file.write(data)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: {error.strerror}; results cannot be written there: free some space or name another file"
    )
