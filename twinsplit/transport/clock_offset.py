"""The offset between a peer's monotonic clock and ours, from clock readings that ride on messages sent anyway.

Four instants of a round trip give an offset that is wrong by at most half of the time spent on the way (RFC 5905,
section 8); of the newest round trips the one with the least uncertainty counts (the clock filter of its section 10).
Two machines' clocks are never subtracted without it (design section 4).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

_KEPT_ROUND_TRIPS = 8
_DRIFT = 50e-6
"""Rate at which two quartz clocks may part, seconds per second: an old round trip grows uncertain by it."""


@dataclass(frozen=True, slots=True)
class ClockReadings:
    """What one message says about clocks, seconds (``ClockEcho`` of the protocol)."""

    sent_s: float
    """Peer's clock when it sent the message."""
    echo_sent_s: float = 0.0
    """Our clock when we sent the newest message that the peer had received; 0: none yet."""
    echo_received_s: float = 0.0
    """Peer's clock when it received that message."""


class _RoundTrip(NamedTuple):
    uncertainty_s: float
    """Less what is the same for all at one instant: the smallest one is that of the least uncertain round trip."""
    offset_s: float
    delay_s: float
    began_s: float


class ClockOffset:
    """One peer's clock against ours."""

    def __init__(self) -> None:
        self._round_trips: deque[_RoundTrip] = deque(maxlen=_KEPT_ROUND_TRIPS)
        self._latest_sent_s = 0.0
        self._latest_received_s = 0.0

    def received(self, readings: ClockReadings, now_s: float) -> float:
        """Take the readings of a message received at ``now_s``; return the instant of its sending on our clock.

        Without a round trip the way here counts as no time. Readings that are impossible (not finite, an echo from the
        future) are passed over, so that a peer can spoil its own ages only.
        """
        if not math.isfinite(readings.sent_s):
            return now_s
        self._latest_sent_s, self._latest_received_s = readings.sent_s, now_s
        if readings.echo_sent_s > 0.0 and math.isfinite(readings.echo_received_s):
            there_s = readings.echo_received_s - readings.echo_sent_s
            back_s = readings.sent_s - now_s
            delay_s = there_s - back_s
            if 0.0 <= delay_s < math.inf:
                began_s = readings.echo_sent_s
                uncertainty_s = 0.5 * delay_s - _DRIFT * began_s
                self._round_trips.append(_RoundTrip(uncertainty_s, 0.5 * (there_s + back_s), delay_s, began_s))
        offset_s = self.offset_s(now_s)
        return now_s if offset_s is None else min(now_s, readings.sent_s - offset_s)

    def offset_s(self, now_s: float) -> float | None:
        """Peer's clock minus ours, seconds; ``None``: not known well enough.

        That is before the first round trip, and once the clocks may have drifted by more than the way takes: to count
        the way as no time is then the smaller error.
        """
        if not self._round_trips:
            return None
        best = min(self._round_trips)
        # As far as they may have drifted, against half of the way.
        return None if _DRIFT * (now_s - best.began_s) > 0.5 * best.delay_s else best.offset_s

    def readings(self, now_s: float) -> ClockReadings:
        """What a message that we send at ``now_s`` says about clocks."""
        return ClockReadings(now_s, self._latest_sent_s, self._latest_received_s)
