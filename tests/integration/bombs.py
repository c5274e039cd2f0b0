"""Small bytes that claim to be large, given to every decoder that takes bytes of others, in a process whose memory is
limited to what it has and a little more. Prints for each its name and the error that refused it.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard
from PIL import Image

from tests.unit.edge.tiny_model import SHAPES, write_tiny_model
from twin_service.workload.traces import unpacked
from twinsplit.errors import TwinsplitError
from twinsplit.model.manifest import Manifest, read_manifest
from twinsplit.model.payload import decode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.tensor import TensorHeader, decode
from twinsplit.transport.convert import plan_from_wire

ROOM_BYTES = 192 << 20
"""Address space on top of what the process has; every bomb claims more."""
CLAIMED_BYTES = 4 << 30
_MAGIC = b"\x28\xb5\x2f\xfd"
_SMALL = TensorHeader((1, 4, 8, 8), "float32", "float32", "zstd")
_SMALL_BYTES = 1024
PNG = TensorHeader(SHAPES[0], "float32", "png")


def zstd_of_zeros(size: int, *, is_sized: bool) -> bytes:
    """A whole Zstandard frame of ``size`` zeros, made in pieces: some 10 kB for a GiB."""
    out, piece = io.BytesIO(), bytes(1 << 20)
    compressor = zstandard.ZstdCompressor(write_content_size=is_sized)
    with compressor.stream_writer(out, size=size if is_sized else -1, closefd=False) as writer:
        for _ in range(size >> 20):
            writer.write(piece)
    return out.getvalue()


def zstd_of_length(size: int, *, window_log: int = 10) -> bytes:
    """The head of a Zstandard frame that tells of ``size`` bytes and a window, with an empty last block."""
    return _MAGIC + b"\xc0" + bytes([(window_log - 10) << 3]) + struct.pack("<Q", size) + b"\x01\x00\x00"


def png_of(width: int, height: int) -> bytes:
    """A PNG of so many pixels, of which the first row is there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(1 + 3 * width))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def npy_of(shape: str) -> bytes:
    """A ``.npy`` file with a header and 16 bytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)


def plan(shape: tuple[int, ...], table: bytes) -> twin_pb2.Plan:
    """A plan that is nothing but its table."""
    return twin_pb2.Plan(table_shape=shape, table_zstd=table)


def bombs(manifest: Manifest, tensors: Manifest) -> dict[str, Callable[[], object]]:
    """Name to what sets it off."""
    limit = _SMALL.element_count
    zeros, unsized = zstd_of_zeros(512 << 20, is_sized=True), zstd_of_zeros(512 << 20, is_sized=False)
    liar = zstandard.compress(bytes(1 << 29))
    at = zstandard.get_frame_parameters(liar)
    assert at.content_size == 1 << 29
    lied = liar.replace(struct.pack("<I", 1 << 29), struct.pack("<I", _SMALL_BYTES), 1)
    assert zstandard.frame_content_size(lied) == _SMALL_BYTES
    huge = (1 << 14, 1 << 14, 4, 64)
    return {
        "zstd that tells of much": lambda: decode(_SMALL, zstd_of_length(CLAIMED_BYTES), limit),
        "zstd that holds much": lambda: decode(_SMALL, zeros, limit),
        "zstd that does not tell": lambda: decode(_SMALL, unsized, limit),
        "zstd that holds more than it tells": lambda: decode(_SMALL, lied, limit),
        "zstd with a window of 2 GiB": lambda: decode(_SMALL, zstd_of_length(_SMALL_BYTES, window_log=31), limit),
        "zstd twice": lambda: decode(_SMALL, zstandard.compress(bytes(_SMALL_BYTES)) + zeros, limit),
        "shape of a large tensor": lambda: decode(_SMALL._replace(shape=(1 << 15, 1 << 15)), b"", limit),
        "shape without end": lambda: decode(_SMALL._replace(shape=(1 << 40,) * 3), b"", limit),
        "uint4 of a large tensor": lambda: decode(
            _SMALL._replace(shape=(1 << 30,), representation="uint4", scale=1.0), zeros, limit
        ),
        "plan of many cells": lambda: plan_from_wire(plan(huge, zeros)),
        "plan whose table grows": lambda: plan_from_wire(plan((4, 4, 4, 4), zeros)),
        "png payload of many pixels": lambda: decode_payload(manifest, 0, PNG, png_of(20_000, 20_000)),
        "png frame of many pixels": lambda: prepare(png_of(20_000, 20_000), manifest),
        "npy frame of many elements": lambda: prepare(npy_of("(1073741824,)"), tensors),
        "npy frame without end": lambda: prepare(npy_of(f"({1 << 60}, {1 << 60})"), tensors),
        "export that grows": lambda: unpacked(zstd_of_zeros(512 << 20, is_sized=True)),
        "export that tells of much": lambda: unpacked(zstd_of_length(CLAIMED_BYTES)),
    }


def main(folder: str) -> None:
    """Set all off."""
    manifest, _ = read_manifest(write_tiny_model(Path(folder)))
    tensors = manifest.model_copy(update={"preprocessing": manifest.preprocessing.model_copy(update={"kind": "none"})})
    Image.init()
    np.ones(8).sum()
    found = bombs(manifest, tensors)
    # What is made before the limit stands is not measured.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for name, set_off in found.items():
        print(f"{name}: {_refusal(set_off)}")


def _refusal(set_off: Callable[[], object]) -> str:
    try:
        set_off()
    except (TwinsplitError, zstandard.ZstdError) as error:
        return type(error).__name__
    except MemoryError:
        return "memory was taken"
    return "it was taken for good"


if __name__ == "__main__":
    main(sys.argv[1])
