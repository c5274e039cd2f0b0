"""constraints.txt names one exact version of everything that any extra brings, and arm64 boards find a wheel of each.

pip looks for wheels of another Python and another machine, but reads environment markers as if for its own; so pip is
only asked for the wheel of every pin, without dependencies, and the walk over the dependencies is done here.
"""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("device-cpu", "edge-cpu", "twin", "postgres", "tracing", "video", "learn", "model", "demo", "dev")
"""edge-gpu has no arm64 wheel."""
CUDA = re.compile(r"(nvidia|cuda)-|triton$")  # of torch's CUDA build: pinned, but gigabytes to look at


@dataclass(frozen=True)
class Target:
    """Linux with glibc 2.28 or newer (Debian 11, Ubuntu 20.04) on one kind of machine."""

    python: str
    machine: str

    @property
    def environment(self) -> dict[str, str]:
        """What environment markers are compared with."""
        own = {name: str(value) for name, value in default_environment().items()}
        own |= {"implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix"}
        own |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": self.machine}
        return own | {"python_version": self.python, "python_full_version": f"{self.python}.9"}

    @property
    def pip_options(self) -> list[str]:
        """Options that make pip look for wheels of this target."""
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in range(28, 16, -1)] + [
            f"manylinux2014_{self.machine}"
        ]
        options = [option for platform in platforms for option in ("--platform", platform)]
        return [*options, "--python-version", self.python, "--implementation", "cp", "--only-binary=:all:"]


ARM64 = (Target("3.10", "aarch64"), Target("3.13", "aarch64"))
"""The oldest and the newest: JetPack 6 has the one, Raspberry Pi OS 13 the other."""
PI_OS_12 = Target("3.11", "aarch64")


def _constraints(target: Target) -> dict[str, str]:
    """The exact version of every package that holds for ``target``."""
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        if pin.marker is None or pin.marker.evaluate(target.environment):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"two versions of {name} for {target}"
            pins[name] = specifier.version
    return pins


def _pip_report(target: Target, pins: Mapping[str, str], folder: Path) -> "subprocess.Popen[str]":
    wanted = folder / "wanted.txt"
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += [
        "--target",
        str(folder / "target"),
        "--report",
        str(folder / "report.json"),
        "--requirement",
        str(wanted),
    ]
    return subprocess.Popen(command + target.pip_options, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Target, dict[str, dict[str, Any]]]:
    """Per target and package the metadata of the wheel that pip finds; both targets are looked up at once."""
    asked = {}
    for target in ARM64:
        pins = {name: version for name, version in _constraints(target).items() if not CUDA.match(name)}
        del pins["onnxruntime-gpu"]
        folder = tmp_path_factory.mktemp(f"python{target.python}")
        asked[target] = folder, _pip_report(target, pins, folder)
    return {target: _wheels(target, folder, process) for target, (folder, process) in asked.items()}


def _wheels(target: Target, folder: Path, process: "subprocess.Popen[str]") -> dict[str, dict[str, Any]]:
    """Metadata by package of what pip has found."""
    _, errors = process.communicate()
    if process.returncode:
        lines = "\n".join(line for line in errors.splitlines() if line.startswith("ERROR"))
        pytest.fail(f"pip finds no wheel for every pin, or no package index answers. {target}:\n{lines or errors}")
    installs = json.loads((folder / "report.json").read_text())["install"]
    return {canonicalize_name(each["metadata"]["name"]): each["metadata"] for each in installs}


def _asked(lines: Iterable[str], target: Target, extras: Iterable[str]) -> list[Requirement]:
    """Those of the requirements ``lines`` that hold for ``target`` with any of ``extras`` or none."""
    requirements = [Requirement(line) for line in lines]
    environments = [target.environment | {"extra": extra} for extra in ("", *extras)]
    return [each for each in requirements if not each.marker or any(each.marker.evaluate(env) for env in environments)]


@pytest.fixture(scope="module")
def own_requirements(wheel: Path) -> list[str]:
    """What the wheel itself asks for, extras as markers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])


def _resolved(
    extra: str, target: Target, wheels: Mapping[str, Mapping[str, Any]], own_requirements: Iterable[str]
) -> set[str]:
    """Names of all packages that ``extra`` brings; each is pinned within everybody's bounds, and its wheel is there."""
    pins = _constraints(target)
    waiting = [(requirement, "twinsplit") for requirement in _asked(own_requirements, target, [extra])]
    seen: set[str] = set()
    names: set[str] = set()
    while waiting:
        requirement, asker = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "twinsplit":
            waiting += [(each, asker) for each in _asked(own_requirements, target, requirement.extras)]
            continue
        assert name in pins, f"{asker} asks for {requirement}, which constraints.txt does not name"
        assert requirement.specifier.contains(pins[name], prereleases=True), (
            f"{asker} asks for {requirement}: {pins[name]}"
        )
        key = str(requirement)
        if key in seen or CUDA.match(name):
            continue
        seen.add(key)
        names.add(name)
        metadata = wheels[name]
        assert SpecifierSet(metadata.get("requires_python", "")).contains(f"{target.python}.9"), (
            f"{name} on {target.python}"
        )
        waiting += [(each, name) for each in _asked(metadata.get("requires_dist", []), target, requirement.extras)]
    return names


@pytest.mark.parametrize("target", ARM64, ids=lambda target: target.python)
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_resolves_on_arm64(
    extra: str, target: Target, found: dict[Target, dict[str, dict[str, Any]]], own_requirements: list[str]
) -> None:
    assert len(_resolved(extra, target, found[target], own_requirements)) > 10


def test_a_device_resolves_on_raspberry_pi_os_12_too(
    found: dict[Target, dict[str, dict[str, Any]]], own_requirements: list[str], tmp_path: Path
) -> None:
    extras = ("device-cpu", "video")
    newest = ARM64[-1]
    names = set().union(*(_resolved(extra, newest, found[newest], own_requirements) for extra in extras))
    pins = {name: version for name, version in _constraints(PI_OS_12).items() if name in names}
    wheels = _wheels(PI_OS_12, tmp_path, _pip_report(PI_OS_12, pins, tmp_path))
    assert {name for extra in extras for name in _resolved(extra, PI_OS_12, wheels, own_requirements)} == names


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_own_requirement_is_pinned_within_its_bounds(
    python: str, machine: str, own_requirements: list[str]
) -> None:
    target = Target(python, machine)
    pins = _constraints(target)
    for requirement in _asked(own_requirements, target, ["edge-gpu", *EXTRAS]):
        if requirement.name != "twinsplit":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
