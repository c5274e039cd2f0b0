"""What every memory and every store keeps to: one class of tests for each, run against all of them.

A subclass gives the fixture ``store``; of a store ``place``, which makes stores on one state again and again, as
restarts do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pytest

from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.documents import Desired, Document
from twin_service.memory import MAX_REFUSED, Memory, WeightsRow
from twin_service.store.interface import MAX_MANIFESTS, Bounds, Store
from twinsplit.errors import StorageError

OTHER = "cd" * 32


class Place(Protocol):
    """Where a state is."""

    def open(self, bounds: Bounds, time: Time) -> Store:
        """A store on the state, as after a restart."""
        ...

    def damage_replay(self, task_id: int) -> None:
        """Make the record of the ``task_id``-th replayed task unreadable."""
        ...

    def set_version(self, version: int) -> None:
        """Make the state look as if a build with this schema version had written it."""
        ...


@dataclass
class Time:
    unix_s: float = 1.7e9


@contextmanager
def opened(place: Place, bounds: Bounds | None = None, time: Time | None = None) -> Iterator[Store]:
    store = place.open(bounds or Bounds(), time or Time())
    try:
        yield store
    finally:
        store.close()


def full_document(device_id: str = "cam") -> Document:
    document = Document(device_id)
    document.attached()
    document.announce("ab" * 32, "news")
    document.desire(Desired(alpha_s=1.5), 1)
    document.outcomes["edge"] += 3
    document.reasons["offload-pays"] += 3
    document.plan_revisions["attached"] += 1
    document.messages["task"] += 3
    return document


def row(version: int, state: str = "replaced", model_digest: str = DIGEST) -> WeightsRow:
    return WeightsRow(model_digest, version, state, 1.5e9 + version, '{"gain": "ä"}', bytes([version % 256, 0, 255]))


def weights_refused_beyond_the_bound(store: Memory) -> list[WeightsRow]:
    """Keep two refused versions too many among all others; those that are to stay."""
    served = [row(2, "replaced"), row(3, "rolled-back"), row(4, "damaged"), row(6, "serving")]
    refused = [row(version, "refused") for version in (1, 5, *range(7, 7 + MAX_REFUSED))]
    for each in sorted((*served, *refused), key=lambda each: each.version):
        store.keep_weights(each)
    return served + refused[2:]


class MemoryContract:
    """Tests of whatever the core remembers by, also of what is gone with the process."""

    @pytest.fixture
    def store(self) -> Iterator[Memory]:
        raise NotImplementedError("each store that is put to the contract says its own")

    def test_plan_ids_only_grow(self, store: Memory) -> None:
        ids = [store.next_plan_id() for _ in range(3)]
        store.plan_id_seen(5000)
        store.plan_id_seen(2)
        ids += [store.next_plan_id() for _ in range(2500)]
        assert ids == sorted(set(ids))
        assert ids[3] >= 5001

    def test_manifests_are_found_by_digest(self, store: Memory) -> None:
        assert store.manifest("x") is None
        store.keep_manifest("x", b"one\x00")
        store.keep_manifest("x", b"two\x00")
        assert store.manifest("x") == b"two\x00"

    def test_documents_are_replaced_by_their_newest_state(self, store: Memory) -> None:
        document = full_document()
        store.keep_documents([document, Document("dock")])
        document.outcomes["device"] += 1
        store.keep_documents([document])
        store.keep_documents([])
        assert [each.device_id for each in store.documents()] == ["dock", "cam"]
        assert store.documents()[-1] == document

    def test_a_document_of_an_earlier_attachment_is_out_of_date(self, store: Memory) -> None:
        old, new = full_document(), full_document()
        new.attached(7)
        store.keep_documents([new])
        old.outcomes["device"] += 99
        store.keep_documents([old, Document("dock")])
        assert [each for each in store.documents() if each.device_id == "cam"] == [new]
        assert new.epoch == 8

    def test_the_newest_replayed_tasks_of_a_model_come_oldest_first(self, store: Memory) -> None:
        store.keep_replay([made_up_replayed(task_id=k) for k in range(3)])
        store.keep_replay([made_up_replayed(task_id=9, model_digest=OTHER), made_up_replayed(task_id=3)])
        assert [task.task_id for task in store.replay(DIGEST, 3)] == [1, 2, 3]
        assert [task.task_id for task in store.replay(DIGEST, 99)] == [0, 1, 2, 3]
        assert [task.task_id for task in store.replay(OTHER, 3)] == [9]
        assert store.replay("none", 3) == []
        np.testing.assert_array_equal(store.replay(OTHER, 1)[0].queue, made_up_replayed().queue)

    def test_replayed_tasks_are_read_as_they_are_kept(self, store: Memory) -> None:
        tasks = [made_up_replayed(task_id=k) for k in range(130)]
        store.keep_replay([*tasks, made_up_replayed(model_digest=OTHER)])
        assert list(store.replay_records(DIGEST, 120)) == [task.to_bytes() for task in tasks[10:]]
        assert list(store.replay_records("none", 3)) == []

    def test_weights_are_kept_by_model_and_version(self, store: Memory) -> None:
        for each in (row(2), row(1), row(1, model_digest=OTHER), row(2, "serving")):
            store.keep_weights(each)
        assert store.weights(DIGEST) == [row(1), row(2, "serving")]
        assert store.weights(OTHER) == [row(1, model_digest=OTHER)]
        assert store.weights("none") == []
        assert store.weights() == [row(1), row(2, "serving"), row(1, model_digest=OTHER)]

    def test_of_refused_weights_the_newest_are_kept_and_all_that_ever_served(self, store: Memory) -> None:
        store.keep_weights(row(1, "refused", OTHER))
        kept = weights_refused_beyond_the_bound(store)
        assert store.weights(DIGEST) == kept
        assert store.weights(OTHER) == [row(1, "refused", OTHER)]

    def test_calibration_is_replaced(self, store: Memory) -> None:
        assert store.calibration(DIGEST) is None
        store.keep_calibration(DIGEST, "{}")
        store.keep_calibration(DIGEST, '{"bins": 4}')
        assert store.calibration(DIGEST) == '{"bins": 4}'

    def test_traces_come_oldest_first(self, store: Memory) -> None:
        batches = [b"batch %d" % k for k in range(120)]
        for batch in batches:
            store.keep_trace(batch)
        assert list(store.traces()) == batches


class StoreContract(MemoryContract):
    """Tests of a store."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError("each store that is put to the contract says its own")

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Memory]:
        with opened(place) as store:
            yield store

    def test_a_damaged_replayed_task_is_left_out_and_the_others_are_read(self, place: Place) -> None:
        with opened(place) as store:
            store.keep_replay([made_up_replayed(task_id=k) for k in range(3)])
        place.damage_replay(1)
        with opened(place) as store:
            assert [task.task_id for task in store.replay(DIGEST, 9)] == [0, 2]

    def test_all_of_it_survives_a_restart(self, place: Place) -> None:
        with opened(place) as store:
            last = [store.next_plan_id() for _ in range(1500)][-1]
            store.keep_manifest("x", b"one")
            store.keep_documents([full_document()])
            store.keep_replay([made_up_replayed()])
            store.keep_weights(row(1, "serving"))
            store.keep_calibration(DIGEST, "{}")
            store.keep_trace(b"first")
            store.keep_trace(b"second")
        with opened(place) as again:
            assert again.next_plan_id() > last
            assert again.manifest("x") == b"one"
            assert again.documents() == [full_document()]
            assert [task.device_id for task in again.replay(DIGEST, 9)] == ["cam-ä"]
            assert again.weights(DIGEST) == [row(1, "serving")]
            assert again.calibration(DIGEST) == "{}"
            assert list(again.traces()) == [b"first", b"second"]
            assert (again.errors, again.is_degraded) == (0, False)

    def test_documents_and_manifests_are_bounded_in_number(self, place: Place) -> None:
        with opened(place, Bounds(max_documents=3)) as store:
            store.keep_documents([Document(f"d{k}") for k in range(5)])
            assert [document.device_id for document in store.documents()] == ["d2", "d3", "d4"]
            for k in range(MAX_MANIFESTS + 2):
                store.keep_manifest(str(k), b"")
            assert (store.manifest("1"), store.manifest("2")) == (None, b"")
        with opened(place) as store:
            assert (store.manifest("1"), store.manifest("2")) == (None, b"")

    def attach(self, store: Store, documents: Sequence[Document]) -> None:
        """Devices come, before their documents are kept."""
        for document in documents:
            document.attached()

    def test_documents_of_attached_devices_are_bounded_in_number(self, place: Place) -> None:
        documents = [Document(f"d{k}") for k in range(7)]
        with opened(place, Bounds(max_documents=3)) as store:
            self.attach(store, documents[:5])
            store.keep_documents(documents[:5])
            assert [document.device_id for document in store.documents()] == ["d2", "d3", "d4"]
            for document in (documents[5], documents[6], documents[3]):
                self.attach(store, [document])
                store.keep_documents([document])
            assert [document.device_id for document in store.documents()] == ["d5", "d6", "d3"]
        with opened(place, Bounds(max_documents=2)) as smaller:
            assert [document.device_id for document in smaller.documents()] == ["d6", "d3"]

    def test_the_bound_of_refused_weights_holds_after_a_restart(self, place: Place) -> None:
        with opened(place) as store:
            kept = weights_refused_beyond_the_bound(store)
        with opened(place) as store:
            assert store.weights(DIGEST) == kept

    def test_old_replay_and_traces_go(self, place: Place) -> None:
        time = Time()
        with opened(place, Bounds(max_age_s=100.0), time) as store:
            store.keep_replay([made_up_replayed(task_id=1)])
            store.keep_trace(b"old")
            assert len(list(store.traces())) == 1
            time.unix_s += 101.0
            store.keep_replay([])
            assert store.replay(DIGEST, 9) == []
            assert list(store.traces()) == []

    def test_replay_and_traces_stay_within_their_bound_and_the_newest_stay(self, place: Place) -> None:
        with opened(place, Bounds(max_bytes=300e3)) as store:
            for start in range(0, 600, 100):
                store.keep_replay([made_up_replayed(9, task_id=start + k) for k in range(100)])
            kept = store.replay(DIGEST, 10_000)
            assert [task.task_id for task in kept] == list(range(kept[0].task_id, 600))
            assert len(kept) > 100
            assert 100e3 < sum(len(task.to_bytes()) for task in kept) <= 300e3

    def test_a_bound_that_is_drawn_closer_holds_from_the_start(self, place: Place) -> None:
        with opened(place) as store:
            store.keep_replay([made_up_replayed(9, task_id=k) for k in range(600)])
        with opened(place, Bounds(max_bytes=200e3)) as smaller:
            kept = smaller.replay(DIGEST, 10_000)
            assert kept[-1].task_id == 599
            assert 50e3 < sum(len(task.to_bytes()) for task in kept) <= 200e3

    def test_a_newer_state_is_refused_by_its_version(self, place: Place) -> None:
        with opened(place) as store:
            store.keep_documents([full_document()])
        place.set_version(99)
        with pytest.raises(StorageError, match="schema version 99, this build reads up to"), opened(place):
            pass
