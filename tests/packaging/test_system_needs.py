"""`make test-system` on a machine that lacks something: told, and failed unless asked to go on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.needs import NEEDS, Need, cures, missing_needs

pytestmark = pytest.mark.slow

_TESTS = """
import pytest

@pytest.mark.needs("ffmpeg")
def test_lacking(): ...

@pytest.mark.needs("there")
def test_at_hand(): ...
"""
_LACKING = """
from tests.system import needs

needs.NEEDS.clear()
needs.NEEDS["ffmpeg"] = needs.Need(lambda: False, ("ffmpeg",))
needs.NEEDS["there"] = needs.Need(lambda: True)
needs.NEEDS["engine"] = needs.Need(lambda: False, cure="start an engine", is_optional=True)
"""


def _run_system_tests(
    tmp_path: Path, root: Path, tests: str = _TESTS, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """The real conftest over ``tests``, on a machine where ffmpeg is lacking."""
    folder = tmp_path / "tests/system"
    folder.mkdir(parents=True)
    shutil.copy(root / "pyproject.toml", tmp_path)
    for name in ("lanes.py", "system/conftest.py", "system/needs.py"):
        shutil.copy(root / "tests" / name, tmp_path / "tests" / name)
    (tmp_path / "conftest.py").write_text(_LACKING)
    (folder / "test_made_up.py").write_text(tests)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "ALLOW_MISSING"))
    }
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # of those installed it takes the two that pyproject sets up
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-m", "system", "tests/system", *plugins]
    return subprocess.run(
        command, cwd=tmp_path, env=environment | variables, capture_output=True, text=True, check=False
    )


def test_the_run_fails_and_names_the_apt_line(tmp_path: Path, root: Path) -> None:
    done = _run_system_tests(tmp_path, root)
    assert done.returncode != 0
    assert "lacks ffmpeg" in done.stderr
    assert "sudo apt install ffmpeg" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_with_allow_missing_the_rest_runs_and_the_loss_is_told(tmp_path: Path, root: Path) -> None:
    done = _run_system_tests(tmp_path, root, ALLOW_MISSING="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "lacks ffmpeg" in done.stdout


def test_a_machine_that_lacks_everything_still_succeeds_when_that_is_allowed(tmp_path: Path, root: Path) -> None:
    tests = 'import pytest\n\n@pytest.mark.needs("ffmpeg")\ndef test_lacking(): ...\n'
    done = _run_system_tests(tmp_path, root, tests, ALLOW_MISSING="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_optional_is_left_out_and_the_loss_is_told(tmp_path: Path, root: Path) -> None:
    tests = 'import pytest\n\n@pytest.mark.needs("engine")\ndef test_lacking(): ...\n'
    tests += '\n@pytest.mark.needs("there")\ndef test_at_hand(): ...\n'
    done = _run_system_tests(tmp_path, root, tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "left out: this machine lacks engine (engine: start an engine)" in done.stdout


def test_a_system_test_that_names_no_need_is_refused(tmp_path: Path, root: Path) -> None:
    done = _run_system_tests(tmp_path, root, "def test_forgetful(): ...\n")
    assert done.returncode != 0
    assert "names what it needs" in done.stdout + done.stderr


def test_packages_make_one_apt_line_and_the_rest_is_said_in_words() -> None:
    needs = {
        "there": Need(lambda: True, ("python3",)),
        "player": Need(lambda: False, ("ffmpeg", "fonts")),
        "encoder": Need(lambda: False, ("ffmpeg",)),
        "root": Need(lambda: False, cure="run as root"),
    }
    missing = missing_needs(["root", "encoder", "player", "there"], needs)
    assert missing == ["player", "encoder", "root"]
    assert cures(missing, needs) == ["sudo apt install ffmpeg fonts", "root: run as root"]


def test_every_need_says_how_it_is_met() -> None:
    assert [name for name, need in NEEDS.items() if not need.packages and not need.cure] == []
