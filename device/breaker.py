"""Circuit breaker of the way to one edge: opens after failures, half-opens, closes by itself. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class BreakerState(str, Enum):
    """CLOSED: offloads go. OPEN: none goes. HALF_OPEN: one may go, and its end decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens and for how long."""

    failures_to_open: int = 3
    """So many failures in a row open it; a lost connection opens it at once."""
    open_s: float = 1.0
    """Time before it half-opens; doubled by every failed trial."""
    max_open_s: float = 2.0
    """Longest such time: an edge that answers again is found within so long, and one that stays silent costs one task
    in so long the wait for its answer."""


class CircuitBreaker:
    """Failures in a row open it; while the connection is down it stays open; a trial that succeeds closes it."""

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self._settings = settings or BreakerSettings()
        self._failures = 0
        self._open_s = self._settings.open_s
        self._opened_at_s: float | None = None
        self._is_trial_out = False
        self._is_disconnected = False
        self.has_answered = False
        """Whether the edge is known to answer: it did since the last failure."""
        self.is_connected = False
        """Whether there is a connection on which the edge has answered."""
        self.openings = 0
        """How often it has opened."""

    def state(self, now_s: float) -> BreakerState:
        """State at ``now_s``."""
        if self._opened_at_s is None:
            return BreakerState.CLOSED
        if self._is_disconnected or now_s - self._opened_at_s < self._open_s:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def allows(self, now_s: float) -> bool:
        """Whether an offload may go now."""
        if self._opened_at_s is None:
            return True
        return not self._is_trial_out and self.state(now_s) is BreakerState.HALF_OPEN

    def attempted(self, now_s: float) -> None:
        """An offload goes."""
        self._is_trial_out = self.state(now_s) is BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """An offload was answered in time."""
        self.has_answered = True
        self._failures = 0
        self._opened_at_s = None
        self._is_trial_out = False
        self._open_s = self._settings.open_s

    def failed(self, now_s: float) -> None:
        """An offload was refused or got no answer in time."""
        self.has_answered = False
        self._failures += 1
        if self._opened_at_s is None:
            if self._failures >= self._settings.failures_to_open:
                self._open(now_s)
        elif self._is_trial_out:
            self._is_trial_out = False
            self._open_s = min(2.0 * self._open_s, self._settings.max_open_s)
            self._opened_at_s = now_s

    def disconnected(self, now_s: float) -> None:
        """The connection is gone: nothing goes until there is a new one."""
        self.has_answered = self.is_connected = False
        self._is_disconnected = True
        self._is_trial_out = False
        if self._opened_at_s is None:
            self._open(now_s)

    def connected(self, now_s: float) -> None:
        """The edge is connected and answers: after a lost connection one offload may go at once."""
        if self._is_disconnected and self._opened_at_s is not None:
            self._opened_at_s = now_s - self._open_s
        self._is_disconnected = False
        self.has_answered = self.is_connected = True

    def _open(self, now_s: float) -> None:
        self._opened_at_s = now_s
        self.openings += 1
