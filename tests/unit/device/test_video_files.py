"""Video files as OpenCV itself reads them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from device.settings import DeviceSettings
from device.sources import open_source
from device.sources.source import Problem, SourceWatch
from device.sources.video import VideoSource
from twinsplit.clock import ManualClock
from twinsplit.errors import SourceError

FRAMES_PER_S = 20.0
COLOURS = ((250, 0, 0), (0, 250, 0), (0, 0, 250))  # RGB
NEAR = 12  # levels of a channel that a JPEG of one colour may be off


class Watch(SourceWatch):
    """Does not wait: the clock jumps, and what is to happen in a pause happens."""

    def __init__(self, clock: ManualClock, in_pause: Callable[[int], bool] = lambda failures: False) -> None:
        super().__init__(clock.monotonic_s, is_live=False, stall_s=5.0)
        self._clock = clock
        self._in_pause = in_pause

    def sleep_until(self, instant_s: float) -> bool:
        self._clock.advance(max(0.0, instant_s - self._clock.monotonic_s()))
        return True

    def pause(self, failures: int) -> bool:
        self._clock.advance(1.0)
        return self._in_pause(failures)


def write_video(path: Path) -> None:
    """One frame of each colour, 64x48, as Motion JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FRAMES_PER_S, (64, 48))
    assert writer.isOpened()
    for red, green, blue in COLOURS:
        writer.write(np.full((48, 64, 3), (blue, green, red), np.uint8))
    writer.release()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(50.0)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    write_video(path)
    return path


def test_a_file_is_played_once_in_order_colour_and_pace(video: Path, clock: ManualClock) -> None:
    source = open_source(DeviceSettings(model="m", source=f"video:{video}", repeat=False), clock.monotonic_s)
    assert isinstance(source, VideoSource)
    watch = Watch(clock)
    frames = list(source.frames(watch))
    assert [frame.data.shape for frame in frames if isinstance(frame.data, np.ndarray)] == [(48, 64, 3)] * 3
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert np.abs(np.asarray(frame.data, int) - colour).max() <= NEAR
    assert [frame.arrived_at_s for frame in frames] == pytest.approx([50.0, 50.05, 50.1])
    assert (watch.frames, watch.problems) == (3, {})


def test_it_starts_over_after_its_end(video: Path, clock: ManualClock) -> None:
    watch = Watch(clock)
    frames = list(islice(VideoSource(str(video), clock.monotonic_s).frames(watch), 7))
    assert [int(np.asarray(frame.data)[24, 32].argmax()) for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert frames[-1].arrived_at_s == pytest.approx(50.3)
    assert watch.problems == {}


def test_a_file_that_vanishes_is_counted_and_tried_again_until_it_is_back(video: Path, clock: ManualClock) -> None:
    pauses: list[int] = []

    def put_back_in_the_second(failures: int) -> bool:
        pauses.append(failures)
        if failures == 2:
            write_video(video)
        return True

    watch = Watch(clock, put_back_in_the_second)
    frames = VideoSource(str(video), clock.monotonic_s).frames(watch)
    assert len(list(islice(frames, 3))) == 3
    video.unlink()
    back = list(islice(frames, 4))
    assert watch.problems == {Problem.LOST: 2}
    assert pauses == [1, 2], "pauses grow"
    paused_s = 2.0
    assert back[0].arrived_at_s == pytest.approx(50.1 + paused_s), "what was missed is not made up for"
    assert back[3].arrived_at_s - back[0].arrived_at_s == pytest.approx(3 / FRAMES_PER_S)


def test_it_ends_when_nobody_wants_it_back(video: Path, clock: ManualClock) -> None:
    watch = Watch(clock)
    frames = VideoSource(str(video), clock.monotonic_s).frames(watch)
    assert len(list(islice(frames, 3))) == 3
    video.unlink()
    assert list(frames) == []
    assert watch.problems == {Problem.LOST: 1}


def test_a_file_that_is_no_video_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"clip\.avi cannot be opened"):
        VideoSource(str(path), clock.monotonic_s)
