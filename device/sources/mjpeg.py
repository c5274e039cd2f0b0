"""Single JPEG pictures out of an MJPEG byte stream, found by their markers (ITU-T T.81, annex B)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PICTURE_BYTES = 64 << 20

_SOI = b"\xff\xd8\xff"
_BROKEN = 0
_EOI = 0xD9
_SOS = 0xDA
_TEM = 0x01
_RST = range(0xD0, 0xD8)
_SIZED = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
"""Start-of-frame markers: they hold height and width."""


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """One picture."""

    data: bytes
    size: tuple[int, int] | None
    """Width and height as its header says."""


class MjpegSplitter:
    """Takes bytes as they come, gives pictures as they are complete. An embedded thumbnail is part of its picture,
    since segments are skipped by their length; bytes that belong to no picture are skipped and counted."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._at = 0
        """Where to go on within the picture; 0: its start is still to be found."""
        self._size: tuple[int, int] | None = None
        self.skipped_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of a picture that is not complete."""
        return len(self._pending)

    def feed(self, chunk: bytes) -> list[JpegPicture]:
        """Pictures completed by ``chunk``."""
        self._pending += chunk
        pictures: list[JpegPicture] = []
        while self._at or self._find_start():
            end = self._find_end()
            if end is None:
                break
            if end == _BROKEN:
                self.skipped_bytes += len(_SOI) - 1
                self._drop(len(_SOI) - 1)
                continue
            pictures.append(JpegPicture(bytes(self._pending[:end]), self._size))
            self._drop(end)
        if len(self._pending) > MAX_PICTURE_BYTES:
            self.skipped_bytes += len(self._pending)
            self._drop(len(self._pending))
        return pictures

    def _find_start(self) -> bool:
        start = self._pending.find(_SOI)
        # The last bytes may be the beginning of a start.
        garbage = start if start >= 0 else max(0, len(self._pending) - len(_SOI) + 1)
        self.skipped_bytes += garbage
        self._drop(garbage)
        if start >= 0:
            self._at = 2
        return start >= 0

    def _find_end(self) -> int | None:
        """End of the picture; ``None``: more bytes are needed; _BROKEN: this is none."""
        pending = self._pending
        while self._at + 4 <= len(pending) or pending[self._at : self._at + 2] == bytes((0xFF, _EOI)):
            if pending[self._at] != 0xFF:
                return _BROKEN
            marker = pending[self._at + 1]
            if marker == _EOI:
                return self._at + 2
            if marker == 0xFF:  # fill byte
                self._at += 1
                continue
            if marker == _TEM or marker in _RST:
                self._at += 2
                continue
            length = int.from_bytes(pending[self._at + 2 : self._at + 4], "big")
            if length < 2 or marker in (0, _SOI[1]):
                return _BROKEN
            after = self._at + 2 + length
            if after > len(pending):
                return None
            if marker in _SIZED and length >= 7:
                height, width = (int.from_bytes(pending[self._at + o : self._at + o + 2], "big") for o in (5, 7))
                self._size = (width, height)
            if marker == _SOS:
                scan_end = self._scan_end(after)
                if scan_end is None:
                    return None
                after = scan_end
            self._at = after
        return None

    def _scan_end(self, start: int) -> int | None:
        """Next marker after entropy-coded data, in which 0xFF is followed by 0 or a restart marker."""
        at = start
        while (at := self._pending.find(0xFF, at)) >= 0 and at + 1 < len(self._pending):
            following = self._pending[at + 1]
            if following != 0 and following not in _RST:
                return at
            at += 2
        return None

    def _drop(self, count: int) -> None:
        del self._pending[:count]
        self._at = 0
        self._size = None
