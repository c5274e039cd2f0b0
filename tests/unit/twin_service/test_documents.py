import pytest

from twin_service.archive import Archive
from twin_service.documents import Desired, Document, readable_documents
from twin_service.memory import Claim, VolatileMemory
from twinsplit.errors import BadMessageError, StaleWriteError, StorageError, UnknownTwinError


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


def with_changes(count: int) -> tuple[VolatileMemory, Archive]:
    memory = VolatileMemory()
    archive = Archive(memory, 10, lambda _: False)
    for k in range(count):
        archive.opened(f"d{k}")
        archive.note_change(f"d{k}")
    return memory, archive


def test_saving_can_be_done_in_parts() -> None:
    memory, archive = with_changes(5)
    archive.fall_due()
    assert archive.save(2)
    assert len(memory.documents()) == 2
    assert not archive.save(9)
    assert len(memory.documents()) == 5


def test_what_changes_while_a_round_of_saving_goes_on_waits_for_the_next() -> None:
    memory, archive = with_changes(4)
    archive.fall_due()
    saved = 0
    while archive.save(1):
        saved += 1
        for k in range(4):
            archive.opened(f"d{k}").outcomes["edge"] += 1
            archive.note_change(f"d{k}")
    assert saved == 3, "the fourth was the last of the round"
    assert {document.device_id: document.ended for document in memory.documents()} == {f"d{k}": k for k in range(4)}
    archive.fall_due()
    assert not archive.save(9)
    assert {document.ended for document in memory.documents()} == {3}


def test_a_full_archive_forgets_who_is_not_attached() -> None:
    attached = {"d0"}
    archive = Archive(VolatileMemory(), 2, attached.__contains__)
    for name in ("d0", "d1", "d2"):
        archive.opened(name)
    assert [document.device_id for document in archive] == ["d0", "d2"]
    with pytest.raises(UnknownTwinError, match="d1"):
        archive.document("d1")


class SharedMemory(VolatileMemory):
    is_shared = True


def kept(device_id: str, epoch: int, outcomes: int) -> Document:
    document = Document(device_id, epoch=epoch)
    document.outcomes["edge"] += outcomes
    document.plan_revisions["attached"] += outcomes
    return document


def counted(archive: Archive) -> int:
    """Tasks that ended here, as a counter of this process tells them."""
    return sum(document.ended for document in archive) - archive.inherited["outcomes"].total()


def test_documents_that_others_hold_are_not_read_at_the_start() -> None:
    memory = SharedMemory()
    memory.keep_documents([kept("cam", 3, 5)])
    assert len(Archive(memory, 10, lambda _: False)) == 0


def test_a_device_that_comes_from_elsewhere_brings_its_document_and_counts_nowhere_twice() -> None:
    archive = Archive(SharedMemory(), 10, lambda _: False)
    archive.claimed("cam", Claim(4, kept("cam", 3, 5)))
    document = archive.opened("cam")
    document.attached()
    assert (document.epoch, document.ended) == (4, 5)
    assert counted(archive) == 0
    document.outcomes["device"] += 2
    assert counted(archive) == 2
    archive.forget("cam")
    assert archive.find("cam") is None
    assert counted(archive) == 2
    archive.claimed("cam", Claim(7, kept("cam", 6, 20)))
    assert counted(archive) == 2


def test_a_device_that_comes_back_before_its_document_was_kept_keeps_the_newer_one() -> None:
    archive = Archive(SharedMemory(), 10, lambda _: False)
    archive.claimed("cam", Claim(1, None))
    document = archive.opened("cam")
    document.attached()
    document.outcomes["device"] += 2
    archive.claimed("cam", Claim(2, kept("cam", 1, 0)))
    assert archive.opened("cam") is document
    document.attached()
    assert document.epoch == 2


def test_what_moved_away_is_not_due_to_be_saved() -> None:
    memory = SharedMemory()
    archive = Archive(memory, 10, lambda _: False)
    archive.opened("cam")
    archive.note_change("cam")
    archive.forget("cam")
    archive.note_change("cam")
    assert not archive.save()
    assert memory.documents() == []


def test_what_could_not_be_asked_when_a_device_came_is_added_when_it_can() -> None:
    memory = SharedMemory()
    archive = Archive(memory, 10, lambda _: False)
    archive.unknown("cam")
    document = archive.opened("cam")
    document.attached(6)
    document.outcomes["device"] += 2
    archive.note_change("cam")
    assert not archive.save()
    assert memory.documents() == []
    elsewhere = kept("cam", 3, 5)
    elsewhere.desire(Desired(alpha_s=1.5), 0)
    archive.learnt("cam", Claim(3, elsewhere))
    assert dict(document.outcomes) == {"device": 2, "edge": 5}
    assert (document.desired, document.epoch) == (Desired(alpha_s=1.5), 7)
    assert document.version > elsewhere.version
    assert counted(archive) == 2
    assert not archive.save()
    assert memory.documents() == [document]


def test_of_a_device_that_was_here_before_only_what_is_new_is_added() -> None:
    archive = Archive(SharedMemory(), 10, lambda _: False)
    archive.claimed("cam", Claim(1, None))
    document = archive.opened("cam")
    document.attached()
    document.outcomes["device"] += 2
    archive.unknown("cam")
    document.attached(4)
    document.outcomes["device"] += 1
    archive.unknown("cam")  # again, before anything was learnt
    archive.learnt("cam", Claim(3, kept("cam", 3, 5)))
    assert {name: count for name, count in document.outcomes.items() if count} == {"device": 1, "edge": 5}
    assert counted(archive) == 3


@pytest.mark.parametrize("epoch_here", [6, 2], ids=["a clock that is ahead", "a clock that is behind"])
def test_a_device_that_attaches_anew_before_its_document_could_be_asked_loses_nothing(
    epoch_here: int,
) -> None:
    memory = SharedMemory()
    archive = Archive(memory, 10, lambda _: True)
    archive.unknown("cam")
    document = archive.opened("cam")
    document.attached(epoch_here)
    document.outcomes["device"] += 2
    document.desire(Desired(beta_s_per_joule=0.1), 0)
    archive.claimed("cam", Claim(9, kept("cam", 3, 5)))
    document.attached()
    assert archive.opened("cam") is document
    assert (document.epoch, document.desired) == (9, Desired(beta_s_per_joule=0.1))
    assert dict(document.outcomes) == {"device": 2, "edge": 5}
    assert counted(archive) == 2
    assert not archive.save()
    assert memory.documents() == [document]


@pytest.mark.parametrize("claim", [None, Claim(9, None), Claim(9, kept("cam", 9, 5)), Claim(0, kept("cam", 0, 5))])
def test_what_is_of_another_time_is_not_added(claim: Claim | None) -> None:
    archive = Archive(SharedMemory(), 10, lambda _: False)
    archive.unknown("cam")
    archive.opened("cam").attached()
    archive.learnt("cam", claim)
    assert archive.opened("cam").ended == 0
    assert archive.bases == {}


def test_a_weight_beyond_all_others_is_refused_and_one_that_was_kept_is_not_desired_any_more() -> None:
    document = full_document()
    for bad in (1e39, 1.1e6):
        with pytest.raises(BadMessageError, match="from 0 to"):
            document.desire(Desired(deadline_s=bad), 2)
    document.desired = Desired(alpha_s=1e308, beta_s_per_joule=0.1)
    assert Document.from_json(document.to_json()).desired == Desired(beta_s_per_joule=0.1)


def test_a_document_that_cannot_be_read_costs_its_device_alone() -> None:
    document = full_document()
    assert readable_documents([("{}", 1), (document.to_json(), 0)]) == [document]
