"""Replaying in the time that the service has to spare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_LOOK_S = 0.1
"""Time between two looks for tasks to replay while there are none, or no time for them."""
_BUSY_S = 0.1
"""What was due so long ago and has only now come to its turn shows that others wait, too."""


async def replay_in_spare_time(
    replay_next: Callable[[], float | None],
    share: float,
    now_s: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Replay task by task until cancelled, never taking more than ``share`` of the core, at any time; nothing as long
    as devices wait for the core.

    Args:
        replay_next: Replays one: the seconds that it took; ``None``: none could be replayed now.
        share: 0: nothing is replayed.
        now_s: Monotonic clock.
    """
    pause_s = 0.0
    while share > 0.0:
        due_s = now_s() + pause_s
        await sleep(pause_s)
        cost_s = replay_next() if now_s() <= due_s + _BUSY_S else None
        pause_s = _LOOK_S if cost_s is None else cost_s * (1.0 - share) / share
