"""Files of an export: room for it, and weights that lie there once however many models use them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twinsplit.errors import StorageError


def make_room(out: Path, name: str, *, is_replacing: bool) -> None:
    """Make the folder ``out``, without an export of the model ``name``; other models in it stay.

    Raises:
        StorageError: there is one that is not to be replaced, or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        beginnings = (f"{name}.from_cut_", f"{name}.segment_")
        found = [path for path in sorted(out.iterdir()) if path.name == name or path.name.startswith(beginnings)]
        if found and not is_replacing:
            raise StorageError(f"{out}: holds {name} already; name another folder, or replace it with --force")
        for path in found:
            shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}; name a folder that can be written") from None


def put(source: Path, target: Path) -> None:
    """``source`` as ``target``, too: linked to it where the disk can, else copied.

    Raises:
        StorageError: neither works.
    """
    try:
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror}; free some space or name another folder") from None


def copy(source: Path, target: Path) -> None:
    """A copy of its own of ``source``.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror}; free some space or name another folder") from None


def disk_bytes(folder: Path) -> int:
    """What ``folder`` takes on the disk, a file with several names counted once."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())
