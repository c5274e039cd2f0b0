"""Builds snapshots on the service's event loop without keeping planning waiting.

A snapshot is put together in slices of a few milliseconds with everything else in between, and building as a whole
takes at most a share of the core: where snapshots are large they come less often. What several readers ask for within
one tick is built once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twin_service.console.backlog_history import BacklogHistory
from twin_service.console.feed import TaskFeed
from twin_service.console.payoffs import PayoffBook
from twin_service.console.snapshot import (
    SHOWN_TASKS,
    Selection,
    chosen_ids,
    device_document,
    edge_document,
    finite,
    head_document,
    task_document,
    totals_document,
)
from twin_service.exchange import Exchange
from twinsplit.clock import Clock
from twinsplit.telemetry.signalling import SignallingCount

SLICE_S = 0.002
"""The event loop is given back after this long."""
CORE_SHARE = 0.2
"""Share of one core that building may take."""
_SAME_TICK_S = 0.1
"""A device's part that is younger is good for another reader."""
_ORDER_S = 2.0
"""A large fleet is put in order so often."""
_SMALL_FLEET = 500
_NEW_GRIDS = 4
"""Plans whose payoffs are evaluated for one snapshot."""


class Snapshots:
    """Snapshots of one twin service."""

    def __init__(
        self,
        exchange: Exchange,
        feed: TaskFeed,
        signalling: SignallingCount,
        clock: Clock,
        *,
        is_token_needed: bool = False,
        slice_s: float = SLICE_S,
        core_share: float = CORE_SHARE,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """
        Args:
            cpu_s: processor time of the event loop's thread: on a busy machine a slice is not long for having waited.
        """
        self.built_count = 0
        """Snapshots put together so far."""
        self.longest_slice_s = 0.0
        """Longest time that the event loop was kept."""
        self._exchange = exchange
        self._core = exchange.core
        self._feed = feed
        self._signalling = signalling
        self._clock = clock
        self._is_token_needed = is_token_needed
        self._slice_s = slice_s
        self._core_share = core_share
        self._cpu_s = cpu_s
        self._book = PayoffBook()
        self._history = BacklogHistory()
        self._lock = asyncio.Lock()
        self._free_at_s = 0.0
        self._whole: dict[Selection | None, tuple[float, bytes]] = {}
        """By what it is of; ``None``: the history of backlogs."""
        self._parts: dict[str, tuple[float, bytes]] = {}
        self._order: tuple[float, Selection, list[str]] | None = None
        self._slice_began_s = 0.0
        self._worked_s = 0.0

    async def built(self, selection: Selection, *, max_age_s: float = 0.0) -> bytes:
        """The snapshot as JSON, at most ``max_age_s`` old.

        Raises:
            UnknownTwinError: the device asked for is not there.
        """
        return await self._built_once(selection, lambda: self._build(selection), max_age_s)

    def remember_backlogs(self) -> None:
        """Take a sample of every edge for :meth:`backlogs`."""
        self._history.take(self._core.edges, self._now_s())

    async def backlogs(self, *, max_age_s: float = 0.0) -> bytes:
        """What edges' backlogs were lately as JSON, at most ``max_age_s`` old."""
        return await self._built_once(None, self._build_backlogs, max_age_s)

    async def _built_once(
        self, key: Selection | None, build: Callable[[], Awaitable[bytes]], max_age_s: float
    ) -> bytes:
        async with self._lock:
            now_s = self._now_s()
            built_at_s, data = self._whole.get(key, (-1.0, b""))
            if built_at_s >= 0.0 and now_s - built_at_s <= max_age_s:
                return data
            if now_s < self._free_at_s:
                await asyncio.sleep(self._free_at_s - now_s)
            began_s, self._worked_s, self._slice_began_s = self._now_s(), 0.0, self._cpu_s()
            self._whole = {each: kept for each, kept in self._whole.items() if began_s - kept[0] < 1.0}
            self._parts = {key: kept for key, kept in self._parts.items() if began_s - kept[0] < _SAME_TICK_S}
            try:
                data = await build()
            finally:
                self._end_slice()
                self._free_at_s = self._now_s() + self._worked_s * (1.0 - self._core_share) / self._core_share
            self._whole[key] = (began_s, data)
            return data

    async def _build(self, selection: Selection) -> bytes:
        core, clock = self._core, self._clock
        ids = self._chosen(selection)
        head = head_document(core, is_token_needed=self._is_token_needed, unix_s=clock.unix_ns() * 1e-9)
        head["devices_offset"] = 0 if selection.device_id is not None else selection.offset
        messages = self._signalling.total().messages + self._exchange.heard
        head["totals"] = totals_document(self._feed, messages, self._now_s())
        devices = []
        for device_id in ids:
            devices.append(self._device(device_id))
            await self._breathe()
        edges = []
        for edge_id in sorted(core.edges):
            if edge_id in core.edges:  # one may be forgotten while others had the loop
                edges.append(
                    _json(edge_document(core.edges[edge_id], self._now_s(), core.planner.chooser.devices_at(edge_id)))
                )
            await self._breathe()
        tasks = await self._tasks(selection.device_id)
        lists = (("devices", devices), ("edges", edges), ("tasks", tasks))
        self.built_count += 1
        return b"".join((_json(head)[:-1], *(_list(name, parts) for name, parts in lists), b"}"))

    async def _build_backlogs(self) -> bytes:
        edges = []
        for document in self._history.documents(self._unix_offset_s()):
            edges.append(_json(document))
            await self._breathe()
        return b'{"edges":[%s]}' % b",".join(edges)

    async def _tasks(self, device_id: str | None) -> list[bytes]:
        unix_offset_s = self._unix_offset_s()
        new_grids, tasks = _NEW_GRIDS, []
        for ended in list(self._feed.newest(SHOWN_TASKS, device_id)):
            if not self._book.is_cheap(ended) and new_grids > 0:
                new_grids -= 1
                self._book.compared(ended)
            tasks.append(_json(task_document(ended, self._feed, self._book, unix_offset_s)))
            await self._breathe()
        return tasks

    def _device(self, device_id: str) -> bytes:
        now_s = self._now_s()
        kept = self._parts.get(device_id)
        if kept is not None and now_s - kept[0] < _SAME_TICK_S:
            return kept[1]
        data = _json(device_document(self._core, self._feed, device_id, now_s))
        self._parts[device_id] = (now_s, data)
        return data

    def _chosen(self, selection: Selection) -> list[str]:
        if selection.device_id is not None or len(self._core.archive) <= _SMALL_FLEET:
            return chosen_ids(self._core, selection)
        now_s = self._now_s()
        if self._order is None or self._order[1] != selection or now_s - self._order[0] > _ORDER_S:
            self._order = (now_s, selection, chosen_ids(self._core, selection))
        return self._order[2]

    async def _breathe(self) -> None:
        if self._cpu_s() - self._slice_began_s >= self._slice_s:
            self._end_slice()
            await asyncio.sleep(0)
            self._slice_began_s = self._cpu_s()

    def _end_slice(self) -> None:
        took_s = self._cpu_s() - self._slice_began_s
        self._worked_s += took_s
        self.longest_slice_s = max(self.longest_slice_s, took_s)

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    def _unix_offset_s(self) -> float:
        return self._clock.unix_ns() * 1e-9 - self._now_s()


def _json(document: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(finite(document), separators=(",", ":"), allow_nan=False)
    return text.encode()


def _list(name: str, parts: Iterable[bytes]) -> bytes:
    return b',"%s":[%s]' % (name.encode(), b",".join(parts))
