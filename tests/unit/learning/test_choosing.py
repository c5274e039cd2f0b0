from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_learner import GOOD
from test_lessons import constant

from twin_service.cli import twin
from twin_service.learning.choosing import kept_weights, serve_version
from twin_service.learning.listing import weights_document, weights_table
from twin_service.memory import WeightsRow
from twin_service.store.sqlite import SqliteStore
from twinsplit.errors import SettingsError, StorageError, WeightsError

DIGEST, OTHER = "ab" * 32, "cd" * 32


def row(version: int, state: str, *, digest: str = DIGEST, data: bytes | None = None) -> WeightsRow:
    scores = json.dumps(GOOD.as_document())
    return WeightsRow(digest, version, state, 1.7e9, scores, constant(0.0, 0.1).to_bytes() if data is None else data)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with closing(SqliteStore(tmp_path)) as store:
        for kept in (row(1, "replaced"), row(2, "serving"), row(3, "refused", data=b"damaged")):
            store.keep_weights(kept)
    return tmp_path


def states(folder: Path) -> list[str]:
    return [kept.state for kept in kept_weights(folder)]


def test_another_version_serves_from_the_next_start_on(state) -> None:
    serve_version(state, "", 1)
    assert states(state) == ["serving", "rolled-back", "refused"]


def test_version_0_is_open_loop(state) -> None:
    serve_version(state, DIGEST[:6], 0)
    assert states(state) == ["replaced", "rolled-back", "refused"]


def test_what_is_not_there_or_damaged_is_refused_and_nothing_changes(state) -> None:
    with pytest.raises(SettingsError, match="there are 1, 2, 3"):
        serve_version(state, "", 9)
    with pytest.raises(SettingsError, match="those that fit: none"):
        serve_version(state, "ff", 1)
    with pytest.raises(WeightsError):
        serve_version(state, "", 3)
    assert states(state) == ["replaced", "serving", "refused"]


def test_with_several_models_one_must_be_named(state) -> None:
    with closing(SqliteStore(state)) as store:
        store.keep_weights(row(1, "serving", digest=OTHER))
    with pytest.raises(SettingsError, match=f"{DIGEST[:12]}, {OTHER[:12]}"):
        serve_version(state, "", 1)
    serve_version(state, "cd", 0)
    assert states(state) == ["replaced", "serving", "refused", "rolled-back"]


def test_a_folder_without_state_is_named_and_none_is_made(tmp_path) -> None:
    with pytest.raises(StorageError, match="holds no"):
        kept_weights(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_table_shows_each_version_with_what_it_brought(state) -> None:
    text = weights_table(kept_weights(state))
    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[3].split()[:3] == [DIGEST[:12], "2", "serving"]
    assert "25.0 %" in lines[3]
    assert "+10.0 ms" in lines[3]
    assert weights_table([]) == "no weights have been learnt: open-loop decides"


def test_the_document_has_all_scores(state) -> None:
    document = json.loads(json.dumps(weights_document(kept_weights(state))))
    assert [entry["version"] for entry in document] == [1, 2, 3]
    assert document[1]["scores"]["error_gain_over_zero"]["mean"] == 0.01
    assert "data" not in document[1]


def test_the_command_reads_and_changes_a_stopped_state(state) -> None:
    result = CliRunner().invoke(twin, ["weights", "--state", str(state), "--serve", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert [entry["state"] for entry in json.loads(result.output)] == ["serving", "rolled-back", "refused"]
    refused = CliRunner().invoke(twin, ["weights", "--serve", "1"])
    assert refused.exit_code == 2
    assert "--state" in refused.output
