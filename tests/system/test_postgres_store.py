"""The store in PostgreSQL, on Debian's server: the contract of every store, and what replicas do to each other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import trustme
from click.testing import CliRunner

from tests.store.contract import StoreContract, Time, full_document, row
from tests.system.postgres_server import PASSWORD, USER, PostgresServer, postgres, use_tls
from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.cli import twin
from twin_service.decision.value_net import ValueNet
from twin_service.documents import Document
from twin_service.store import link, postgres_schema
from twin_service.store import postgres as postgres_module
from twin_service.store.address import connection_parameters
from twin_service.store.interface import Bounds, Store
from twin_service.store.postgres import PostgresStore
from twin_service.store.postgres_session import CollidedError
from twin_service.store.postgres_tables import PostgresTables, ReplayRow
from twinsplit.errors import StorageError

pytestmark = pytest.mark.needs("postgresql")

_NUMBERS = itertools.count(1)
_TABLES = "?options=-csearch_path%3Dtwinsplit"
_PATIENCE_S = 60.0
_AT_ONCE_S = 5.0
"""On a busy machine, too; whoever waits for a server that is gone waits for longer."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@dataclass
class Database:
    server: PostgresServer
    name: str

    @property
    def address(self) -> str:
        return self.server.address(self.name)

    def open(self, bounds: Bounds, time: Time) -> PostgresStore:
        return PostgresStore(self.address, bounds, unix_s=lambda: time.unix_s)

    def damage_replay(self, task_id: int) -> None:
        self.run("UPDATE replay SET bytes = '\\x00ff' WHERE id = %s", task_id + 1)

    def set_version(self, version: int) -> None:
        self.run("UPDATE version SET number = %s", version)

    def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        return self.server.run(statement, *values, database=self.name + _TABLES)

    def session(self) -> psycopg.Connection[tuple[object, ...]]:
        """Another one, with a transaction of its own."""
        return psycopg.connect(self.server.address(self.name + _TABLES))

    def is_waiting(self) -> bool:
        """Whether a session waits for what another one has locked."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        return bool(self.run(waiting, self.name))


def new_database(server: PostgresServer, options: str = "") -> Database:
    name = f"state_{next(_NUMBERS)}"
    server.new_database(name, options)
    return Database(server, name)


@pytest.fixture
def database(server: PostgresServer) -> Database:
    return new_database(server)


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def place(self, database: Database) -> Database:
        return database

    def attach(self, store: Store, documents: Sequence[Document]) -> None:
        asyncio.run(claim_all(store, documents))


async def claim_all(store: Store, documents: Sequence[Document]) -> None:
    assert isinstance(store, PostgresStore)
    for document in documents:
        claim = await store.claimed(document.device_id, DIGEST, 0)
        assert claim is not None
        document.attached(claim.epoch - 1)


@contextlib.contextmanager
def store_on(database: Database, **options: bool) -> Iterator[PostgresStore]:
    with contextlib.closing(PostgresStore(database.address, **options)) as store:
        yield store


def until(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, f"after {_PATIENCE_S:g} s: not {what}"
        time.sleep(0.02)


def test_one_replica_is_elected_and_the_next_one_when_it_is_gone(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second, store_on(database, is_candidate=False) as third:
        assert [store.is_elected for store in (first, second, third)] == [True, False, False]
        first.close()
        until(lambda: second.is_elected, "elected")
        second.close()
        time.sleep(0.2)
        assert not third.is_elected


def test_what_the_elected_one_publishes_is_read_by_the_others_and_what_they_publish_is_left(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second:
        told: list[bool] = []
        second.on_news(lambda: told.append(True))
        first.keep_weights(row(1, "serving"))
        until(lambda: bool(told), "told")
        assert second.take_published() == {DIGEST: [row(1, "serving")]}
        assert second.weights() == [row(1, "serving")]
        assert second.take_published() == {}
        second.keep_weights(row(2, "serving"))
        first.keep_weights(replace(row(1), state="rolled-back"))
        until(lambda: second.take_published() == {DIGEST: [row(1, "rolled-back")]}, "overruled")
    with store_on(database) as again:
        assert again.weights() == [row(1, "rolled-back")]


def test_what_is_published_by_one_that_is_not_elected_any_more_is_not_held_to_be(database: Database) -> None:
    with store_on(database, is_candidate=False) as store:
        store.keep_weights(row(1, "serving"))
        until(lambda: store.weights() == [], "forgotten")
        until(lambda: store.take_published() == {DIGEST: []}, "told")


def test_the_elected_one_is_told_of_tasks_that_others_keep(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second:
        first.keep_replay([made_up_replayed(task_id=1)])
        second.keep_replay([made_up_replayed(task_id=k) for k in range(2, 5)])
        heard: list[int] = []
        until(lambda: bool(heard.extend(task.task_id for task in first.take_others(9)) or len(heard) >= 3), "told")
        assert heard == [2, 3, 4]
        assert second.take_others(9) == []


def test_another_version_is_chosen_while_no_replica_learns(database: Database) -> None:
    arguments = ["weights", "--store", database.address, "--json"]
    data = ValueNet.zero().to_bytes()
    with store_on(database) as store:
        for version, state in ((1, "replaced"), (2, "serving")):
            store.keep_weights(replace(row(version, state), data=data, scores_json="{}"))
        until(lambda: database.run("SELECT count(*) FROM weights") == [(2,)], "kept")
        refused = CliRunner().invoke(twin, [*arguments, "--serve", "1"])
        assert "a replica of the twin service learns on it" in str(refused.exception)
        assert PASSWORD not in str(refused.exception)
    chosen = CliRunner().invoke(twin, [*arguments, "--serve", "1"], catch_exceptions=False)
    assert [entry["state"] for entry in json.loads(chosen.output)] == ["serving", "rolled-back"]
    shown = CliRunner().invoke(twin, arguments, catch_exceptions=False)
    assert shown.output == chosen.output


def test_plan_ids_of_replicas_differ(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second:
        ids = []
        for _ in range(32):
            ids += [store.next_plan_id() for _ in range(100) for store in (first, second)]
            assert first.documents() == second.documents() == []  # what was asked for before has been done by then
        assert len(set(ids)) == len(ids) == 6400


async def test_a_device_that_comes_brings_its_document_and_its_old_replica_writes_in_vain(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second:
        new = await first.claimed("cam", DIGEST, 0)
        assert new is not None
        assert (new.epoch, new.document) == (1, None)
        document = full_document()
        assert document.epoch == new.epoch
        first.keep_documents([document])
        first.keep_manifest(DIGEST, b"manifest")
        until(lambda: len(first.documents()) == 1, "kept")
        assert second.manifest(DIGEST) is None
        moved = await second.claimed("cam", DIGEST, 0)
        assert moved is not None
        assert (moved.epoch, moved.document) == (2, document)
        assert second.manifest(DIGEST) == b"manifest"
        document.outcomes["device"] += 99
        first.keep_documents([document])
        assert first.documents()[0].outcomes["device"] == 0
        until(lambda: first.take_moved() == [("cam", 2)], "told")
        assert second.take_moved() == []
        announced = await second.claimed("cam", DIGEST, 4711)
        assert announced is not None
        assert announced.epoch == 4711


async def test_a_claim_that_took_too_long_takes_the_device_from_nobody_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_on(database) as first, store_on(database) as second:
        at_work, blocked = threading.Event(), threading.Event()
        first._link.put(lambda _: (at_work.set(), blocked.wait(_PATIENCE_S)), 0)
        assert at_work.wait(_PATIENCE_S)
        with monkeypatch.context() as patch:
            patch.setattr(postgres_module, "_CLAIM_S", 0.05)
            assert await first.claimed("cam", DIGEST, 0) is None
        moved = await second.claimed("cam", DIGEST, 0)
        blocked.set()
        assert await first.kept(["cam"]) == {"cam": (1, None)} == {"cam": moved}
        assert second.take_moved() == []


async def test_a_device_that_is_attached_is_claimed_whatever_it_was_kept_under(database: Database) -> None:
    with store_on(database) as first, store_on(database) as second:
        second.keep_documents([Document("cam", epoch=5000)])
        until(lambda: len(second.documents()) == 1, "kept")
        assert await first.reclaimed(["cam", "dock"]) == {"cam": (5001, Document("cam", epoch=5000)), "dock": (1, None)}
        until(lambda: second.take_moved() == [("cam", 5001)], "told")


async def test_a_damaged_document_is_begun_anew(database: Database) -> None:
    with store_on(database) as store:
        database.run("INSERT INTO documents (device_id, epoch, json) VALUES ('cam', 4, 'damaged')")
        claim = await store.claimed("cam", DIGEST, 0)
        assert claim == (5, None)
        assert not store.is_degraded


async def test_many_devices_come_at_once(database: Database) -> None:
    with store_on(database) as store:
        claims = await asyncio.gather(*(store.claimed(f"d{k}", "", 0) for k in range(500)))
    assert [claim is not None and claim.epoch for claim in claims] == [1] * 500


def test_a_lost_database_is_told_at_once_and_what_was_taken_before_is_kept_later() -> None:
    with postgres() as server, store_on(Database(server, "twinsplit")) as store:
        store.keep_documents([full_document()])
        until(lambda: len(store.documents()) == 1, "kept")
        server.stop()
        until(lambda: store.is_degraded, "noticed")
        assert not store.is_elected
        began_s = time.monotonic()
        for _ in range(1000):
            with pytest.raises(StorageError, match="the state cannot be"):
                store.keep_documents([Document("dock")])
        assert [store.next_plan_id() for _ in range(2000)] == list(range(1, 2001))
        assert asyncio.run(store.claimed("cam", DIGEST, 0)) is None
        assert time.monotonic() - began_s < _AT_ONCE_S
        assert store.errors > 0
        server.start()
        until(lambda: not store.is_degraded and store.is_elected, "back")
        store.keep_documents([Document("dock")])
        assert [document.device_id for document in store.documents()] == ["cam", "dock"]


def test_a_session_that_ends_is_replaced_and_no_write_is_lost_or_doubled(database: Database) -> None:
    with store_on(database) as store:
        due = [[made_up_replayed(task_id=start + k) for k in range(3)] for start in range(0, 300, 3)]
        while due:
            try:
                store.keep_replay(due[0])
            except StorageError:
                time.sleep(0.02)
                continue
            due.pop(0)
            if due and len(due) % 20 == 0:
                errors = store.errors
                database.server.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database.name
                )
                until(lambda before=errors: store.errors > before, "noticed")
        until(lambda: kept_ids(store) == list(range(300)), "kept")


def test_a_server_that_hangs_is_told_and_left(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANGS_S", 0.3)
    monkeypatch.setattr(link, "CUT_S", 2.0 * _AT_ONCE_S)
    with store_on(database) as store:
        pids = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'twinsplit-twin'"
        ((pid,),) = database.server.run(pids, database.name, database="postgres")
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: store.is_degraded, "noticed")
            began_s = time.monotonic()
            with pytest.raises(StorageError, match="has not answered for"):
                store.keep_documents([Document("cam")])
            assert asyncio.run(store.claimed("cam", DIGEST, 0)) is None
            assert time.monotonic() - began_s < _AT_ONCE_S
            until(lambda: is_taken(store), "on another connection")
            assert store.documents()[0].device_id == "dock"
            assert not store.is_elected  # the server has not noticed yet, and nobody else learns either
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: store.is_elected, "elected again")


def is_taken(store: PostgresStore) -> bool:
    try:
        store.keep_documents([Document("dock")])
    except StorageError:
        return False
    return True


def kept_ids(store: PostgresStore) -> list[int]:
    try:
        return [task.task_id for task in store.replay(DIGEST, 1000)]
    except StorageError:
        return []


def tables_on(database: Database, bounds: Bounds | None = None) -> PostgresTables:
    return PostgresTables(connection_parameters(database.address), bounds or Bounds(), uuid.uuid4(), lambda: 1e9)


def test_what_is_handed_over_twice_is_kept_once(database: Database) -> None:
    with contextlib.closing(tables_on(database)) as tables:
        rows = [ReplayRow(DIGEST, "cam", number, b"task") for number in (1, 2)]
        tables.keep_replay(rows)
        tables.keep_replay(rows)
        tables.keep_trace(1, b"lines")
        tables.keep_trace(1, b"lines")
        assert [data for _, data in tables.replay_page(DIGEST, 0, 9)] == [b"task", b"task"]
        assert [data for _, data in tables.traces_page(0, 9)] == [b"lines"]
        assert database.run("SELECT bytes FROM bytes_kept") == [(13,)]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda tables: tables.claim({"b": 0, "a": 0}), id="claimed"),
        pytest.param(lambda tables: tables.keep_documents([("b", 1, "{}"), ("a", 1, "{}")]), id="kept"),
    ],
)
def test_whoever_waits_for_a_document_holds_none_of_a_later_name(
    database: Database, write: Callable[[PostgresTables], object]
) -> None:
    with contextlib.closing(tables_on(database)) as tables, ThreadPoolExecutor(1) as thread:
        tables.keep_documents([("b", 1, "{}")])
        with database.session() as other:
            other.execute("INSERT INTO documents (device_id, epoch) VALUES ('a', 1)")
            written = thread.submit(write, tables)
            until(database.is_waiting, "waiting")
            other.execute("SELECT 1 FROM documents WHERE device_id = 'b' FOR UPDATE NOWAIT")
        written.result(_PATIENCE_S)
    assert database.run("SELECT device_id, epoch > 0 FROM documents ORDER BY 1") == [("a", True), ("b", True)]


def test_of_two_sessions_that_wait_for_each_other_one_is_told_and_can_go_on(database: Database) -> None:
    def both(tables: PostgresTables, names: str, are_held: threading.Barrier) -> str:
        try:
            with tables._transaction("written"):
                tables.keep_documents([(names[0], 1, "{}")])
                are_held.wait(_PATIENCE_S)
                tables.keep_documents([(names[1], 1, "{}")])
        except CollidedError:
            tables.keep_documents([(names, 1, "{}")])
            return "told"
        return "kept"

    are_held = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads, contextlib.ExitStack() as stack:
        each = [stack.enter_context(contextlib.closing(tables_on(database))) for _ in range(2)]
        ends = threads.map(both, each, ("ab", "ba"), (are_held, are_held))
        assert sorted(ends) == ["kept", "told"]
    assert database.run("SELECT count(*) FROM documents") == [(3,)]


def test_tasks_are_seen_in_the_order_of_their_ids(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(2) as threads, contextlib.ExitStack() as stack:
        first, second, reader = (stack.enter_context(contextlib.closing(tables_on(database))) for _ in range(3))
        is_added, may_end, forget = threading.Event(), threading.Event(), first._forget
        stack.callback(may_end.set)

        def late_forget(added_bytes: int) -> None:
            is_added.set()
            may_end.wait(_PATIENCE_S)
            forget(added_bytes)

        monkeypatch.setattr(first, "_forget", late_forget)
        kept = [threads.submit(first.keep_replay, [ReplayRow(DIGEST, "cam", 1, b"first")])]
        assert is_added.wait(_PATIENCE_S)
        kept.append(threads.submit(second.keep_replay, [ReplayRow(DIGEST, "cam", 1, b"second")]))
        until(lambda: kept[1].done() or database.is_waiting(), "kept or waiting")
        seen = reader.others_replay(0, 9)
        may_end.set()
        for each in kept:
            each.result(_PATIENCE_S)
        assert seen.records + reader.others_replay(seen.last_id, 9).records == [b"first", b"second"]


def test_whoever_waits_to_add_a_task_holds_no_old_one(database: Database) -> None:
    with contextlib.closing(tables_on(database)) as tables, ThreadPoolExecutor(1) as thread:
        database.run(
            "INSERT INTO replay (model_digest, device_id, at_unix_s, writer, number, bytes) "
            "VALUES ('ab', 'cam', 0, gen_random_uuid(), 1, 'old')"
        )
        with database.session() as other:
            other.execute("UPDATE bytes_kept SET bytes = 3")
            written = thread.submit(tables.keep_replay, [ReplayRow(DIGEST, "cam", 1, b"new")])
            until(database.is_waiting, "waiting")
            other.execute("SELECT 1 FROM replay FOR UPDATE NOWAIT")
        written.result(_PATIENCE_S)
        assert [data for _, data in tables.replay_page(DIGEST, 0, 9)] == [b"new"]
    assert database.run("SELECT bytes FROM bytes_kept") == [(3,)]


def test_a_write_that_the_database_refuses_harms_no_other(database: Database) -> None:
    with store_on(database) as store:
        store.keep_documents([Document("nul\x00")])
        store.keep_documents([Document("cam")])
        assert [document.device_id for document in store.documents()] == ["cam"]
        assert (store.errors, store.is_degraded) == (1, False)


def test_an_older_state_is_migrated_by_one_replica_after_a_copy_is_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_on(database) as store:
        store.keep_documents([Document("cam")])
    steps = (*postgres_schema._STEPS, "ALTER TABLE documents ADD COLUMN more integer NOT NULL DEFAULT 7;")
    monkeypatch.setattr(postgres_schema, "_STEPS", steps)
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", len(steps))
    with store_on(database) as store, store_on(database):
        assert [document.device_id for document in store.documents()] == ["cam"]
    assert database.run("SELECT number FROM version") == [(len(steps),)]
    assert database.run("SELECT device_id, more FROM documents") == [("cam", 7)]
    copy = postgres_schema.copy_namespace(len(steps) - 1)
    assert database.run(f"SELECT device_id FROM {copy}.documents") == [("cam",)]
    assert database.run(f"SELECT number FROM {copy}.version") == [(len(steps) - 1,)]


def test_a_migration_that_fails_leaves_everything_as_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_on(database):
        pass
    steps = (*postgres_schema._STEPS, "ALTER TABLE documents ADD COLUMN more integer; SELECT 1 / 0;")
    monkeypatch.setattr(postgres_schema, "_STEPS", steps)
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", len(steps))
    with pytest.raises(StorageError, match="division by zero"), store_on(database):
        pass
    assert database.run("SELECT number FROM version") == [(len(steps) - 1,)]
    copies = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'twinsplit_version%%'"
    assert database.run(copies) == [(0,)]


def test_a_database_of_another_encoding_and_one_without_rights_are_named(server: PostgresServer) -> None:
    latin = new_database(server, "ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StorageError, match="not UTF-8"), store_on(latin):
        pass
    database = new_database(server)
    server.run("DROP ROLE IF EXISTS reader", database="postgres")
    server.run("CREATE ROLE reader LOGIN PASSWORD 'let me read'", database="postgres")
    address = database.address.replace(f"{USER}:{PASSWORD}", "reader:let%20me%20read")
    with pytest.raises(StorageError, match="permission denied") as refused:
        PostgresStore(address)
    assert "let me" not in str(refused.value)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    """A server that takes TLS alone, and the certificate of its authority."""
    folder = tmp_path_factory.mktemp("tls")
    with postgres() as server:
        yield server, use_tls(server, folder, "127.0.0.1")


def test_tls_is_what_the_address_asks_for(tls_server: tuple[PostgresServer, Path], tmp_path: Path) -> None:
    server, authority = tls_server
    address = server.address(options=f"?sslmode=verify-full&sslrootcert={authority}")
    with contextlib.closing(PostgresStore(address)):
        on_tls = server.run(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE ssl AND application_name = 'twinsplit-twin'"
        )
        assert on_tls == [(1,)]
    with pytest.raises(StorageError, match="no encryption"):
        PostgresStore(server.address(options="?sslmode=disable"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(StorageError, match="certificate verify failed"):
        PostgresStore(server.address(options=f"?sslmode=verify-full&sslrootcert={tmp_path / 'other.pem'}"))
