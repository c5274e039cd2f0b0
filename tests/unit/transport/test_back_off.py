"""Pauses between tries to connect grow, differ between devices, and stay short enough to find a peer soon."""

from __future__ import annotations

import random

from twinsplit.transport.back_off import reconnect_delay_s
from twinsplit.transport.limits import RECONNECT_FIRST_S, RECONNECT_LAST_S

RECOVERY_S = 3.0
"""Within so long after an outage everything works again (docs/reliability.md)."""


def test_pauses_grow_and_differ() -> None:
    rng = random.Random(1)
    first = [reconnect_delay_s(0, rng) for _ in range(200)]
    third = [reconnect_delay_s(2, rng) for _ in range(200)]
    assert 0.5 * RECONNECT_FIRST_S <= min(first) < max(first) <= RECONNECT_FIRST_S
    assert min(third) >= max(first)
    assert len(set(first)) == len(first)


def test_after_the_longest_outage_a_peer_is_found_soon() -> None:
    rng = random.Random(2)
    assert max(reconnect_delay_s(10_000, rng) for _ in range(200)) <= RECONNECT_LAST_S < RECOVERY_S
