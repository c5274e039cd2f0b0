"""Pauses between tries to reach a peer that is gone."""

from __future__ import annotations

import random

from twinsplit.transport.limits import RECONNECT_FIRST_S, RECONNECT_LAST_S


def reconnect_delay_s(failures: int, rng: random.Random) -> float:
    """Pause before the next try after ``failures`` in a row: doubled each time, bounded, jittered by half, so that many
    devices do not come back at the same instant."""
    longest_s = min(RECONNECT_FIRST_S * 2.0 ** min(failures, 16), RECONNECT_LAST_S)
    return longest_s * rng.uniform(0.5, 1.0)
