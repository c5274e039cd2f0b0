"""Stretches of time in which something was going on, and how much of any other stretch they fill. Sans-IO."""

from __future__ import annotations

from bisect import bisect_right

_KEPT_SPANS = 4096


class SpanLog:
    """Spans in the order in which they end; where one would overlap those before it, only the rest counts."""

    def __init__(self, kept_spans: int = _KEPT_SPANS) -> None:
        self._kept_spans = kept_spans
        self._began_s: list[float] = []
        self._ended_s: list[float] = []
        self._filled_s: list[float] = []
        """Seconds filled before each span."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has ever been going on."""
        return not self._ended_s

    @property
    def newest_end_s(self) -> float:
        """Where the newest span ends; ``-inf``: there is none."""
        return self._ended_s[-1] if self._ended_s else float("-inf")

    def add(self, began_s: float, ended_s: float) -> None:
        """It was going on from ``began_s`` to ``ended_s``."""
        if self._ended_s and began_s <= self._ended_s[-1]:
            # What follows at once, or overlaps, makes the last span longer.
            self._ended_s[-1] = max(self._ended_s[-1], ended_s)
            return
        if ended_s <= began_s:
            return
        self._filled_s.append(self._filled_until(began_s))
        self._began_s.append(began_s)
        self._ended_s.append(ended_s)
        if len(self._ended_s) > self._kept_spans:
            half = self._kept_spans // 2
            for column in (self._began_s, self._ended_s, self._filled_s):
                del column[:half]

    def seconds_between(self, start_s: float, end_s: float) -> float:
        """How long it was going on between ``start_s`` and ``end_s``."""
        return max(0.0, self._filled_until(end_s) - self._filled_until(start_s))

    def _filled_until(self, at_s: float) -> float:
        index = bisect_right(self._began_s, at_s) - 1
        if index < 0:
            return self._filled_s[0] if self._filled_s else 0.0
        return self._filled_s[index] + min(at_s, self._ended_s[index]) - self._began_s[index]
