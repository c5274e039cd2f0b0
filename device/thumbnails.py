"""Small pictures of frames for the console of the twin service: few, and of bounded size."""

from __future__ import annotations

import io
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinsplit.transport.limits import THUMBNAIL_BYTES

INTERVAL_S = 1.0
"""At most one is made in this time."""
LONGEST_SIDE = 96
"""Pixels."""
_QUALITIES = (75, 50, 25)
_SHORTEST_SIDE = 16


class Thumbnails:
    """Makes them, and says of which frames. Frames may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_at_s = float("-inf")

    def of(self, picture: NDArray[np.uint8] | None, now_s: float) -> bytes | None:
        """JPEG of a fitted picture (H, W, C) uint8, at most ``THUMBNAIL_BYTES``; ``None``: none of this frame."""
        if picture is None:  # a tensor is no picture
            return None
        with self._lock:
            if now_s < self._next_at_s:
                return None
            self._next_at_s = now_s + INTERVAL_S
        return small_jpeg(picture)


def small_jpeg(picture: NDArray[np.uint8]) -> bytes | None:
    """JPEG of at most ``LONGEST_SIDE`` pixels and ``THUMBNAIL_BYTES`` bytes; ``None``: it cannot be made so small."""
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    side = LONGEST_SIDE
    while side >= _SHORTEST_SIDE:
        image.thumbnail((side, side))
        for quality in _QUALITIES:
            data = io.BytesIO()
            image.save(data, "JPEG", quality=quality)
            if data.tell() <= THUMBNAIL_BYTES:
                return data.getvalue()
        side //= 2
    return None
