"""One link to every replica of the twin: a replica plans by an edge's backlog only if the edge tells it.

Which device is attached to which replica is no concern of an edge's. The list may change while the edge runs; links are
made and ended as it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.arrival_log import ArrivalLog, ArrivalLogs
from edge.twin_link import TwinLink
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.telemetry.logs import EventLog

_log = EventLog("edge.twin_link")


class TwinLinks:
    """The links of an edge. All of it lives in the event loop.

    Args:
        source: Names the replicas.
        arrivals: Tails that arrive; each link tells all of them to its replica.
        link_to: Makes the link to the replica at an address, which tells what the log has.

    Raises:
        SettingsError: ``source`` is no list of replicas.
    """

    def __init__(
        self, source: ReplicaSource, arrivals: ArrivalLogs, link_to: Callable[[str, ArrivalLog], TwinLink]
    ) -> None:
        self._source = source
        self._arrivals = arrivals
        self._link_to = link_to
        self._running: dict[str, asyncio.Future[None]] = {}
        self._ended: set[asyncio.Future[None]] = set()
        self._links: dict[str, TwinLink] = {}
        self._listed: tuple[str, ...] = ()
        self._was_attached_times = 0
        self._is_running = False
        self._list_changed(source.read())

    @property
    def listed(self) -> int:
        """Replicas in the list."""
        return len(self._links)

    @property
    def attached(self) -> int:
        """Of these, the ones that this edge is attached to."""
        return sum(link.is_attached for link in self._links.values())

    @property
    def is_attached(self) -> bool:
        """Whether every replica has welcomed this edge: plans of one that has not leave this edge out."""
        return self.attached == self.listed

    @property
    def attached_times(self) -> int:
        """How often a replica has welcomed this edge."""
        return self._was_attached_times + sum(link.attached_times for link in self._links.values())

    def note_event(self) -> None:
        """The backlog may have moved: wake those senders that have a report due."""
        for link in self._links.values():
            link.note_event()

    async def run(self) -> None:
        """Keep attached to all replicas, until cancelled."""
        self._is_running = True
        try:
            for address in self._links:
                self._run(address)
            await self._source.follow(self._listed, self._list_changed, _log)
            # The list is fixed: there is nothing to follow.
            await asyncio.Event().wait()
        finally:
            self._is_running = False
            tasks = [*self._running.values(), *self._ended]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._running.clear()

    def _list_changed(self, replicas: tuple[str, ...]) -> None:
        self._listed = replicas
        for address in self._links.keys() - set(replicas):
            self._was_attached_times += self._links.pop(address).attached_times
            self._arrivals.close(address)
            if (task := self._running.pop(address, None)) is not None:
                task.cancel()
                self._ended.add(task)
                task.add_done_callback(self._ended.discard)
        for address in replicas:
            if address not in self._links:
                self._links[address] = self._link_to(address, self._arrivals.open(address))
                if self._is_running:
                    self._run(address)

    def _run(self, address: str) -> None:
        self._running[address] = asyncio.ensure_future(self._links[address].run())
