"""Lossless compression around a representation."""

from __future__ import annotations

import threading

import zstandard

from twinsplit.errors import OversizeError, TensorError

ZSTD_LEVEL = 1
"""A fast level: on a weak device a higher one costs more time than its bytes save on the link."""


class _Contexts(threading.local):
    # A zstd context serves one thread at a time, and making one costs more than compressing a small tensor.
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(data: bytes | memoryview, codec: str) -> bytes | memoryview:
    """``data`` in ``codec``; with ``none`` the very same object.

    Raises:
        TensorError: an unknown codec.
    """
    if codec == "none":
        return data
    if codec == "zstd":
        return _contexts.compressor.compress(data)
    raise TensorError(f"tensor: codec {codec!r} is unknown; use none or zstd")


def decompress(data: bytes | memoryview, codec: str, *, max_bytes: int) -> bytes | memoryview:
    """The bytes inside ``data``, at most ``max_bytes``; the size is checked before anything is allocated.

    Raises:
        TensorError: an unknown codec, bytes that are not one whole frame, or a frame without its content size.
        OversizeError: more than ``max_bytes`` inside.
    """
    if codec == "none":
        size = len(data)
    elif codec == "zstd":
        try:
            size = zstandard.frame_content_size(data)
        except zstandard.ZstdError:
            raise TensorError("tensor: the payload is not a Zstandard frame; send what `codec` says") from None
        if size < 0:
            raise TensorError("tensor: the Zstandard frame lacks its content size; write it into the frame")
    else:
        raise TensorError(f"tensor: codec {codec!r} is unknown; use none or zstd")
    if size > max_bytes:
        raise OversizeError(f"tensor: {size} bytes inside the payload, at most {max_bytes} fit its shape")
    if codec == "none":
        return data
    if size == 0:
        return b""
    try:
        return _contexts.decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise TensorError("tensor: the Zstandard frame is damaged or has bytes after its end; send it again") from None
