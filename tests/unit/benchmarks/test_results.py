from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import ResultFile
from twinsplit.errors import StorageError


def test_a_result_is_written_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    with ResultFile(path) as result_file:
        assert not path.exists()
        result_file.write({"cost_s": 0.25})
    assert json.loads(path.read_text()) == {"cost_s": 0.25}
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_run_leaves_the_old_result(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), ResultFile(path):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_refused_before_the_run() -> None:
    with pytest.raises(StorageError, match="No space left on device"):
        ResultFile(Path("/dev/full"))


def test_a_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder"):
        ResultFile(tmp_path)


def test_a_place_below_a_file_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="results cannot be written there"):
        ResultFile(tmp_path / "file" / "found.json")


def test_numbers_that_json_does_not_know_are_not_written(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "found.json") as result_file, pytest.raises(ValueError, match="JSON"):
        result_file.write({"cost_s": float("nan")})
