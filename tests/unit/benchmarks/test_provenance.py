"""What a result says of itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.provenance import command, commit, ended, provenance, shown_commit


def test_a_run_says_how_long_it_took_since_its_provenance_was_made() -> None:
    about = provenance(seeds=[1])
    assert "took_s" not in about, "it has not ended"
    about["written_at"] = (datetime.now(timezone.utc) - timedelta(seconds=90)).isoformat(timespec="seconds")
    said = ended(about)
    assert about["took_s"] >= 90
    assert said == f"Took {about['took_s']} s."


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (None, "twinsplit --seconds 3"),
        ("tests.faults.__main__", "python -m tests.faults --seconds 3"),
        ("tests.faults.soak", "python -m tests.faults.soak --seconds 3"),
    ],
)
def test_a_command_is_recorded_as_it_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, module: str | None, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/twinsplit", "--seconds", "3"])
    spec = None if module is None else ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    assert command() == expected


def test_results_of_earlier_runs_do_not_make_a_checkout_a_changed_one(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert commit(tmp_path) == "unknown"
    result, code = tmp_path / "benchmarks" / "results" / "grid.json", tmp_path / "benchmarks" / "grid.py"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    code.write_text("")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    number = git("rev-parse", "HEAD").strip()
    assert commit(tmp_path) == number
    result.write_text("{ }")
    (tmp_path / "notes.txt").write_text("not tracked")
    assert commit(tmp_path) == number
    code.write_text("changed")
    assert commit(tmp_path) == f"{number}-dirty"


def test_a_page_names_the_commit_in_short_and_says_where_files_were_changed() -> None:
    number = "c66d427c6b9dde4d83a3d3e90e5428c6acff1349"
    assert shown_commit(number) == number[:12]
    assert shown_commit(f"{number}-dirty") == f"{number[:12]}, changed"
    assert shown_commit("unknown") == "unknown"
