"""Replaying takes at most its share of the core, and no time that devices wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from twin_service.workload.spare_time import replay_in_spare_time

UNTIL_S = 100.0


class _OverError(Exception):
    """The time of the test is over."""


def replayed(
    share: float, *, cost_s: float | None = 0.003, late_s: Callable[[float], float] = lambda _now: 0.0
) -> list[float]:
    """Instants at which a task was replayed; ``late_s``: how late one comes to its turn at an instant."""
    now_s, found = 0.0, []

    def replay_next() -> float | None:
        nonlocal now_s
        found.append(now_s)
        now_s += cost_s or 0.0
        return cost_s

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds + late_s(now_s)
        if now_s >= UNTIL_S:
            raise _OverError

    async def run() -> None:
        with pytest.raises(_OverError):
            await replay_in_spare_time(replay_next, share, lambda: now_s, sleep)

    asyncio.run(run())
    return found


def test_replaying_takes_its_share_of_the_core() -> None:
    assert len(replayed(0.3)) * 0.003 == pytest.approx(0.3 * UNTIL_S, rel=0.01)


def test_while_there_is_nothing_to_replay_it_is_looked_for_ten_times_a_second() -> None:
    assert len(replayed(0.3, cost_s=None)) == pytest.approx(10 * UNTIL_S, rel=0.01)


def test_nothing_is_replayed_while_others_wait_and_all_goes_on_afterwards() -> None:
    instants = replayed(0.3, late_s=lambda now_s: 0.2 if 20.0 <= now_s < 40.0 else 0.01)
    assert not [at_s for at_s in instants if 20.1 < at_s < 40.0]
    assert [at_s for at_s in instants if at_s < 20.0]
    assert [at_s for at_s in instants if at_s > 40.2]


def test_with_no_share_nothing_is_replayed() -> None:
    async def never(_seconds: float) -> None:
        raise AssertionError("it ends at once")

    asyncio.run(replay_in_spare_time(lambda: 0.0, 0.0, lambda: 0.0, never))
