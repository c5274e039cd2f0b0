"""Replayed tasks in batches, by model."""

from __future__ import annotations

from tests.unit.decision.situations import manifest_of
from tests.unit.workload.made_up_replay import made_up_replayed
from twin_service.documents import Document
from twin_service.manifests import Manifests
from twin_service.memory import VolatileMemory
from twin_service.wire_views import replay_from_wire, replay_to_wire
from twin_service.workload.records import ReplayBatch, replay_batches
from twin_service.workload.replayed import Replayed
from twinsplit.model.manifest import manifest_digest, parse_manifest

MANIFEST = manifest_of()
DATA = MANIFEST.model_dump_json().encode()
DIGEST = manifest_digest(DATA)


def batches(model: str, limit: int, *, kept: int = 120) -> list[ReplayBatch]:
    memory = VolatileMemory()
    memory.keep_manifest(DIGEST, DATA)
    memory.keep_replay([made_up_replayed(task_id=k, model_digest=DIGEST) for k in range(kept)])
    documents = [Document("cam", model_digest=DIGEST), Document("twin", model_digest=DIGEST), Document("new")]
    documents.append(Document("old", model_digest="ff" * 32))  # its manifest is not there
    return list(replay_batches(memory, documents, Manifests(memory), model, limit))


def test_a_model_comes_with_its_manifest_and_then_its_newest_tasks() -> None:
    head, *rest = batches("", 110)
    assert parse_manifest(head.manifest_json) == MANIFEST
    assert head.records == ()
    assert [len(batch.records) for batch in rest] == [50, 50, 10]
    ids = [Replayed.from_bytes(record).task_id for batch in rest for record in batch.records]
    assert ids == list(range(10, 120))
    assert {batch.model_digest for batch in (head, *rest)} == {DIGEST}
    assert not any(batch.manifest_json for batch in rest)


def test_other_models_are_passed_over() -> None:
    assert len(batches(DIGEST[:6], 10)) == 2
    assert batches("ff", 10) == []


def test_a_batch_crosses_the_wire_as_it_is() -> None:
    for batch in batches("", 60):
        assert replay_from_wire(replay_to_wire(batch)) == batch
