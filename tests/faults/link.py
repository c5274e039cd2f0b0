"""A way between two processes that can be made to fail: a TCP proxy of our own, on an event loop in a thread.

What was done to a connection is counted, so that a test can see that its fault has really hit something.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from benchmarks.testbed.process import HOST

CHUNK_BYTES = 1 << 14
SLICE_S = 0.02
"""A slow way passes what it may in slices of so long."""
FLAP_S = 0.3
PATIENCE_S = 10.0
SWALLOWED = "bytes swallowed"
"""What became of bytes on a half-open connection."""

_Result = TypeVar("_Result")


class Way(str, Enum):
    """Direction of bytes: UP to the process that listens, DOWN to the one that has connected."""

    UP = "up"
    DOWN = "down"


class Switchboard:
    """The event loop of all links of a stage."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._links: list[Link] = []

    def link(self, name: str, port: int, target_port: int) -> Link:
        """A way through ``port`` to ``target_port``, both on the loopback interface."""
        link = Link(name, port, target_port, self)
        self.call(link.listen())
        self._links.append(link)
        return link

    def call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run it in the loop; its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def close(self) -> None:
        """End all links."""
        for link in self._links:
            self.call(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@dataclass(slots=True)
class _Halt:
    """Stop in the middle of a message: after ``left`` more bytes of this way, with more of them there."""

    way: Way
    left: int
    reached: threading.Event = field(default_factory=threading.Event)


class _Connection:
    """One connection and the one behind it."""

    def __init__(self, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.is_dead = False
        """Half open: what comes is thrown away."""

    def reset(self) -> None:
        for end in self.ends:
            sock: socket.socket = end.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()


class Link:
    """The way from whoever connects to ``port`` to the service at ``target_port``. Its methods may be called from any
    thread, but for those that are awaited."""

    def __init__(self, name: str, port: int, target_port: int, board: Switchboard) -> None:
        self.name = name
        self.port = port
        self.fired: Counter[str] = Counter()
        """What was done: bytes held, slowed or swallowed, connections reset or refused."""
        self._target_port = target_port
        self._board = board
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._halt: _Halt | None = None
        self._bytes_per_s: float | None = None
        self._slow_ways: frozenset[Way] = frozenset(Way)
        self._is_refusing = False
        self._flapping: asyncio.Task[None] | None = None
        self.held = 0
        """Pieces and connections that are held at this moment."""

    # Faults, from any thread.

    def hold(self) -> None:
        """Black hole: from now on nothing passes; nobody is told."""
        self._soon(self._flows.clear)

    def slow(self, bytes_per_s: float, ways: frozenset[Way] = frozenset(Way)) -> None:
        """So many bytes per second on each connection and way."""

        def slow() -> None:
            self._bytes_per_s, self._slow_ways = bytes_per_s, ways

        self._soon(slow)

    def reset(self) -> int:
        """Reset every connection; how many there were."""

        async def reset() -> int:
            return self._reset()

        return self._board.call(reset())

    def refuse(self) -> None:
        """From now on every new connection is reset."""

        def refuse() -> None:
            self._is_refusing = True

        self._soon(refuse)

    def flap(self) -> None:
        """Reset and refuse for a while, work for a while, and so on."""

        def flap() -> None:
            self._flapping = asyncio.ensure_future(self._flap())

        self._soon(flap)

    def leave_half_open(self) -> int:
        """What comes on the connections that there are is swallowed from now on; how many they are."""

        async def leave() -> int:
            for connection in self._connections:
                connection.is_dead = True
            return len(self._connections)

        return self._board.call(leave())

    def halt_after(self, way: Way, count: int) -> threading.Event:
        """Let ``count`` more bytes pass ``way``, then hold everything; set when more than those have come."""
        halt = _Halt(way, count)

        def set_halt() -> None:
            self._halt = halt

        self._soon(set_halt)
        return halt.reached

    def release(self) -> None:
        """What was held or halted passes again; every other fault goes on."""
        self._soon(self._flows.set)

    def mend(self) -> None:
        """End every fault; what was held passes."""

        async def mend() -> None:
            if self._flapping is not None:
                self._flapping.cancel()
                self._flapping = None
            self._is_refusing, self._bytes_per_s, self._halt = False, None, None
            self._flows.set()

        self._board.call(mend())

    # How it is done, in the loop.

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._take, HOST, self.port, limit=CHUNK_BYTES)

    async def close(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
        if self._server is not None:
            self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _soon(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._board.call(act())

    def _reset(self) -> int:
        for connection in self._connections:
            connection.reset()
        self.fired["resets"] += len(self._connections)
        return len(self._connections)

    async def _flap(self) -> None:
        while True:
            self._is_refusing = True
            self._reset()
            await asyncio.sleep(FLAP_S)
            self._is_refusing = False
            await asyncio.sleep(FLAP_S)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            # The far end is not there, or the link is being closed: asyncio would only complain of the latter.
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            self.fired["refusals"] += 1
            return
        await self._flowing("connections held")
        far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port, limit=CHUNK_BYTES)
        connection = _Connection((writer, far_writer))
        self._connections.add(connection)
        pumps = [
            asyncio.ensure_future(self._pump(connection, reader, far_writer, Way.UP)),
            asyncio.ensure_future(self._pump(connection, far_reader, writer, Way.DOWN)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._connections.discard(connection)
            far_writer.transport.abort()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if connection.is_dead:
                self.fired[SWALLOWED] += len(data)
                continue
            for part in self._parts(data, way):
                if part:
                    await self._flowing("bytes held", len(part))
                    await self._pass(connection, writer, part, way)
                else:
                    self._begin_halt()
        if connection.is_dead:
            # The end that has gone cannot say so, either.
            await asyncio.Event().wait()
        await self._flowing("ends held")

    def _parts(self, data: bytes, way: Way) -> list[bytes]:
        """``data``, cut in two by an empty part where the halt is to begin."""
        halt = self._halt
        if halt is None or halt.way is not way:
            return [data]
        if len(data) <= halt.left:
            halt.left -= len(data)
            return [data]
        parts = [data[: halt.left], b"", data[halt.left :]]
        return parts if halt.left else parts[1:]

    def _begin_halt(self) -> None:
        halt, self._halt = self._halt, None
        if halt is not None:
            self._flows.clear()
            halt.reached.set()

    async def _pass(self, connection: _Connection, writer: asyncio.StreamWriter, data: bytes, way: Way) -> None:
        while data and not connection.is_dead:
            rate = self._bytes_per_s if way in self._slow_ways else None
            if rate is None:
                writer.write(data)
                await writer.drain()
                return
            size = max(1, int(rate * SLICE_S))
            part, data = data[:size], data[size:]
            await asyncio.sleep(len(part) / rate)
            writer.write(part)
            await writer.drain()
            self.fired["bytes slowed"] += len(part)

    async def _flowing(self, kind: str, count: int = 1) -> None:
        if not self._flows.is_set():
            self.fired[kind] += count
            self.held += 1
            try:
                await self._flows.wait()
            finally:
                self.held -= 1
