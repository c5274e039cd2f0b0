"""The wheel installed for each role into a fresh environment of Debian's Python, from an empty folder away from the
checkout."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    """One role's environment and the once empty folder that it is used from."""

    extra: str
    environment: Path
    folder: Path

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """One of the environment's programs, run in the folder; its failure is the test's."""
        program, *arguments = command
        done = subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", params=ROLES)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp(request.param)
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
    command += [f"{wheel.name}[{request.param}]", "--constraint", "constraints.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pip failed, or no package index answers:\n{done.stderr}"
    yield Installed(request.param, environment, folder)
    shutil.rmtree(environment)


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
    program = str(installed.environment / "bin/twinsplit")
    done = subprocess.run(
        [program, "doctor", "--json"], cwd=installed.folder, capture_output=True, text=True, check=False
    )
    bad = [each["check"] for each in json.loads(done.stdout)["findings"] if each["verdict"] == "bad"]
    assert bad == (["onnxruntime"] if installed.extra == "twin" else []), done.stdout
    assert (done.returncode, done.stderr) == (1 if bad else 0, "")


def test_a_command_of_the_checkout_says_that_it_needs_one(installed: Installed) -> None:
    program = str(installed.environment / "bin/twinsplit")
    done = subprocess.run([program, "demo"], cwd=installed.folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "checkout" in done.stderr
