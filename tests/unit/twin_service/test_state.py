"""What survives a restart beside documents: replay, weights, calibration, traces; versions and bounds of the state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.documents import Document
from twin_service.memory import Memory, VolatileMemory, WeightsRow
from twin_service.store.interface import MAX_WEIGHTS, Bounds
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
OTHER = "cd" * 32


@pytest.fixture(params=["volatile", "on disk"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    if request.param == "volatile":
        yield VolatileMemory()
    else:
        with closing(SqliteStore(tmp_path)) as store:
            yield store


def row(version: int, state: str = "retired", model_digest: str = DIGEST) -> WeightsRow:
    return WeightsRow(model_digest, version, state, 1.5e9 + version, '{"gain": 0.1}', bytes([version % 256]))


class Time:
    unix_s = 1.7e9


def test_the_newest_replayed_tasks_of_a_model_come_oldest_first(memory: Memory) -> None:
    memory.keep_replay([made_up_replayed(task_id=k) for k in range(3)])
    memory.keep_replay([made_up_replayed(task_id=9, model_digest=OTHER), made_up_replayed(task_id=3)])
    assert [task.task_id for task in memory.replay(DIGEST, 3)] == [1, 2, 3]
    assert [task.task_id for task in memory.replay(DIGEST, 99)] == [0, 1, 2, 3]
    assert [task.task_id for task in memory.replay(OTHER, 3)] == [9]
    assert memory.replay("none", 3) == []
    np.testing.assert_array_equal(memory.replay(OTHER, 1)[0].queue, made_up_replayed().queue)


def test_replayed_tasks_are_read_as_they_are_kept(memory: Memory) -> None:
    tasks = [made_up_replayed(task_id=k) for k in range(4)]
    memory.keep_replay([*tasks, made_up_replayed(model_digest=OTHER)])
    assert list(memory.replay_records(DIGEST, 3)) == [task.to_bytes() for task in tasks[1:]]
    assert list(memory.replay_records("none", 3)) == []


def test_weights_are_kept_by_model_and_version(memory: Memory) -> None:
    for each in (row(2), row(1), row(1, model_digest=OTHER), row(2, "serving")):
        memory.keep_weights(each)
    assert memory.weights(DIGEST) == [row(1), row(2, "serving")]
    assert memory.weights(OTHER) == [row(1, model_digest=OTHER)]
    assert memory.weights("none") == []


def test_calibration_is_replaced(memory: Memory) -> None:
    assert memory.calibration(DIGEST) is None
    memory.keep_calibration(DIGEST, "{}")
    memory.keep_calibration(DIGEST, '{"bins": 4}')
    assert memory.calibration(DIGEST) == '{"bins": 4}'


def test_all_of_it_survives_a_restart(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_replay([made_up_replayed()])
        store.keep_weights(row(1, "serving"))
        store.keep_calibration(DIGEST, "{}")
        store.keep_trace(b"first")
        store.keep_trace(b"second")
    with closing(SqliteStore(tmp_path)) as again:
        assert [task.device_id for task in again.replay(DIGEST, 9)] == ["cam-ä"]
        assert again.weights(DIGEST) == [row(1, "serving")]
        assert again.calibration(DIGEST) == "{}"
        assert list(again.traces()) == [b"first", b"second"]


def test_a_damaged_replayed_task_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_replay([made_up_replayed(task_id=k) for k in range(3)])
        store._connection.execute("UPDATE replay SET bytes = x'00ff' WHERE id = 2")
        assert [task.task_id for task in store.replay(DIGEST, 9)] == [0, 2]


def test_old_replay_and_traces_go(tmp_path: Path) -> None:
    time = Time()
    with closing(SqliteStore(tmp_path, Bounds(max_age_s=100.0), unix_s=lambda: time.unix_s)) as store:
        store.keep_replay([made_up_replayed(task_id=1)])
        store.keep_trace(b"old")
        time.unix_s += 101.0
        store.keep_replay([])
        assert store.replay(DIGEST, 9) == []
        assert list(store.traces()) == []


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


def test_weights_are_bounded_in_number_and_the_serving_ones_stay(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_weights(row(1, "serving"))
        for version in range(2, MAX_WEIGHTS + 4):
            store.keep_weights(row(version))
        kept = [each.version for each in store.weights(DIGEST)]
        assert kept == [1, *range(4, MAX_WEIGHTS + 4)]


def test_an_older_state_is_migrated_after_a_copy_is_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(VERSION_1)
        old.execute("INSERT INTO documents VALUES ('cam', ?, 1)", (Document("cam").to_json(),))
        old.commit()
    with closing(SqliteStore(tmp_path)) as store:
        assert store.next_plan_id() == 4711
        assert store.manifest("x") == b"one"
        assert store.documents() == [Document("cam")]
        store.keep_replay([made_up_replayed()])
        assert len(store.replay(DIGEST, 9)) == 1
    with closing(sqlite3.connect(copy_path(tmp_path / FILE_NAME, 1))) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT next_id FROM plan_ids").fetchone() == (4711,)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as migrated:
        assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_new_and_a_migrated_state_have_the_same_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as old:
        old.executescript(VERSION_1)
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
