from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from twin_service.archive import Archive
from twin_service.documents import Desired, Document
from twin_service.memory import Memory, VolatileMemory
from twin_service.store.interface import MAX_MANIFESTS, Bounds
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twinsplit.errors import BadMessageError, StaleWriteError, StorageError, UnknownTwinError


@pytest.fixture(params=["volatile", "store"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    if request.param == "volatile":
        yield VolatileMemory()
    else:
        with closing(SqliteStore(tmp_path)) as store:
            yield store


def full_document() -> Document:
    document = Document("cam")
    document.announce("ab" * 32, "news")
    document.desire(Desired(alpha_s=1.5), 1)
    document.outcomes["edge"] += 3
    document.reasons["offload-pays"] += 3
    document.plan_revisions["attached"] += 1
    document.messages["task"] += 3
    return document


def test_a_document_is_the_same_after_it_was_kept() -> None:
    document = full_document()
    assert Document.from_json(document.to_json()) == document


def test_a_broken_document_is_named() -> None:
    with pytest.raises(StorageError, match="--state"):
        Document.from_json("{}")


def test_only_decisions_make_a_new_version() -> None:
    document = full_document()
    assert document.version == 2
    document.announce("ab" * 32, "news")
    document.outcomes["edge"] += 1
    assert document.version == 2
    document.announce("cd" * 32, "news")
    assert document.version == 3


def test_a_write_for_another_version_is_stale() -> None:
    document = full_document()
    with pytest.raises(StaleWriteError, match="version 2"):
        document.desire(Desired(alpha_s=9.0), 1)
    assert document.desired.alpha_s == 1.5


def test_what_a_write_leaves_out_stays() -> None:
    document = full_document()
    document.desire(Desired(beta_s_per_joule=0.1), 2)
    assert document.desired == Desired(1.5, 0.1)


def test_an_impossible_weight_is_refused() -> None:
    document = full_document()
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadMessageError, match="alpha_s"):
            document.desire(Desired(alpha_s=bad), 2)
    assert document.version == 2


def test_plan_ids_only_grow(memory: Memory) -> None:
    ids = [memory.next_plan_id() for _ in range(3)]
    memory.plan_id_seen(5000)
    memory.plan_id_seen(2)
    ids += [memory.next_plan_id() for _ in range(2)]
    assert ids == sorted(set(ids))
    assert ids[-1] == 5002


def test_manifests_are_found_by_digest(memory: Memory) -> None:
    assert memory.manifest("x") is None
    memory.keep_manifest("x", b"one")
    assert memory.manifest("x") == b"one"


def test_documents_are_replaced_by_their_newest_state(memory: Memory) -> None:
    document = full_document()
    memory.keep_documents([document, Document("dock")])
    document.outcomes["device"] += 1
    memory.keep_documents([document])
    kept = {each.device_id: each for each in memory.documents()}
    assert kept == {"cam": document, "dock": Document("dock")}


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deep" / "state")
    last = [store.next_plan_id() for _ in range(1500)][-1]
    store.keep_manifest("x", b"one")
    store.keep_documents([full_document()])
    store.close()
    again = SqliteStore(tmp_path / "deep" / "state")
    assert again.next_plan_id() > last
    assert again.manifest("x") == b"one"
    assert again.documents() == [full_document()]
    assert again.size_bytes > 0
    again.close()


def test_the_store_is_bounded(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Bounds(max_documents=3))
    store.keep_documents([Document(f"d{k}") for k in range(5)])
    assert [document.device_id for document in store.documents()] == ["d2", "d3", "d4"]
    for k in range(MAX_MANIFESTS + 2):
        store.keep_manifest(str(k), b"")
    assert store.manifest("1") is None
    assert store.manifest("2") == b""
    store.close()


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store._connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StorageError, match="schema version 99"):
        SqliteStore(tmp_path)


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


class FullDisk(VolatileMemory):
    is_full = True

    def keep_documents(self, documents: object) -> None:
        if self.is_full:
            raise StorageError("the disk is full")
        super().keep_documents(documents)


def test_what_could_not_be_saved_stays_due() -> None:
    memory = FullDisk()
    archive = Archive(memory, 10, lambda _: False)
    archive.opened("cam")
    archive.note_change("cam")
    with pytest.raises(StorageError):
        archive.save()
    memory.is_full = False
    archive.save()
    assert [document.device_id for document in memory.documents()] == ["cam"]


def test_saving_can_be_done_in_parts() -> None:
    memory = VolatileMemory()
    archive = Archive(memory, 10, lambda _: False)
    for k in range(5):
        archive.opened(f"d{k}")
        archive.note_change(f"d{k}")
    assert archive.save(2)
    assert len(memory.documents()) == 2
    assert not archive.save(9)
    assert len(memory.documents()) == 5


def test_a_full_archive_forgets_who_is_not_attached() -> None:
    attached = {"d0"}
    archive = Archive(VolatileMemory(), 2, attached.__contains__)
    for name in ("d0", "d1", "d2"):
        archive.opened(name)
    assert [document.device_id for document in archive] == ["d0", "d2"]
    with pytest.raises(UnknownTwinError, match="d1"):
        archive.document("d1")
