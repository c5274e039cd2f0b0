"""Streams of snapshots: one tick for all, bounded readers, no work while nobody looks, slices that are short."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.console.asking import HOST, Console, scope
from tests.unit.twin_service.made_up_twins import World
from twin_service.console.event_stream import CONNECTION, event_of
from twin_service.console.request_errors import RequestError
from twin_service.console.snapshot import Selection
from twin_service.console.snapshots import Snapshots
from twinsplit.errors import UnknownTwinError
from twinsplit.telemetry.signalling import SignallingCount

PATIENCE_S = 20.0


def console(**more: Any) -> Console:
    world = World()
    world.attach_edge()
    world.attach_device()
    return Console(world, **more)


class Reader:
    """One reader of a stream: takes events, is slow, goes away."""

    def __init__(self, made: Console, path: str = "/api/events", *, takes: int | None = None) -> None:
        self.events: list[bytes] = []
        self.is_gone = asyncio.Event()
        self.status = 0
        self._takes = takes
        path, _, query = path.partition("?")
        request = scope("GET", path, query, {"host": HOST})
        self.task = asyncio.ensure_future(made.app(request, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self._takes is not None and len(self.events) >= self._takes:
            await asyncio.Event().wait()
        if message.get("body"):
            self.events.append(message["body"])


async def until(condition: Any) -> None:
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, "it did not come about"
        await asyncio.sleep(0.001)


@pytest.fixture
async def ticking() -> Any:
    made = console()
    ticks = asyncio.ensure_future(made.broadcast.run())
    yield made
    ticks.cancel()
    await asyncio.gather(ticks, return_exceptions=True)


async def test_all_readers_get_what_was_built_once(ticking: Console) -> None:
    readers = [Reader(ticking) for _ in range(3)]
    await until(lambda: all(len(reader.events) >= 4 for reader in readers))
    built = ticking.snapshots.built_count
    most = max(len(reader.events) for reader in readers)
    assert built <= most + 1, "a snapshot is not built for each of them"
    for reader in readers:
        first, *others = reader.events
        assert first.startswith(b"retry: 1000\n\nevent: backlogs\ndata: {")
        assert first.count(b"\n\nevent: snapshot\ndata: {") == 1
        assert all(event.startswith(b"event: snapshot\ndata: {") and event.endswith(b"}\n\n") for event in others)
        assert all(event.count(b"\n") == 3 for event in others)
        reader.is_gone.set()
    await until(lambda: len(ticking.broadcast) == 0)
    await asyncio.gather(*(reader.task for reader in readers))


async def test_a_stream_begins_with_what_backlogs_were(ticking: Console) -> None:
    await asyncio.sleep(0)  # the first sample is taken
    reader = Reader(ticking)
    await until(lambda: len(reader.events) >= 2)
    first, *others = reader.events
    past = b'event: backlogs\ndata: {"edges":[{"id":"edge","points":[[1000.0,0.0,0.0]]}]}\n\n'
    assert first.startswith(b"retry: 1000\n\n" + past + b"event: snapshot\n")
    assert not any(b"event: backlogs" in event for event in others)
    reader.is_gone.set()
    await reader.task


async def test_a_sample_that_fails_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = console()
    monkeypatch.setattr(made.snapshots, "remember_backlogs", lambda: 1 / 0)
    ticks = asyncio.ensure_future(made.broadcast.run())
    reader = Reader(made)
    await until(lambda: len(reader.events) >= 2)
    assert "backlogs-not-remembered" in caplog.text
    reader.is_gone.set()
    ticks.cancel()
    await asyncio.gather(ticks, reader.task, return_exceptions=True)


async def test_nothing_is_built_while_nobody_looks(ticking: Console) -> None:
    await asyncio.sleep(0.03)
    assert ticking.snapshots.built_count == 0
    reader = Reader(ticking)
    await until(lambda: len(reader.events) >= 2)
    reader.is_gone.set()
    await reader.task
    built = ticking.snapshots.built_count
    await asyncio.sleep(0.03)
    assert ticking.snapshots.built_count <= built + 1


async def test_as_many_streams_are_open_as_may_be(ticking: Console) -> None:
    readers = [Reader(ticking) for _ in range(4)]
    await until(lambda: len(ticking.broadcast) == 4)
    refused = await ticking.ask("/api/events")
    assert (refused.status, refused.code) == (503, "too-many-streams")
    assert refused.headers["retry-after"] == "5"
    readers[0].is_gone.set()
    await until(lambda: len(ticking.broadcast) == 3)
    again = Reader(ticking)
    await until(lambda: again.events)
    for reader in (*readers, again):
        reader.is_gone.set()
    await asyncio.gather(*(reader.task for reader in (*readers, again)))


async def test_a_slow_reader_is_dropped_and_holds_nobody_up(ticking: Console) -> None:
    aborted = []

    class Transport(asyncio.WriteTransport):
        def abort(self) -> None:
            aborted.append(self)

    token = CONNECTION.set(Transport())
    slow = Reader(ticking, takes=1)
    CONNECTION.reset(token)
    quick = Reader(ticking)
    await until(lambda: ticking.broadcast.dropped == 1)
    assert len(slow.events) == 1
    assert len(quick.events) >= 3
    assert len(aborted) == 1
    await slow.task
    assert len(ticking.broadcast) == 1
    quick.is_gone.set()
    await quick.task


async def test_closing_ends_every_stream(ticking: Console) -> None:
    reader = Reader(ticking)
    await until(lambda: reader.events)
    ticking.broadcast.close()
    await reader.task
    refused = await ticking.ask("/api/events")
    assert (refused.status, refused.code) == (503, "stopping")


async def test_a_reader_hears_something_where_snapshots_take_long(ticking: Console) -> None:
    ticking.broadcast.keep_alive_s = 0.005
    reader = Reader(ticking)
    await until(lambda: reader.events)
    async with ticking.snapshots._lock:  # nothing can be built
        seen = len(reader.events)
        await until(lambda: reader.events[seen:].count(b":\n\n") >= 3)
    reader.is_gone.set()
    await reader.task


async def test_a_stream_may_be_of_one_device(ticking: Console) -> None:
    ticking.world.attach_device("other")
    reader = Reader(ticking, "/api/events?device=other")
    await until(lambda: len(reader.events) >= 2)
    assert all(b'"id":"other"' in event and b'"id":"cam"' not in event for event in reader.events)
    reader.is_gone.set()
    await reader.task
    assert (await ticking.ask("/api/events?device=nobody")).code == "unknown-twin"


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=1e3", "offset=99999999", "who=cam", "offset=1&offset=2"]
)
async def test_queries_that_do_not_fit_are_refused(query: str) -> None:
    for path in ("/api/snapshot", "/api/events"):
        answer = await console().ask(f"{path}?{query}")
        assert (answer.status, answer.code) == (400, "bad-request")


async def test_a_defect_says_nothing_of_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = console()

    async def failing(*_args: object, **_named: object) -> bytes:
        raise ZeroDivisionError("secret path /home/somebody")

    monkeypatch.setattr(made.snapshots, "built", failing)
    answer = await made.ask("/api/snapshot")
    assert (answer.status, answer.code) == (500, "internal")
    assert "secret" not in answer.body.decode()
    assert "request-failed" in caplog.text


def stepping(step_s: float = 1e-4) -> Callable[[], float]:
    """Processor time of which every look takes ``step_s``."""
    looks = itertools.count()
    return lambda: step_s * next(looks)


async def test_a_large_snapshot_is_built_in_slices() -> None:
    world = World()
    for number in range(60):
        world.attach_device(f"cam-{number}")
    made = Console(world)
    snapshots = Snapshots(
        made.exchange, made.feed, SignallingCount(), made.clock, slice_s=0.001, core_share=1.0, cpu_s=stepping()
    )
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(others())
    data = await snapshots.built(Selection())
    other.cancel()
    assert data.count(b'"is_tensors_only"') == 60
    assert turns >= 4
    assert snapshots.longest_slice_s < 0.002


async def test_building_takes_its_share_of_the_core_and_no_more() -> None:
    made = console()
    snapshots = Snapshots(made.exchange, made.feed, SignallingCount(), made.clock, core_share=0.1, cpu_s=stepping(1e-3))
    await snapshots.built(Selection())  # at least three looks, 2 ms: the next one waits for 18 ms
    began_s = asyncio.get_running_loop().time()
    await snapshots.built(Selection(None, 1))
    assert asyncio.get_running_loop().time() - began_s > 0.015


async def test_what_is_asked_for_twice_is_built_once() -> None:
    made = console()
    first = await made.snapshots.built(Selection(), max_age_s=1.0)
    assert await made.snapshots.built(Selection(), max_age_s=1.0) is first
    assert made.snapshots.built_count == 1
    made.clock.advance(1.5)
    await made.snapshots.built(Selection(), max_age_s=1.0)
    assert made.snapshots.built_count == 2
    with pytest.raises(UnknownTwinError):
        await made.snapshots.built(Selection("nobody"))
    assert await made.snapshots.built(Selection(), max_age_s=1.0)


def test_no_stream_opens_once_it_is_closed() -> None:
    made = console()
    made.broadcast.close()
    with pytest.raises(RequestError), made.broadcast.subscribed(Selection()):
        pass
    assert event_of(b"{}") == b"event: snapshot\ndata: {}\n\n"
