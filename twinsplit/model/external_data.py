"""Which files an ONNX file points to, read from its bytes without the ``onnx`` package.

Older ONNX Runtimes (1.23 is one, the newest for Python 3.10) follow external data wherever it points, out of the model
folder and through links; devices and edges have no ``onnx``. So the file is walked here before it is opened: what it
points to must be in the manifest, whose names hold no path and whose digests have been compared.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

from twinsplit.errors import ModelFileError

_Fields = dict[int, str]
_MESSAGES: dict[str, _Fields] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Fields of onnx.proto that hold messages on the way to a tensor's external data."""
_KEY, _VALUE = 1, 2
_LOCATION = b"location"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 100
"""As deep as protobuf itself goes."""

_Data = mmap.mmap | bytes


def check_external_data(file: Path, known: Collection[str]) -> None:
    """See that an ONNX file points to no file but those in ``known``.

    Raises:
        ModelFileError: it does, or it cannot be read.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            strangers = external_locations(data) - set(known)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "is no ONNX file"
        raise ModelFileError(f"{file}: {cause}; copy the whole model folder again") from None
    if strangers:
        raise ModelFileError(
            f"{file}: points to {min(strangers)!r}, which is not in its manifest; take the model from where you trust"
        )


def external_locations(data: _Data) -> set[str]:
    """Every location of external data in an ONNX file.

    Raises:
        ValueError: it is not protobuf.
    """
    return set(_locations(data, "model", 0, len(data), 0))


def _locations(data: _Data, message: str, at: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if message == "entry":
        found = {number: data[begin:stop] for number, begin, stop in _fields(data, at, end)}
        if found.get(_KEY) == _LOCATION:
            yield found.get(_VALUE, b"").decode()
        return
    inner = _MESSAGES[message]
    for number, begin, stop in _fields(data, at, end):
        if number in inner:
            yield from _locations(data, inner[number], begin, stop, depth + 1)


def _fields(data: _Data, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every field that may hold a message."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise ValueError("cut short")
            yield tag >> 3, at, at + size
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no field that ONNX has")
    if at != end:
        raise ValueError("cut short")


def _varint(data: _Data, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")
