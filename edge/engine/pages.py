"""Reads the Prometheus pages of back ends, for what others have waiting there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edge.engine.queue import EngineQueue
from edge.engine.server_metrics import ServerReading, mean_wait_s, read_page, reading_of
from edge.tail_work import TailWork
from twinsplit.clock import Clock

PERIOD_S = 0.5


class PageWatch:
    """Tells a queue what the pages of its back ends say.

    Args:
        pages: URL of each back end's page, in the order of the queue's back ends.
        asked: Names of the models that tails are asked of.
    """

    def __init__(self, pages: Sequence[str], asked: Sequence[str], queue: EngineQueue[TailWork], clock: Clock) -> None:
        self._pages = pages
        self._asked = frozenset(asked)
        self._queue = queue
        self._now_s = clock.monotonic_s
        self._before: dict[int, ServerReading] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await asyncio.gather(*(self._read(place) for place in range(len(self._pages))))
            await asyncio.sleep(PERIOD_S)

    async def _read(self, place: int) -> None:
        reading = await asyncio.to_thread(self._reading, place)
        if reading is None:
            self._before.pop(place, None)
            return
        before = self._before.get(place)
        self._before[place] = reading
        load, now_s = self._queue.back_ends[place], self._now_s()
        if reading.pending is not None:
            load.told_pending(reading.pending, self._queue.mean_profiled_s, now_s)
        elif before is not None and (waited_s := mean_wait_s(before, reading)) is not None:
            load.told(waited_s, now_s)

    def _reading(self, place: int) -> ServerReading | None:
        text = read_page(self._pages[place])
        return None if text is None else reading_of(text, self._asked)
