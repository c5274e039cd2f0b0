"""``twinsplit twin tune`` on the state of a stopped twin service."""

from __future__ import annotations

import builtins
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.tuning.recorded_tasks import SITUATION, keep_state, recorded_tasks
from tests.unit.twin_service.made_up_twins import DIGEST
from twin_service.cli import twin
from twin_service.decision.situation import Weights
from twin_service.store.sqlite import FILE_NAME
from twin_service.tuning import search
from twinsplit.errors import ConfigurationError, SettingsError, StorageError


@pytest.fixture(autouse=True)
def _few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ALPHAS_S", (0.1, 1.0))
    monkeypatch.setattr(search, "BETAS_S_PER_JOULE", (0.0, 0.1, 1.0))
    monkeypatch.setattr(search, "_REFINED", 1)


def tune(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(twin, ["tune", "--state", str(state), *arguments])


@pytest.mark.slow
def test_it_prints_draws_and_writes_what_it_found(tmp_path: Path) -> None:
    state = keep_state(tmp_path / "state", recorded_tasks(120, 0.5))
    plot, found = tmp_path / "frontier.png", tmp_path / "found.json"
    result = tune(state, "--latency-p95", "0.2", "--plot", str(plot), "--json", str(found))
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(found.read_text())
    assert plot.read_bytes().startswith(b"\x89PNG")
    chosen = document["chosen"]
    assert document["is_met"] is True
    assert document["tasks"] == 120
    assert document["recorded"]["latency_p95_s"] == pytest.approx(0.31)
    assert chosen["latency_p95_s"] <= 0.2
    assert sum(chosen["ends"].values()) == pytest.approx(1.0)
    assert chosen in document["evaluated"]
    command = f"twinsplit twin serve --alpha-s {chosen['alpha_s']:g} --beta-s-per-joule {chosen['beta_s_per_joule']:g}"
    assert document["next"] == command
    for text in (DIGEST[:12], "95 % of answers within 200 ms", "as recorded", "frontier", "The edge is as it was"):
        assert text in result.output


@pytest.mark.slow
def test_a_wish_that_cannot_be_met_is_named_with_the_nearest(tmp_path: Path) -> None:
    state = keep_state(tmp_path, recorded_tasks(120, 0.5))
    result = tune(state, "--accuracy", "0.99")
    assert result.exit_code == 1
    assert "NO WEIGHTS BRING IT on these tasks. The nearest that can be had is 86.8 %" in result.output


@pytest.mark.slow
def test_one_device_can_be_chosen(tmp_path: Path) -> None:
    tasks = [*recorded_tasks(120, 0.5), *recorded_tasks(110, 0.5, device_id="other")]
    state = keep_state(tmp_path, tasks)
    result = tune(state, "--energy-joules", "0.5", "--device", "other")
    assert result.exit_code == 0, result.output
    assert "110 tasks of 1 device," in result.output
    assert "there are cam, other" in str(tune(state, "--energy-joules", "0.5", "--device", "nobody").exception)


@pytest.mark.parametrize(
    "wishes", [(), ("--latency-p95", "0.1", "--accuracy", "0.9"), ("--accuracy", "0.9", "--energy-joules", "1")]
)
def test_exactly_one_wish_is_taken(tmp_path: Path, wishes: tuple[str, ...]) -> None:
    result = tune(tmp_path, *wishes)
    assert result.exit_code == 2
    assert "exactly one wish" in result.output


def raised(kind: type[Exception], state: Path, *arguments: str) -> str:
    result = tune(state, "--accuracy", "0.9", *arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_a_state_without_recorded_tasks_says_how_they_come_about(tmp_path: Path) -> None:
    assert "replay-share above 0" in raised(SettingsError, keep_state(tmp_path, []))


def test_too_few_tasks_are_refused_with_what_was_left_out(tmp_path: Path) -> None:
    with_deadline = replace(SITUATION, weights=Weights(deadline_s=1.0))
    tasks = [*recorded_tasks(3, 0.5), *recorded_tasks(2, 0.5, situation=with_deadline)]
    tasks += [replace(task, conditions=None) for task in recorded_tasks(4, 0.5)]
    state = keep_state(tmp_path, tasks)
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        connection.execute(
            "INSERT INTO replay (model_digest, device_id, at_unix_s, bytes) VALUES (?, 'cam', 1, x'ff')", (DIGEST,)
        )
        connection.commit()
    text = raised(SettingsError, state)
    assert "too few recorded tasks: 3, tuning takes 100" in text
    for part in ("1 left out: damaged", "2 left out: decided under a deadline", "4 left out: recorded by an older"):
        assert part in text


def test_tasks_of_several_models_are_told_apart(tmp_path: Path) -> None:
    from twin_service.documents import Document
    from twin_service.store.sqlite import SqliteStore

    state = keep_state(tmp_path, recorded_tasks(3, 0.5))
    other = "ee" * 32
    with closing(SqliteStore(state)) as store:
        manifest = store.manifest(DIGEST)
        assert manifest is not None
        store.keep_manifest(other, manifest)
        store.keep_documents([Document("new", model_digest=other)])
        store.keep_replay([replace(task, model_digest=other, device_id="new") for task in recorded_tasks(2, 0.5)])
    assert f"{DIGEST[:12]} (3 tasks)" in raised(SettingsError, state)
    assert "too few recorded tasks: 2," in raised(SettingsError, state, "--model", "eeee")


def test_a_folder_that_is_no_state_or_a_corrupt_one_is_named(tmp_path: Path) -> None:
    assert "holds no twin.sqlite" in raised(StorageError, tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to look at" * 100)
    assert "cannot be opened" in raised(StorageError, tmp_path)


def test_files_that_cannot_be_written_are_named_before_the_work(tmp_path: Path) -> None:
    assert "cannot be written" in raised(StorageError, tmp_path, "--json", str(tmp_path / "nowhere" / "found.json"))


def test_a_plot_without_matplotlib_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: Callable[..., Any] = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'twinsplit[model]'" in raised(ConfigurationError, tmp_path, "--plot", str(tmp_path / "f.png"))
