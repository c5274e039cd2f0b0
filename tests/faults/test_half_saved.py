"""Faults inside a transaction of the twin's state: what was begun is not there, and what was whole before is."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from tests.faults import half_saved
from tests.faults.catalogue import Fault, has_not_fired
from tests.faults.half_saved import DEVICES, documents
from tests.full_disk import files_bounded_to
from tests.integration.device_bench import until
from tests.integration.test_twin_streams import attached_device, attached_edge, running
from tests.store.contract import row
from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.documents import Document
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twinsplit.errors import StorageError
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow

LEAST_WRITTEN_BYTES = 1_000_000
SPARE_PAGES = 20
"""Room for some of the documents of one transaction, and not for all."""
NO_BOUND = 2**30


def save_all(store: SqliteStore) -> None:
    """One whole checkpoint: something in every table."""
    store.keep_manifest("x", b"one")
    store.keep_weights(row(1, "serving"))
    store.keep_calibration(DIGEST, "{}")
    store.keep_replay([made_up_replayed(task_id=1)])
    store.keep_trace(b"first")
    store.keep_documents(documents(1))


def assert_is_whole(store: SqliteStore, saved: list[Document]) -> None:
    """The documents are these, and all else is as it was saved."""
    assert store.documents() == saved
    assert store.manifest("x") == b"one"
    assert store.weights() == [row(1, "serving")]
    assert store.calibration(DIGEST) == "{}"
    assert [task.task_id for task in store.replay(DIGEST, 9)] == [1]
    assert list(store.traces()) == [b"first"]
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@contextmanager
def log_cannot_grow(store: SqliteStore) -> Iterator[None]:
    """The disk is full half-way, and sqlite ends the transaction by itself."""
    with files_bounded_to(2 * LEAST_WRITTEN_BYTES), pytest.raises(StorageError, match="disk I/O error"):
        yield


@contextmanager
def a_statement_fails(store: SqliteStore) -> Iterator[None]:
    """One of the last does, which leaves the transaction open."""
    store._connection.execute(
        "CREATE TEMP TRIGGER fails BEFORE INSERT ON main.documents WHEN NEW.device_id = "
        f"'{documents(2)[-9].device_id}' BEGIN SELECT RAISE(FAIL, 'it fails'); END"
    )
    with pytest.raises(StorageError, match="it fails"):
        yield
    store._connection.execute("DROP TRIGGER fails")


def test_a_twin_killed_in_the_middle_of_a_save_comes_back_with_the_last_whole_one(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        save_all(store)
    log = tmp_path / f"{FILE_NAME}-wal"
    assert not log.exists()
    command = [sys.executable, "-m", half_saved.__name__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half saved\n"
            assert log.stat().st_size > LEAST_WRITTEN_BYTES, "nothing of it is on disk"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, has_not_fired(Fault.KILLED)
    assert log.stat().st_size > LEAST_WRITTEN_BYTES
    with closing(SqliteStore(tmp_path)) as again:
        assert_is_whole(again, documents(1))
        again.keep_documents(documents(2))
    with closing(SqliteStore(tmp_path)) as later:
        assert_is_whole(later, documents(2))


@pytest.mark.parametrize("fault", [log_cannot_grow, a_statement_fails])
def test_a_save_that_fails_in_its_middle_leaves_the_last_whole_one_and_the_next_succeeds(
    tmp_path: Path, fault: Callable[[SqliteStore], AbstractContextManager[None]]
) -> None:
    taken: list[Document] = []

    def counted() -> Iterator[Document]:
        for document in documents(2):
            taken.append(document)
            yield document

    log = tmp_path / f"state/{FILE_NAME}-wal"
    with closing(SqliteStore(tmp_path / "state")) as store:
        save_all(store)
    with closing(SqliteStore(tmp_path / "state")) as store:
        with fault(store):
            store.keep_documents(counted())
        assert 1 < len(taken) < DEVICES, "it has not failed in its middle"
        assert log.stat().st_size > LEAST_WRITTEN_BYTES, "nothing of it is on disk"
        assert (store.errors, store.is_degraded) == (1, True)
        assert_is_whole(store, documents(1))
        shutil.copytree(tmp_path / "state", tmp_path / "as-after-a-crash")
        store.keep_documents(documents(2))
        assert (store.errors, store.is_degraded) == (1, False)
    with closing(SqliteStore(tmp_path / "as-after-a-crash")) as again:
        assert_is_whole(again, documents(1))
    with closing(SqliteStore(tmp_path / "state")) as again:
        assert_is_whole(again, documents(2))


def test_a_save_whose_end_cannot_be_written_leaves_the_last_whole_one_and_the_next_succeeds(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        save_all(store)
        # So few wait in memory for the commit.
        with files_bounded_to(0), pytest.raises(StorageError, match="disk I/O error"):
            store.keep_documents(documents(2)[:9])
        assert_is_whole(store, documents(1))
        store.keep_documents(documents(2))
    with closing(SqliteStore(tmp_path)) as again:
        assert_is_whole(again, documents(2))


async def test_a_twin_whose_saves_fail_in_their_middle_goes_on_and_saves_when_there_is_room(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "state")) as store:
        save_all(store)
    async with running(tmp_path / "state", save_s=0.02) as twin, open_channel(twin.address) as channel:
        store, archive = twin._store, twin.exchange.core.archive
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages + SPARE_PAGES}")
        changes = store._connection.total_changes
        for document in archive:
            document.announced *= 2
            archive.note_change(document.device_id)
        await until(lambda: store.errors > 0)
        assert store._connection.total_changes > changes, has_not_fired(Fault.FULL_DISK)
        shutil.copytree(tmp_path / "state", tmp_path / "as-after-a-crash")
        await attached_edge(channel)
        _, plan = await attached_device(channel)
        assert (plan.edge_id, store.is_degraded) == ("edge", True)
        store._connection.execute(f"PRAGMA max_page_count = {NO_BOUND}")
        await until(lambda: not (store.is_degraded or archive._unsaved))
        kept = [document.announced for document in store.documents() if document.device_id != "cam"]
        assert kept == [2 * document.announced for document in documents(1)]
    with closing(SqliteStore(tmp_path / "as-after-a-crash")) as again:
        assert_is_whole(again, documents(1))
