"""What every source is, and the watch kept over it: stalls, losses and unusable frames are reported and counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from twinsplit.model.preprocessing import Frame
from twinsplit.telemetry.logs import EventLog

_log = EventLog("device.source")

REPEATED_LINE_S = 10.0
RETRY_FIRST_S = 0.2
RETRY_LAST_S = 5.0


class Problem(str, Enum):
    """What may go wrong with a source that was open."""

    STALLED = "stalled"
    """No frame for longer than ``stall_s``."""
    LOST = "lost"
    """It vanished; it is opened again, with growing pauses."""
    SIZE_CHANGED = "size-changed"
    """Its frames have another size now; they are still fitted to the input."""
    UNREADABLE = "unreadable"
    """Bytes or a file that are no frame; skipped."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame."""

    name: str
    data: Frame
    arrived_at_s: float
    """Its generation on the monotonic clock."""


class SourceWatch:
    """Counts what a source delivers and what goes wrong, and tells its thread when to stop."""

    def __init__(self, now_s: Callable[[], float], *, is_live: bool, stall_s: float) -> None:
        self._now_s = now_s
        self._is_live = is_live
        self._stall_s = stall_s
        self._stop = threading.Event()
        self._last_frame_s = now_s()
        self._is_stalled = False
        self._size: tuple[int, int] | None = None
        self.frames = 0
        self.problems: Counter[Problem] = Counter()

    @property
    def is_stopping(self) -> bool:
        """Whether no more frames are wanted."""
        return self._stop.is_set()

    def stop(self) -> None:
        """No more frames are wanted; from any thread."""
        self._stop.set()

    def sleep_until(self, instant_s: float) -> bool:
        """Wait for an instant; False: no more frames are wanted."""
        left_s = instant_s - self._now_s()
        return not (self._stop.wait(min(left_s, threading.TIMEOUT_MAX)) if left_s > 0.0 else self._stop.is_set())

    def pause(self, failures: int) -> bool:
        """Wait before the next try after so many failures in a row; False: no more frames are wanted."""
        return not self._stop.wait(min(RETRY_FIRST_S * 2.0 ** min(failures - 1, 16), RETRY_LAST_S))

    def note(self, problem: Problem, **fields: Any) -> None:
        """Something went wrong: counted, and logged at a bounded rate."""
        self.problems[problem] += 1
        _log.warning(f"source-{problem.value}", limit_s=REPEATED_LINE_S, **fields)

    def note_frame(self, size: tuple[int, int] | None = None) -> None:
        """A frame was delivered; ``size``: its width and height, where they are known before decoding."""
        self.frames += 1
        self._last_frame_s = self._now_s()
        if self._is_stalled:
            self._is_stalled = False
            _log.info("source-resumed")
        if size is not None and size != self._size:
            if self._size is not None:
                self.note(Problem.SIZE_CHANGED, before="x".join(map(str, self._size)), now="x".join(map(str, size)))
            self._size = size

    def look(self) -> None:
        """See whether a live source stalls; from a timer."""
        silent_s = self._now_s() - self._last_frame_s
        if self._is_live and not self._is_stalled and silent_s > self._stall_s and not self._stop.is_set():
            self._is_stalled = True
            self.note(Problem.STALLED, silent_s=round(silent_s, 1), cure="see that the camera or program still sends")


class Source(Protocol):
    """Where frames come from."""

    is_live: bool
    """It has its own pace, and what is not taken in time is lost."""

    def frames(self, watch: SourceWatch) -> Iterator[SourceFrame]:
        """Frames as they arrive, until the source ends or ``watch`` says stop. Runs in a thread of its own."""
        ...
