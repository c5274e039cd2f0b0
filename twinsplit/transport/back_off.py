"""Connecting, and connecting again, to a peer that may be gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.limits import RECONNECT_FIRST_S, RECONNECT_LAST_S

STEADY_S = 1.0
"""A connection that ends sooner counts as a failure for the pauses between tries."""


def reconnect_delay_s(failures: int, rng: random.Random) -> float:
    """Pause before the next try after ``failures`` in a row: doubled each time, bounded, jittered by half, so that many
    devices do not come back at the same instant."""
    longest_s = min(RECONNECT_FIRST_S * 2.0 ** min(failures, 16), RECONNECT_LAST_S)
    return longest_s * rng.uniform(0.5, 1.0)


async def keep_connected(
    peer: str,
    address: str,
    connection: Callable[[], Awaitable[bool]],
    now_s: Callable[[], float],
    log: EventLog,
    rng: random.Random | None = None,
) -> None:
    """Run ``connection`` again and again, with a pause after each, until cancelled.

    Args:
        peer: what is at the other end, for the log: ``edge`` or ``twin``.
        connection: one connection from its start to its end; says whether the peer answered on it.
        now_s: monotonic clock.
        rng: jitter; ``None``: a random one.
    """
    rng = rng or random.Random()
    failures = 0
    while True:
        began_s = now_s()
        was_up = False
        try:
            was_up = await connection()
        except Exception as error:
            failed = f"{peer}-link-failed"
            log.exception(failed, error, address=address)
        failures = 0 if was_up and now_s() - began_s > STEADY_S else failures + 1
        delay_s = reconnect_delay_s(failures, rng)
        if was_up or failures == 1:
            lost = f"{peer}-lost" if was_up else f"{peer}-unreachable"
            log.warning(lost, address=address, retry_s=round(delay_s, 3))
        await asyncio.sleep(delay_s)
