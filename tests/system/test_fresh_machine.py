"""A clone on a fresh Debian machine, used by somebody who is not root."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.needs import DEBIAN_PYTHON

_ROOT = Path(__file__).resolve().parents[2]
_NOBODY = 65534


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that an ordinary user owns; pytest's own temporary folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="twinsplit-fresh-"))
    os.chown(folder, _NOBODY, _NOBODY)
    yield folder
    shutil.rmtree(folder)


def _run_as_nobody(home: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "PY", "VIRTUAL_ENV"))
    }
    environment = inherited | {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=cwd, env=environment, user=_NOBODY, group=_NOBODY, extra_groups=[],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.needs("root", "debian-python", "git")
@pytest.mark.timeout(900)
def test_make_demo_needs_no_more_than_debians_python_make_and_git(home: Path) -> None:
    clone = home / "twinsplit"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(_ROOT), str(clone)], check=True)
    subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", str(clone)], check=True)

    made = _run_as_nobody(
        home, "make", "demo", f"PYTHON={DEBIAN_PYTHON}", "DEMO_ARGS=--seconds 2 --json demo.json", cwd=clone
    )

    assert made.returncode == 0, made.stdout + made.stderr
    assert "multi-step" in made.stdout
    rules = json.loads((clone / "demo.json").read_text())["rules"]
    assert {"multi-step", "device-only", "edge-only", "one-time"} <= rules.keys()
    installed = _run_as_nobody(home, ".venv/bin/python", "-m", "pip", "list", "--format=freeze", cwd=clone).stdout
    names = {line.partition("==")[0].lower() for line in installed.splitlines()}
    assert not names & {"torch", "onnx", "pytest", "mypy"}
    assert (clone / ".venv/bin/twinsplit").exists()
