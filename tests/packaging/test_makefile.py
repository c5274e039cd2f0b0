"""What `make` does before anything is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, folder)
    return folder


def _make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))
    }
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def _interpreter(folder: Path, **modules: str) -> Path:
    """A Python in which each of ``modules`` is what its text says."""
    hidden = folder / "modules"
    hidden.mkdir()
    for name, text in modules.items():
        (hidden / f"{name}.py").write_text(text)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={hidden} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("target", ["demo", "test", "model"])
def test_without_python3_venv_the_apt_line_is_printed_and_nothing_is_made(
    checkout: Path, tmp_path: Path, target: str
) -> None:
    python = _interpreter(tmp_path, ensurepip="raise ImportError('as on Debian without python3-venv')")
    made = _make(checkout, target, f"PYTHON={python}")
    assert made.returncode == 2
    assert [line.strip() for line in made.stderr.splitlines() if "apt" in line] == ["sudo apt install python3-venv"]
    assert not (checkout / ".venv").exists()


def test_without_python_the_apt_line_is_printed(checkout: Path) -> None:
    made = _make(checkout, "demo", "PYTHON=no-such-python")
    assert made.returncode == 2
    assert "sudo apt install python3 python3-venv" in made.stderr


def test_an_old_python_is_refused_with_the_cure(checkout: Path, tmp_path: Path) -> None:
    python = _interpreter(tmp_path, sitecustomize="import sys; sys.version_info = (3, 9, 2, 'final', 0)")
    made = _make(checkout, "demo", f"PYTHON={python}")
    assert made.returncode == 2
    assert "make PYTHON=" in made.stderr


def test_every_installation_keeps_to_the_constraints(checkout: Path) -> None:
    for target in ("demo", "test", "model", "wheel"):
        planned = _make(checkout, "--dry-run", target).stdout
        installs = [line for line in planned.splitlines() if "pip install" in line]
        assert installs, target
        assert all("--constraint constraints.txt" in line for line in installs), target


def test_the_demo_installs_neither_torch_nor_onnx_nor_test_tools(checkout: Path) -> None:
    planned = _make(checkout, "--dry-run", "demo").stdout
    assert "'.[demo]'" in planned
    assert "[dev]" not in planned
    assert "[model]" not in planned


def test_the_targets_are_those_of_the_guide(checkout: Path, root: Path) -> None:
    targets = {line.split()[0] for line in _make(checkout, "help").stdout.splitlines()}
    guide = (root / "CONTRIBUTING.md").read_text()
    assert {target for target in targets if f"`make {target}`" not in guide} == set()
    assert {
        "demo",
        "test",
        "test-system",
        "lint",
        "types",
        "proto",
        "proto-check",
        "check",
        "bench",
        "report",
        "model",
    } <= targets


def test_an_address_that_env_holds_is_not_taken_away_by_make_up(checkout: Path) -> None:
    """What stands in the environment, if only as nothing, would count before .env."""
    assert _make(checkout, "--dry-run", "up").stdout.split() == ["deploy/compose/up"]
    planned = _make(checkout, "--dry-run", "up", "LAN=192.0.2.1").stdout
    assert planned.split() == ["LAN='192.0.2.1'", "deploy/compose/up"]


def test_the_report_is_drawn_and_measured_only_when_asked(checkout: Path) -> None:
    def command(*arguments: str) -> str:
        planned = _make(checkout, "--dry-run", "report", *arguments).stdout.splitlines()
        return " ".join(next(line for line in planned if "benchmarks.report" in line).split()[1:])

    assert command() == "-m benchmarks.report"
    assert command("QUICK=1") == "-m benchmarks.report --quick"
    assert command("RUN=1", "REPORT_ARGS=--only grid") == "-m benchmarks.report --run --only grid"


def test_the_wheelhouse_gets_the_wheel_of_the_machine_that_is_named(checkout: Path) -> None:
    (checkout / "wheelhouse").mkdir()
    (checkout / "wheelhouse/torch-2-x86_64.whl").touch()
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    (checkout / ".venv/.created").touch()
    assert _make(checkout, "wheelhouse", "MACHINE=x86_64").stdout.split() == ["wheelhouse/torch-2-x86_64.whl"]
    assert "--platform manylinux_2_28_aarch64 " in _make(checkout, "wheelhouse", "MACHINE=aarch64").stdout
