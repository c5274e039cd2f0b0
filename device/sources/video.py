"""Cameras, video files and streams by OpenCV, which is an optional extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from device.sources.source import Problem, SourceFrame, SourceWatch
from twinsplit.credentials import without_password
from twinsplit.errors import SourceError

_DEFAULT_FRAMES_PER_S = 25.0


def load_opencv() -> Any:
    """The module ``cv2``.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise SourceError(
            "camera: and video: sources need OpenCV, which is not installed; pip install 'twinsplit[video]', or pipe "
            "frames into --source -"
        ) from None
    return cv2


class _Capture:
    """An OpenCV capture that was opened once and is opened again when it is lost."""

    def __init__(self, target: int | str, shown: str, now_s: Callable[[], float]) -> None:
        self._opencv = load_opencv()
        self._target = target
        self._shown = shown
        self._now_s = now_s
        self._capture = self._opencv.VideoCapture(target)
        if not self._capture.isOpened():
            raise SourceError(
                f"{shown} cannot be opened; see that it exists, is of a kind that OpenCV reads, and is held by nobody "
                "else"
            )

    def _live_frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        failures = 0
        while not watch.is_stopping:
            is_read, picture = self._capture.read()
            if is_read:
                failures = 0
                yield self._frame(picture, watch, self._now_s())
                continue
            failures += 1
            watch.note(Problem.LOST, source=self._shown)
            self._capture.release()
            if not watch.pause(failures):
                return
            self._capture = self._opencv.VideoCapture(self._target)
        self._capture.release()

    def _frame(self, picture: Any, watch: SourceWatch, arrived_at_s: float) -> SourceFrame:
        height, width = picture.shape[:2]
        watch.note_frame((width, height))
        # OpenCV gives BGR.
        rgb = picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])
        return SourceFrame(str(watch.frames), rgb, arrived_at_s)


class CameraSource(_Capture):
    """A camera by its number or device name."""

    is_live = True

    def __init__(self, place: str, now_s: Callable[[], float]) -> None:
        """
        Raises:
            SourceError: no OpenCV, or the camera cannot be opened.
        """
        super().__init__(int(place) if place.isdigit() else place, f"camera:{place}", now_s)

    def frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        return self._live_frames(watch)


class VideoSource(_Capture):
    """A stream by its URL, which has its own pace, or a file, which is played at its frame rate."""

    def __init__(self, place: str, now_s: Callable[[], float], *, is_repeated: bool = True) -> None:
        """
        Args:
            is_repeated: start a file over after its last frame; else the source ends with it.

        Raises:
            SourceError: no OpenCV, or the file or stream cannot be opened.
        """
        super().__init__(place, f"video:{without_password(place)}", now_s)
        self.is_live = "://" in place
        self._is_repeated = is_repeated

    def frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        return self._live_frames(watch) if self.is_live else self._file_frames(watch)

    def _file_frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        period_s = 1.0 / (self._capture.get(self._opencv.CAP_PROP_FPS) or _DEFAULT_FRAMES_PER_S)
        due_at_s = self._now_s()
        failures = 0
        while True:
            frames_before = watch.frames
            for picture in self._pictures_to_the_end():
                if not watch.sleep_until(due_at_s):
                    return
                yield self._frame(picture, watch, due_at_s)
                due_at_s += period_s
            if watch.frames > frames_before:
                failures = 0
            else:  # it vanished, or is no video any more
                failures += 1
                watch.note(Problem.LOST, source=self._shown)
                if self._is_repeated and not watch.pause(failures):
                    return
                due_at_s = max(due_at_s, self._now_s())
            if not self._is_repeated:
                return
            self._capture = self._opencv.VideoCapture(self._target)

    def _pictures_to_the_end(self) -> Iterator[Any]:
        """What is left in the open file, which is closed then."""
        try:
            while (read := self._capture.read())[0]:
                yield read[1]
        finally:
            self._capture.release()
