"""Snapshots to everybody who has an event stream open: one tick for all, and nobody waits for a slow reader.

A reader gets the newest snapshot when it has taken the one before; one that takes none for a while loses its stream.
While nobody listens nothing is built; only the backlogs of edges are sampled, for whoever comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from twin_service.console.backlog_history import EVERY_S
from twin_service.console.request_errors import RequestError, RequestErrorCode
from twin_service.console.snapshot import Selection
from twin_service.console.snapshots import Snapshots
from twinsplit.errors import UnknownTwinError
from twinsplit.telemetry.logs import EventLog

INTERVAL_S = 0.5
MAX_STREAMS = 32
PATIENCE_S = 10.0
KEEP_ALIVE_S = 2.0
"""Where snapshots take longer, a sign of life is sent so often."""
_RETRY = b"retry: 1000\n\n"
_SIGN_OF_LIFE = b":\n\n"
_REPEATED_LINE_S = 60.0

CONNECTION: ContextVar[asyncio.BaseTransport | None] = ContextVar("connection", default=None)
"""Transport of the request that is being answered."""

_log = EventLog("twin.console")


class Subscriber:
    """One open stream: a place for the newest snapshot."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._newest: bytes | None = None
        self._has_news = asyncio.Event()
        self._is_ended = False

    def put(self, data: bytes) -> None:
        """A newer snapshot; one that was not taken is forgotten."""
        self._newest = data
        self._has_news.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_ended = True
        self._has_news.set()

    async def next(self) -> bytes | None:
        """The newest snapshot, as soon as there is one that was not taken; ``None``: the stream ends."""
        await self._has_news.wait()
        self._has_news.clear()
        data, self._newest = self._newest, None
        return None if self._is_ended else data


class Broadcast:
    """All open streams."""

    def __init__(
        self,
        snapshots: Snapshots,
        *,
        interval_s: float = INTERVAL_S,
        max_streams: int = MAX_STREAMS,
        patience_s: float = PATIENCE_S,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.patience_s = patience_s
        self.keep_alive_s = keep_alive_s
        self.dropped = 0
        """Streams that were ended since nobody read them."""
        self._snapshots = snapshots
        self._interval_s = interval_s
        self._max_streams = max_streams
        self._subscribers: set[Subscriber] = set()
        self._is_anybody_there = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._subscribers)

    def check_room(self) -> None:
        """See that one more stream may be opened.

        Raises:
            RequestError: as many are open as may be, or the console stops.
        """
        if self._is_closed:
            raise RequestError(RequestErrorCode.STOPPING, "this twin service is stopping; come back in a moment")
        if len(self._subscribers) >= self._max_streams:
            raise RequestError(
                RequestErrorCode.TOO_MANY_STREAMS,
                f"{self._max_streams} streams are open already; close a console elsewhere",
                retry_after_s=5.0,
            )

    @contextlib.contextmanager
    def subscribed(self, selection: Selection) -> Iterator[Subscriber]:
        """A stream for as long as the context lasts.

        Raises:
            RequestError: as many are open as may be, or the console stops.
        """
        self.check_room()
        subscriber = Subscriber(selection)
        self._subscribers.add(subscriber)
        self._is_anybody_there.set()
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers:
                self._is_anybody_there.clear()

    async def run(self) -> None:
        """Give everybody a new snapshot at every tick, and have backlogs remembered, until cancelled."""
        await asyncio.gather(self._give_snapshots(), self._remember_backlogs())

    def close(self) -> None:
        """End all streams, and take no more."""
        self._is_closed = True
        for subscriber in self._subscribers:
            subscriber.end()

    async def _remember_backlogs(self) -> None:
        while True:
            try:
                self._snapshots.remember_backlogs()
            except Exception as error:  # noqa: BLE001 - a defect in one sample must not end all
                _log.exception("backlogs-not-remembered", error)
            await asyncio.sleep(EVERY_S)

    async def _give_snapshots(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._is_anybody_there.wait()
            began_s = loop.time()
            for selection in {subscriber.selection for subscriber in self._subscribers}:
                await self._publish(selection)
            await asyncio.sleep(max(0.0, self._interval_s - (loop.time() - began_s)))

    async def _publish(self, selection: Selection) -> None:
        try:
            data = await self._snapshots.built(selection)
        except UnknownTwinError:  # it was forgotten meanwhile
            data = None
        except Exception as error:  # noqa: BLE001 - a defect in one snapshot must not end all streams
            _log.exception("snapshot-failed", error)
            return
        for subscriber in [each for each in self._subscribers if each.selection == selection]:
            if data is None:
                subscriber.end()
            else:
                subscriber.put(data)


class EventStream:
    """The answer to one request for a stream, as an ASGI application; ``first``: the events that it begins with."""

    def __init__(self, broadcast: Broadcast, selection: Selection, first: bytes) -> None:
        self._broadcast = broadcast
        self._selection = selection
        self._first = first

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._broadcast.subscribed(self._selection) as subscriber:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            gone = asyncio.ensure_future(_until_gone(receive, subscriber))
            try:
                said: bytes | None = _RETRY + self._first
                while said is not None:
                    if not await self._send(send, said):
                        return
                    said = await self._next(subscriber)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()

    async def _next(self, subscriber: Subscriber) -> bytes | None:
        """What is to be said next; ``None``: nothing any more."""
        try:
            data = await asyncio.wait_for(subscriber.next(), self._broadcast.keep_alive_s)
        except asyncio.TimeoutError:
            return _SIGN_OF_LIFE
        return None if data is None else event_of(data)

    async def _send(self, send: Any, data: bytes) -> bool:
        """Whether the reader takes it; where it does not, its connection is ended."""
        try:
            message = {"type": "http.response.body", "body": data, "more_body": True}
            await asyncio.wait_for(send(message), self._broadcast.patience_s)
        except asyncio.TimeoutError:
            self._broadcast.dropped += 1
            _log.warning("console-reader-too-slow", limit_s=_REPEATED_LINE_S)
            connection = CONNECTION.get()
            if isinstance(connection, asyncio.WriteTransport):
                connection.abort()
                await asyncio.sleep(0)
            return False
        return True


def event_of(data: bytes, name: bytes = b"snapshot") -> bytes:
    """A snapshot, or what else ``name`` says, as an event; ``data`` has no line ends."""
    return b"event: %s\ndata: %s\n\n" % (name, data)


async def _until_gone(receive: Any, subscriber: Subscriber) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.end()
