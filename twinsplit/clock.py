"""The one door to time. Everything that needs a clock is given one, so that tests and the simulator own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time. Durations always come from ``monotonic_s``; ``unix_ns`` is only for labels and logs."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary origin, never going backwards."""
        ...

    def unix_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is told to advance (tests, simulator)."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def monotonic_s(self) -> float:
        return self._now_s

    def unix_ns(self) -> int:
        return int(self._now_s * 1e9)

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self._now_s += seconds

    def advance_to(self, now_s: float) -> None:
        """Move forward to the instant ``now_s``."""
        self.advance(now_s - self._now_s)
