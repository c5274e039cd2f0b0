"""Frames on standard input: MJPEG or raw frames, so that ``rpicam-vid -o -`` and a GStreamer pipe need no package."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.sources.mjpeg import MjpegSplitter
from device.sources.source import Problem, SourceFrame, SourceWatch
from twinsplit.errors import SettingsError, SourceError

READ_BYTES = 1 << 18
_LOOK_S = 0.2
_LARGEST_SIDE = 16384


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Raw frames of one size, one after the other."""

    pixel: str
    """``rgb24``, ``bgr24`` or ``gray``."""
    width: int
    height: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * (1 if self.pixel == "gray" else 3)

    def frame(self, data: bytes) -> NDArray[Any]:
        """(H, W, 3) in RGB order or (H, W), uint8."""
        if self.pixel == "gray":
            return np.frombuffer(data, np.uint8).reshape(self.height, self.width)
        picture = np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3)
        return np.ascontiguousarray(picture[..., ::-1]) if self.pixel == "bgr24" else picture


def parse_raw_format(text: str) -> RawFormat:
    """A raw format as settings write it.

    Raises:
        SettingsError: not ``rgb24:WxH``, ``bgr24:WxH`` or ``gray:WxH``.
    """
    match = re.fullmatch(r"(rgb24|bgr24|gray):(\d{1,5})x(\d{1,5})", text)
    if match is not None:
        raw_format = RawFormat(match[1], int(match[2]), int(match[3]))
        if 0 < raw_format.width <= _LARGEST_SIDE and 0 < raw_format.height <= _LARGEST_SIDE:
            return raw_format
    raise SettingsError(f"--raw-format {text!r}: use rgb24:WxH, bgr24:WxH or gray:WxH, such as rgb24:640x480")


class StandardInputSource:
    """Frames read from a file descriptor. Its end is the source's end."""

    is_live = True

    def __init__(self, descriptor: int, raw_format: RawFormat | None, now_s: Callable[[], float]) -> None:
        """
        Args:
            raw_format: ``None``: MJPEG.
        """
        self._descriptor = descriptor
        self._raw_format = raw_format
        self._now_s = now_s
        self._bytes_read = 0
        self._cure = (
            "JPEG pictures are expected, such as rpicam-vid --codec mjpeg sends; for others see --raw-format"
            if raw_format is None
            else f"frames of {raw_format.frame_bytes} bytes are expected; see --raw-format"
        )

    def frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        chunks = self._chunks(watch)
        raw_format = self._raw_format
        yield from self._mjpeg(chunks, watch) if raw_format is None else self._raw(chunks, raw_format, watch)
        if self._bytes_read and not watch.frames and not watch.is_stopping:
            raise SourceError(f"standard input: no frame in {self._bytes_read} bytes; {self._cure}")

    def _mjpeg(self, chunks: Iterator[bytes], watch: SourceWatch) -> Iterator[SourceFrame]:
        splitter = MjpegSplitter()
        for chunk in chunks:
            for picture in splitter.feed(chunk):
                watch.note_frame(picture.size)
                yield SourceFrame(str(watch.frames), picture.data, self._now_s())
            if splitter.skipped_bytes:
                watch.note(Problem.UNREADABLE, bytes=splitter.skipped_bytes, cure=self._cure)
                splitter.skipped_bytes = 0
        if splitter.pending_bytes and not watch.is_stopping:
            watch.note(Problem.UNREADABLE, bytes=splitter.pending_bytes, at="end of input", cure=self._cure)

    def _raw(self, chunks: Iterator[bytes], raw_format: RawFormat, watch: SourceWatch) -> Iterator[SourceFrame]:
        pending = bytearray()
        size = raw_format.frame_bytes
        for chunk in chunks:
            pending += chunk
            while len(pending) >= size:
                data = bytes(pending[:size])
                del pending[:size]
                watch.note_frame((raw_format.width, raw_format.height))
                yield SourceFrame(str(watch.frames), raw_format.frame(data), self._now_s())
        if pending and not watch.is_stopping:
            watch.note(Problem.UNREADABLE, bytes=len(pending), at="end of input", cure=self._cure)

    def _chunks(self, watch: SourceWatch) -> Iterator[bytes]:
        while not watch.is_stopping:
            # A blocking read could not be told to stop.
            if not select.select([self._descriptor], [], [], _LOOK_S)[0]:
                continue
            try:
                chunk = os.read(self._descriptor, READ_BYTES)
            except OSError as error:
                raise SourceError(
                    f"standard input: {error.strerror}; send frames to it (PROGRAM | twinsplit device run --source -)"
                ) from None
            if not chunk:
                return
            self._bytes_read += len(chunk)
            yield chunk
