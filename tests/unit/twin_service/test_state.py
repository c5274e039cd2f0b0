"""The embedded database beyond the contract of every store (tests/store): its file, its versions, other files."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.documents import Document
from twin_service.store.interface import Bounds
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twin_service.store.sqlite_schema import SCHEMA_VERSION, copy_path
from twinsplit.errors import StorageError

VERSION_1 = """
CREATE TABLE plan_ids (only INTEGER PRIMARY KEY CHECK (only = 1), next_id INTEGER NOT NULL);
INSERT INTO plan_ids VALUES (1, 4711);
CREATE TABLE manifests (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL, kept INTEGER NOT NULL);
INSERT INTO manifests VALUES ('x', x'6f6e65', 1);
CREATE TABLE documents (device_id TEXT PRIMARY KEY, json TEXT NOT NULL, kept INTEGER NOT NULL);
CREATE INDEX documents_kept ON documents (kept);
PRAGMA user_version = 1;
"""
VERSION_2 = f"""
{VERSION_1}
CREATE TABLE replay (
    id INTEGER PRIMARY KEY, model_digest TEXT NOT NULL, device_id TEXT NOT NULL, at_unix_s REAL NOT NULL,
    bytes BLOB NOT NULL
);
CREATE INDEX replay_model ON replay (model_digest, id);
CREATE INDEX replay_age ON replay (at_unix_s);
CREATE TABLE traces (id INTEGER PRIMARY KEY, at_unix_s REAL NOT NULL, bytes BLOB NOT NULL);
CREATE INDEX traces_age ON traces (at_unix_s);
CREATE TABLE weights (
    model_digest TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, created_unix_s REAL NOT NULL,
    scores_json TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (model_digest, version)
);
INSERT INTO weights VALUES ('ab', 3, 'serving', 1.5, '{{}}', x'61');
CREATE TABLE calibration (model_digest TEXT PRIMARY KEY, json TEXT NOT NULL);
INSERT INTO calibration VALUES ('x', 'bins');
PRAGMA user_version = 2;
"""
OLDER = {1: VERSION_1, 2: VERSION_2}
"""Files as older versions wrote them."""


def test_there_is_a_file_of_every_older_version() -> None:
    assert list(OLDER) == list(range(1, SCHEMA_VERSION))


def test_the_file_stays_within_its_bound_and_the_newest_stays(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path, Bounds(max_bytes=300e3))) as store:
        for start in range(0, 600, 100):
            store.keep_replay([made_up_replayed(9, task_id=start + k) for k in range(100)])
        kept = [task.task_id for task in store.replay(DIGEST, 10_000)]
        assert kept == list(range(kept[0], 600))
        assert 100 < len(kept) < 300
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert store.path.stat().st_size < 500e3


def test_a_bound_that_is_drawn_closer_gives_room_back_to_the_disk(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_replay([made_up_replayed(9, task_id=k) for k in range(600)])
    size_bytes = (tmp_path / FILE_NAME).stat().st_size
    with closing(SqliteStore(tmp_path, Bounds(max_bytes=200e3))) as smaller:
        assert smaller.replay(DIGEST, 1)[0].task_id == 599
    assert (tmp_path / FILE_NAME).stat().st_size < min(size_bytes / 2, 220e3)


@pytest.mark.parametrize("version", OLDER)
def test_an_older_state_is_migrated_after_a_copy_is_kept(tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(OLDER[version])
        old.execute("INSERT INTO documents VALUES ('cam', ?, 1)", (Document("cam").to_json(),))
        old.commit()
    with closing(SqliteStore(tmp_path)) as store:
        assert store.next_plan_id() == 4711
        assert store.manifest("x") == b"one"
        assert store.documents() == [Document("cam")]
        store.keep_replay([made_up_replayed()])
        assert len(store.replay(DIGEST, 9)) == 1
        assert [row.version for row in store.weights("ab")] == [3] * (version > 1)
        assert store.calibration("x") == ("bins" if version > 1 else None)
    with closing(sqlite3.connect(copy_path(tmp_path / FILE_NAME, version))) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (version,)
        assert copy.execute("SELECT next_id FROM plan_ids").fetchone() == (4711,)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as migrated:
        assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_the_copy_of_the_version_before_counts_and_still_older_ones_go(tmp_path: Path) -> None:
    copies = [copy_path(tmp_path / FILE_NAME, version) for version in OLDER]
    copies[0].write_text("of a migration before this one")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(VERSION_2)
    with closing(SqliteStore(tmp_path)) as store:
        assert [copy.exists() for copy in copies] == [False, True]
        with_copy_bytes = store.size_bytes
        assert with_copy_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
        copy_bytes = copies[1].stat().st_size
        copies[1].unlink()
        assert store.size_bytes == with_copy_bytes - copy_bytes < with_copy_bytes


@pytest.mark.parametrize("version", OLDER)
def test_a_new_and_a_migrated_state_have_the_same_tables(tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(OLDER[version])
    names = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY type, name"
    with closing(SqliteStore(tmp_path)) as migrated, closing(SqliteStore(tmp_path / "new")) as new:
        assert migrated._connection.execute(names).fetchall() == new._connection.execute(names).fetchall()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(VERSION_1)
        old.execute("CREATE TABLE weights (somebody_elses INTEGER)")
        old.commit()
    with pytest.raises(StorageError, match="--state"):
        SqliteStore(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as still:
        assert still.execute("PRAGMA user_version").fetchone() == (1,)
        assert still.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'replay'").fetchone() == (0,)


def test_a_newer_state_is_refused_by_its_version(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_replay([replace(made_up_replayed(), task_id=5)])
        store._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StorageError, match=f"schema version {SCHEMA_VERSION + 1}, this build reads up to"):
        SqliteStore(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("this is no database, but it is long enough to be looked at" * 20)
    with pytest.raises(StorageError, match="--state"):
        SqliteStore(tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StorageError, match="--state"):
        SqliteStore(tmp_path / "state")


def test_a_disk_that_cannot_be_written_stops_no_planning(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store._connection.execute("PRAGMA query_only = ON")
    ids = [store.next_plan_id() for _ in range(2500)]
    assert ids == sorted(set(ids))
    with pytest.raises(StorageError, match="written"):
        store.keep_documents([Document("cam")])
    store._connection.execute("PRAGMA query_only = OFF")
    store.keep_documents([Document("cam")])
    assert [document.device_id for document in store.documents()] == ["cam"]
    store.close()


@pytest.mark.parametrize("way", ["removed", "moved", "replaced"])
def test_a_state_that_is_no_longer_in_its_place_is_not_said_to_be_kept(tmp_path: Path, way: str) -> None:
    folder, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    store = SqliteStore(folder)
    store.keep_documents([Document("cam")])
    if way == "removed":
        shutil.rmtree(folder)
    else:
        folder.rename(elsewhere)
    if way == "replaced":
        SqliteStore(folder).close()
    with pytest.raises(StorageError, match="moved or removed while the service ran"):
        store.keep_documents([Document("cam")])
    assert (store.is_degraded, store.errors) == (True, 1)
    assert store.next_plan_id() > 0, "planning goes on"
    if way == "moved":
        elsewhere.rename(folder)
        store.keep_documents([Document("cam"), Document("other")])
        assert not store.is_degraded
    store.close()
