"""A state whose rows were changed by hand or by a bad disk: what cannot be read is left out, and all else serves."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.workload.made_up_replay import DIGEST, made_up_replayed
from twin_service.documents import Document
from twin_service.learning.listing import weights_document, weights_table
from twin_service.memory import WeightsRow
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twin_service.wire_views import weights_from_wire, weights_to_wire
from twinsplit.errors import StorageError

DEEP = "[" * 100_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two of everything, so that one is left when the other is damaged."""
    with closing(SqliteStore(tmp_path)) as store:
        store.keep_documents([Document("cam-1"), Document("cam-2", epoch=2)])
        for version in (1, 2):
            store.keep_weights(WeightsRow(DIGEST, version, "serving", 1.5, "{}", b"net"))
        store.keep_replay([made_up_replayed(task_id=1), made_up_replayed(task_id=2)])
        store.keep_trace(b"one\n")
        store.keep_trace(b"two\n")
        store.keep_manifest("a", b"manifest")
        store.keep_manifest("b", b"manifest")
    return tmp_path


def damage(state: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as file:
        assert file.execute(statement, values).rowcount > 0
        file.commit()


def document(**changed: object) -> str:
    return json.dumps(json.loads(Document("cam-1").to_json()) | changed)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        7,
        "no JSON",
        "null",
        "[]",
        "{}",
        DEEP,
        document(device_id=None),
        document(version="many"),
        document(version=-1),
        document(desired=[]),
        document(desired={"alpha_s": "much"}),
        document(outcomes=5),
        document(outcomes={"edge": "x"}),
        document(messages={"report": None}),
    ],
)
def test_a_damaged_document_is_left_out(state: Path, text: object) -> None:
    damage(state, "UPDATE documents SET json = ? WHERE device_id = 'cam-1'", text)
    with closing(SqliteStore(state)) as store:
        assert store.documents() == [Document("cam-2", epoch=2)]


@pytest.mark.parametrize("epoch", ["new", -3, b"\x00"])
def test_a_document_of_a_damaged_epoch_is_left_out(state: Path, epoch: object) -> None:
    damage(state, "UPDATE documents SET epoch = ? WHERE device_id = 'cam-1'", epoch)
    with closing(SqliteStore(state)) as store:
        assert store.documents() == [Document("cam-2", epoch=2)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("version", "x"),
        ("version", -1),
        ("model_digest", "no digest"),
        ("created_unix_s", "x"),
        ("created_unix_s", float("inf")),
        ("created_unix_s", 1e300),
        ("created_unix_s", 1e10),
        ("state", b"\xff"),
        ("scores_json", b"\xff"),
        ("bytes", 5),
    ],
)
def test_damaged_weights_are_left_out(state: Path, column: str, value: object) -> None:
    damage(state, f"UPDATE weights SET {column} = ? WHERE version = 1", value)
    with closing(SqliteStore(state)) as store:
        rows = store.weights()
    assert [row.version for row in rows] == [2]
    assert "serving" in weights_table(rows)
    assert [weights_from_wire(weights_to_wire(row)).version for row in rows] == [2]


@pytest.mark.parametrize(
    "text",
    ["", "[]", DEEP, '{"tasks": "x"}', '{"scores": []}', '{"scores": {"utility_gain_over_zero": {"mean": "x"}}}'],
)
def test_damaged_scores_are_not_shown(text: str) -> None:
    rows = [WeightsRow(DIGEST, 1, "refused", 1.5, text, b"")]
    assert "refused" in weights_table(rows)
    assert weights_document(rows)[0]["version"] == 1


@pytest.mark.parametrize("value", ["text", 5, b"", b"\x00" * 20])
def test_a_damaged_replayed_task_is_left_out(state: Path, value: object) -> None:
    damage(state, "UPDATE replay SET bytes = ? WHERE id = 1", value)
    with closing(SqliteStore(state)) as store:
        assert [task.task_id for task in store.replay(DIGEST, 9)] == [2]
        assert len(list(store.replay_records(DIGEST, 9))) == 1 + isinstance(value, bytes)


def test_traces_and_manifests_that_are_no_bytes_are_left_out(state: Path) -> None:
    damage(state, "UPDATE traces SET bytes = 'text' WHERE id = 1")
    damage(state, "UPDATE manifests SET bytes = 12 WHERE digest = 'a'")
    with closing(SqliteStore(state)) as store:
        assert list(store.traces()) == [b"two\n"]
        assert store.manifest("a") is None
        assert store.manifest("b") == b"manifest"


@pytest.mark.parametrize("value", ["x", -4, 0, 1.5, b"", 2**63 - 1])
def test_without_the_number_of_the_next_plan_the_state_is_refused_by_name(state: Path, value: object) -> None:
    damage(state, "UPDATE plan_ids SET next_id = ?", value)
    with pytest.raises(StorageError, match="number of the next plan") as refused:
        SqliteStore(state)
    assert str(state) in str(refused.value)
