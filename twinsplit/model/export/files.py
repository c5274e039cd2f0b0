"""Files of an export: room for it, and weights that lie there once however many models use them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinsplit.errors import StorageError


def make_room(out: Path, name: str, *, is_replacing: bool) -> None:
    """Make the folder ``out``, without an export of any version of the model ``name``; other models in it stay.

    Raises:
        StorageError: there is one that is not to be replaced, or it cannot be written.
    """
    with _writing(out):
        found = _places(out, name)
        if found and not is_replacing:
            held = ", ".join(sorted({version for place in found for version in _versions(place)}, key=int))
            raise StorageError(
                f"{out}: holds {name} already, version {held or 'unknown'}, and has room for one, since an ensemble of "
                "Triton is the same in all versions; export each with --to tails, name another folder for another "
                "server, or replace it with --force"
            )
        for place in found:
            shutil.rmtree(place)


def make_room_for_version(out: Path, name: str, version: int, *, is_replacing: bool) -> None:
    """Make the folder ``out``, without this version of the model ``name`` as tails; other versions and models stay.

    Raises:
        StorageError: it is there and not to be replaced, the model is there as ensembles, or it cannot be written.
    """
    with _writing(out):
        found = _places(out, name)
        if any(place.name.startswith(f"{name}.segment_") for place in found):
            raise StorageError(
                f"{out}: holds {name} as ensembles (--to triton), whose names its tails would have; name another folder"
            )
        held = [place for place in found if str(version) in _versions(place)]
        if held and not is_replacing:
            raise StorageError(
                f"{out}: holds {name} version {version} already; name another folder, or replace it with --force"
            )
        for place in held:
            shutil.rmtree(place / str(version))
        for place in found:
            if not _versions(place):
                shutil.rmtree(place)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}; name a folder that can be written") from None


def _places(out: Path, name: str) -> list[Path]:
    """Where ``out`` holds ``name``, its tails and its segments."""
    beginnings = (f"{name}.from_cut_", f"{name}.segment_")
    return [path for path in sorted(out.iterdir()) if path.name == name or path.name.startswith(beginnings)]


def _versions(place: Path) -> list[str]:
    return [each.name for each in place.iterdir() if each.name.isdecimal()]


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
