"""Pictures out of an MJPEG stream, whatever its chunks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from device.sources import mjpeg
from device.sources.mjpeg import MjpegSplitter


def jpeg_of(seed: int = 0, size: tuple[int, int] = (24, 16), **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


PICTURES = (
    jpeg_of(0),
    jpeg_of(1, quality=100, subsampling=0),
    jpeg_of(2, progressive=True),
    jpeg_of(3, restart_marker_blocks=1),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(PICTURES), min_size=1, max_size=4), st.integers(1, 700))
def test_chunks_do_not_matter(pictures, chunk):
    data = b"".join(pictures)
    splitter = MjpegSplitter()
    found = [p for at in range(0, len(data), chunk) for p in splitter.feed(data[at : at + chunk])]
    assert [p.data for p in found] == pictures
    assert {p.size for p in found} == {(24, 16)}
    assert (splitter.skipped_bytes, splitter.pending_bytes) == (0, 0)


def test_a_thumbnail_inside_is_part_of_its_picture():
    thumbnail = jpeg_of(9, (8, 8))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = PICTURES[0][:2] + segment + PICTURES[0][2:]
    (found,) = MjpegSplitter().feed(whole)
    assert found.data == whole
    assert found.size == (24, 16)


def test_a_broken_picture_is_skipped_and_the_next_one_found():
    broken = PICTURES[0][:2] + b"\xff\xe0\x00\x00" + PICTURES[0][4:40]
    splitter = MjpegSplitter()
    found = splitter.feed(broken + PICTURES[1] + PICTURES[0])
    assert [p.data for p in found] == [PICTURES[1], PICTURES[0]]
    assert splitter.skipped_bytes == len(broken)


def test_a_picture_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(mjpeg, "MAX_PICTURE_BYTES", 1000)
    splitter = MjpegSplitter()
    assert splitter.feed(PICTURES[0][:-2] + bytes(2000)) == []
    assert splitter.skipped_bytes > 1000
    assert splitter.pending_bytes == 0


@pytest.mark.parametrize("garbage", [b"\xff", b"\xff\xd8", b"\x00" * 50])
def test_garbage_before_a_picture_is_skipped(garbage):
    splitter = MjpegSplitter()
    (found,) = splitter.feed(garbage + PICTURES[0])
    assert found.data == PICTURES[0]
    assert splitter.skipped_bytes == len(garbage)
