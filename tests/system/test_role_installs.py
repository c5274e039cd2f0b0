"""The wheel installed for each role, and without any extra, into a fresh environment of Debian's Python, from an empty
folder away from the checkout.

What `learn` and `model` bring, torch, is too large for this: tests/packaging resolves it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.needs import DEBIAN_PYTHON
from tests.wheels import ROOT, built_wheel

pytestmark = [pytest.mark.needs("debian-python"), pytest.mark.timeout(900)]

ROLES = {"device-cpu": "device", "edge-cpu": "edge", "twin": "twin_service"}  # extra -> package that is started

LEARNS = "twin_service.learning.training"
"""The one module that needs torch; a twin without it serves and does not learn."""

SHARE_A_STORE = tuple(
    f"twin_service.store.{name}" for name in ("link", "postgres", "postgres_session", "postgres_tables")
)
"""Modules of the extra ``postgres``, imported once that store is asked for."""

_IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__") and module.name not in sys.argv[2:]:
        importlib.import_module(module.name)
"""


@dataclass(frozen=True)
class Installed:
    """One role's environment and the once empty folder that it is used from; the extra is "" for none."""

    extra: str
    environment: Path
    folder: Path

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """One of the environment's programs, run in the folder; its failure is the test's."""
        done = self.ended(*command)
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done

    def ended(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """The same, however it ends."""
        program, *arguments = command
        return subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("dist"))


@contextmanager
def _installed(wheel: Path, extra: str, folder: Path) -> Iterator[Installed]:
    environment = folder.with_name(f"{folder.name}-environment")
    subprocess.run([DEBIAN_PYTHON, "-m", "venv", "--without-pip", str(environment)], check=True)
    shutil.copy(ROOT / "constraints.txt", folder)
    shutil.copy(wheel, folder)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin/python"),
        "install",
        "--quiet",
        "--no-compile",
    ]
    command += [f"{wheel.name}[{extra}]" if extra else wheel.name, "--constraint", "constraints.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pip failed, or no package index answers:\n{done.stderr}"
    yield Installed(extra, environment, folder)
    shutil.rmtree(environment)


@pytest.fixture(scope="module", params=ROLES)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    with _installed(wheel, request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture(scope="module")
def without_extra(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with _installed(wheel, "", tmp_path_factory.mktemp("base")) as found:
        yield found


def test_the_command_tells_its_version(installed: Installed, wheel: Path) -> None:
    assert wheel.name.split("-")[1] in installed.run("twinsplit", "--version").stdout


def test_the_service_starts_as_a_module(installed: Installed) -> None:
    assert "Usage" in installed.run("python", "-m", ROLES[installed.extra], "--help").stdout


def test_every_module_of_the_role_finds_what_it_imports(installed: Installed) -> None:
    installed.run("python", "-c", _IMPORT_ALL, ROLES[installed.extra], LEARNS, *SHARE_A_STORE)


def test_neither_torch_nor_onnx_nor_test_tools_come_along(installed: Installed) -> None:
    report = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(installed.environment / "bin/python"), "list", "--format=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {each["name"].lower() for each in json.loads(report.stdout)}
    assert {"twinsplit", "grpcio"} <= names
    assert not names & {"torch", "onnx", "pytest", "matplotlib"}
    assert ("onnxruntime" in names) == (installed.extra != "twin")
    assert names & {"rich", "starlette"} == ({"rich", "starlette"} if installed.extra == "twin" else set())


def test_the_doctor_speaks_wherever_twinsplit_is_installed(installed: Installed) -> None:
    done = installed.ended("twinsplit", "doctor", "--json")
    bad = [each["check"] for each in json.loads(done.stdout)["findings"] if each["verdict"] == "bad"]
    assert bad == (["onnxruntime"] if installed.extra == "twin" else []), done.stdout
    assert (done.returncode, done.stderr) == (1 if bad else 0, "")


def test_a_command_of_the_checkout_says_that_it_needs_one(installed: Installed) -> None:
    done = installed.ended("twinsplit", "demo")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "checkout" in done.stderr


def test_without_an_extra_the_command_lists_its_nouns(without_extra: Installed) -> None:
    assert "Run a device" in without_extra.run("twinsplit", "--help").stdout


@pytest.mark.parametrize(
    ("command", "noun", "extra"),
    [
        (("twinsplit", "device", "run", "--model", "models", "--source", "frames:."), "device", "device-cpu"),
        (("python", "-m", "edge", "--models", "models"), "edge", "edge-cpu"),
    ],
)
def test_without_an_extra_a_service_says_in_a_line_that_it_needs_onnx_runtime(
    without_extra: Installed, command: tuple[str, ...], noun: str, extra: str
) -> None:
    done = without_extra.ended(*command)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"twinsplit: `twinsplit {noun}` needs the package onnxruntime, which is not installed; "
        f"pip install 'twinsplit[{extra}]', or the ONNX Runtime wheel made for this machine\n",
    )
