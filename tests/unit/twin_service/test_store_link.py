"""The thread behind a shared store, on a database that is made up: what is lost, kept, refused and told."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from twin_service.memory import Claim
from twin_service.store import jobs as jobs_module
from twin_service.store import link as link_module
from twin_service.store.link import Link
from twin_service.store.postgres_session import CollidedError, RejectedError
from twin_service.store.postgres_tables import OthersReplay
from twinsplit.errors import StorageError

PATIENCE_S = 20.0
CLOSE_S = 30.0
"""As long as a link waits for its last writes."""


class World:
    """One database and what happens to it."""

    def __init__(self) -> None:
        self.is_up = True
        self.holder: Session | None = None
        self.written: list[str] = []
        self.claimed: list[str] = []
        self.refreshed: list[str | None] = []
        self.sessions = self.collisions = 0
        self.others: list[bytes] = []
        self.told = threading.Event()


class Session:
    """What the link asks of :class:`twin_service.store.postgres_tables.PostgresTables`."""

    size_bytes = 4711

    def __init__(self, world: World, heard: Callable[[str, str], None]) -> None:
        self.world = world
        self.heard = heard
        self.check()
        world.sessions += 1
        self._near, self.far = socket.socketpair()

    def check(self) -> None:
        if not self.world.is_up:
            raise StorageError("the database is gone")

    def fileno(self) -> int:
        return self._near.fileno()

    def close(self) -> None:
        self._near.close()
        self.far.close()
        if self.world.holder is self:
            self.world.holder = None

    def heartbeat(self) -> None:
        self.check()

    def lead(self) -> bool:
        self.check()
        if self.world.holder is None:
            self.world.holder = self
        return self.world.holder is self

    def last_replay_id(self) -> int:
        return 0

    def others_replay(self, after_id: int, limit: int) -> OthersReplay:
        self.check()
        return OthersReplay(self.world.others[after_id : after_id + limit], len(self.world.others))

    def collide(self) -> None:
        if self.world.collisions:
            self.world.collisions -= 1
            raise CollidedError("another session was in the way")

    def claim(self, devices: dict[str, int]) -> dict[str, Claim]:
        self.check()
        self.collide()
        self.world.claimed += devices
        return {device_id: Claim(max(epoch, 1), None) for device_id, epoch in devices.items()}

    def write(self, text: str) -> None:
        self.check()
        self.collide()
        if text == "bad":
            raise RejectedError("the database refuses it")
        if text == "defect":
            raise ZeroDivisionError
        self.world.written.append(text)


class SoonAgain(random.Random):
    """No pause before the next try."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


@contextlib.contextmanager
def linked(world: World, *, is_candidate: bool = True) -> Iterator[tuple[Link, Session]]:
    link = Link(
        "db/t",
        lambda heard: Session(world, heard),
        lambda _, model: world.refreshed.append(model),
        is_candidate=is_candidate,
        writer="me",
        rng=SoonAgain(),
    )
    link.told = world.told.set
    session = Session(world, link.heard)
    link.start(session)
    try:
        yield link, session
    finally:
        link.close()


def until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.001)


def written(link: Link, text: str) -> None:
    link.put(lambda tables: tables.write(text), len(text))


def asked(link: Link, text: str = "asked") -> Future[Any]:
    return link.ask(lambda tables: tables.write(text))


def lose(world: World, link: Link) -> None:
    world.is_up = False
    link._wake()
    with contextlib.suppress(StorageError):
        asked(link, "never").exception(PATIENCE_S)
    until(lambda: not link.is_up)


def test_writes_and_questions_come_in_order() -> None:
    world = World()
    with linked(world) as (link, _):
        for k in range(5):
            written(link, str(k))
        asked(link).result(PATIENCE_S)
    assert world.written == ["0", "1", "2", "3", "4", "asked"]
    assert link.size_bytes in (None, 4711)


def test_what_was_taken_before_a_loss_is_written_after_it_and_what_comes_meanwhile_is_refused() -> None:
    world = World()
    with linked(world) as (link, _):
        lose(world, link)
        assert not link.is_elected
        with pytest.raises(StorageError, match="the database is gone"):
            written(link, "meanwhile")
        with pytest.raises(StorageError):
            link.claim("cam", 0)
        with link._lock:
            link.is_up = True  # taken by a write that comes just before the loss is noticed
        written(link, "just before")
        world.is_up = True
        until(lambda: world.written == ["just before"])
        until(lambda: link.is_elected)
        assert world.sessions == 2
        assert link.errors > 0


def test_a_refused_write_and_a_defect_harm_no_other(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.ERROR), linked(world) as (link, _):
        for text in ("bad", "good", "defect", "better"):
            written(link, text)
        assert isinstance(asked(link, "bad").exception(PATIENCE_S), RejectedError)
        assert (link.is_up, link.errors, world.sessions) == (True, 3, 1)
    assert world.written == ["good", "better"]
    assert {record.getMessage() for record in caplog.records} == {"write-rejected", "store-job-failed"}


def test_what_another_session_was_in_the_way_of_is_done_again_on_the_same_one() -> None:
    world = World()
    with linked(world) as (link, _):
        for ask in (lambda: link.claim("cam", 0), lambda: asked(link)):
            world.collisions = 1
            ask().result(PATIENCE_S)
        world.collisions = 1
        written(link, "written")
        asked(link).result(PATIENCE_S)
        assert (world.collisions, world.sessions, link.errors, link.elections) == (0, 1, 0, 1)
    assert world.written == ["asked", "written", "asked"]


def test_only_who_is_elected_writes_what_was_learnt() -> None:
    world = World()
    with linked(world) as (first, _), linked(world, is_candidate=False) as (second, _):
        assert (first.is_elected, second.is_elected) == (True, False)
        for link, text in ((first, "mine"), (second, "not mine")):
            link.put(lambda tables, text=text: tables.write(text), 1, is_learners=True)
            asked(link).result(PATIENCE_S)
    assert world.written == ["mine", "asked", "asked"]


def test_the_next_one_is_elected_when_the_first_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "ROUND_S", 0.01)
    world = World()
    with linked(world) as (first, _), linked(world) as (second, _):
        assert not second.is_elected
        first.close()
        until(lambda: second.is_elected)
        world.others.append(b"task")
        until(lambda: list(second.others) == [b"task"])


def test_more_than_the_bound_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MOST_WAITING_BYTES", 10)
    with linked(World()) as (link, _):
        with pytest.raises(StorageError, match="does not keep up"):
            written(link, "much too long")
        written(link, "short")
        asked(link).result(PATIENCE_S)
        written(link, "0123456789")


def test_devices_are_claimed_together_and_notes_of_others_are_told() -> None:
    world = World()
    with linked(world, is_candidate=False) as (link, session):
        claims = [link.claim("cam", epoch).result(PATIENCE_S) for epoch in (0, 7)]
        assert [claim.epoch for claim in claims] == [1, 7]
        world.told.clear()
        for text in ("me 3 mine", "no claim of ours", "other 4 cam"):
            session.heard("twinsplit_claims", text)
        session.heard("twinsplit_weights", "ab")
        asked(link).result(PATIENCE_S)
        assert world.told.wait(PATIENCE_S)
        until(lambda: world.refreshed == [None, "ab"])
        assert list(link.moved) == [("cam", 4)]


def test_whoever_waits_no_longer_stops_nobody() -> None:
    with linked(World()) as (link, _):
        blocked = threading.Event()
        link.put(lambda _: blocked.wait(PATIENCE_S), 0)
        given_up = asked(link)
        assert given_up.cancel()
        blocked.set()
        asked(link).result(PATIENCE_S)


def test_a_claim_that_nobody_waits_for_any_more_is_not_made() -> None:
    world = World()
    with linked(world) as (link, _):
        at_work, blocked = threading.Event(), threading.Event()
        link.put(lambda _: (at_work.set(), blocked.wait(PATIENCE_S)), 0)
        assert at_work.wait(PATIENCE_S)
        given_up = [link.claim(device_id, 3) for device_id in ("cam", "dock")]
        again = link.claim("dock", 4)
        assert all(future.cancel() for future in given_up)
        blocked.set()
        assert again.result(PATIENCE_S).epoch == 4
    assert world.claimed == ["dock"]


def test_what_is_left_at_the_end_is_written_and_a_lost_database_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_CLOSE_S", CLOSE_S)
    world = World()
    with linked(world) as (link, _):
        for k in range(100):
            written(link, str(k))
    assert len(world.written) == 100
    world = World()
    with linked(world) as (link, _):
        lose(world, link)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < CLOSE_S / 2.0
