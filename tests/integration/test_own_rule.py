"""The rule on the page docs/how-to/own-rule.md, taken from there and run from a folder outside the clone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.testbed.scenarios import DEMO

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "own-rule.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds nothing but the rule."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert 20 <= len([line for line in code.splitlines() if line.strip()]) <= 40
    (tmp_path / "hurried.py").write_text(code)
    assert not tmp_path.is_relative_to(ROOT)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from twinsplit.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=110)


def test_it_runs_on_real_processes_beside_a_built_in_rule(folder: Path) -> None:
    done = run(folder, "bench", "testbed", "--seconds", "3", "--rules", "hurried.py:Hurried", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    figures = found["rules"]["hurried"]
    assert figures["share_answered"] == 1.0
    assert figures["stops"].keys() - {"device"}, "it runs exits and offloads"
    assert str(folder) not in (folder / "found.json").read_text(), "no path of this machine"
    assert DEMO.seconds != found["scenario"]["seconds"] == 3.0


def test_a_rule_that_cannot_be_run_is_refused_before_anything_starts(folder: Path) -> None:
    done = run(folder, "bench", "testbed", "--rules", "hurried.py:Patient")
    assert done.returncode == 2
    assert "hurried.py has no class 'Patient'; it defines Hurried" in done.stderr
    assert "Traceback" not in done.stderr
