"""What system tests need beyond pip: every need with its probe and the Debian packages that bring it.

`python tests/system/needs.py` prints the packages that are missing, one a line, for CI. Standard library only.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEBIAN_PYTHON = "/usr/bin/python3"
_LONGEST_S = 120.0
"""A program that answers no sooner, such as one that asks a dead engine, is not there."""
ARM64_PYTHON_IMAGE = "arm64v8/python:3.11-slim"
"""The official image under the name that it has for 64-bit ARM alone."""


@dataclass(frozen=True)
class Need:
    """One thing a machine must have; ``packages`` bring it, or ``cure`` says in words how to get it.

    What ``is_optional`` is not asked of every machine: where it is missing its tests are left out, and say so.
    """

    is_met: Callable[[], bool]
    packages: tuple[str, ...] = ()
    cure: str = ""
    is_optional: bool = False


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _has_glibc_2_34() -> bool:
    library, version = platform.libc_ver()
    return library == "glibc" and tuple(map(int, version.split("."))) >= (2, 34)


def postgres_programs() -> Path:
    """Folder of the newest PostgreSQL server's programs; Debian puts them on nobody's PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=Path("/usr/lib/postgresql/none/bin/initdb"))
    return newest.parent


NEEDS: dict[str, Need] = {
    "root": Need(lambda: os.geteuid() == 0, cure="run as root"),
    "debian-python": Need(
        lambda: _runs(DEBIAN_PYTHON, "-c", "import venv; from ensurepip import version"), ("python3", "python3-venv")
    ),
    "curl": Need(lambda: _runs("curl", "--version"), ("curl",)),
    "git": Need(lambda: _runs("git", "--version"), ("git",)),
    "chromium": Need(
        lambda: _runs("chromium", "--version") and _runs("chromedriver", "--version"), ("chromium", "chromium-driver")
    ),
    "glibc-2.34": Need(_has_glibc_2_34, cure="run on Linux with glibc 2.34 or newer (Debian 12, Ubuntu 22.04)"),
    "promtool": Need(lambda: _runs("promtool", "--version") and _runs("prometheus", "--version"), ("prometheus",)),
    "docker": Need(
        lambda: _runs("docker", "version"), cure="start a Docker engine that this user may use", is_optional=True
    ),
    "docker-compose": Need(
        lambda: _runs("docker", "compose", "version"), cure="install Docker's compose plugin", is_optional=True
    ),
    "arm64-emulation": Need(
        lambda: _runs(
            *("docker", "run", "--rm", "--pull=never", "--platform=linux/arm64", ARM64_PYTHON_IMAGE),
            *("python3", "--version"),
        ),
        cure="docker run --privileged --rm tonistiigi/binfmt --install arm64 (QEMU 8 or newer); "
        f"docker pull {ARM64_PYTHON_IMAGE}",
        is_optional=True,
    ),
    "kubectl": Need(
        lambda: _runs("kubectl", "kustomize", "--help"),
        cure="install Kubernetes' kubectl, 1.27 or newer (kustomize 5)",
        is_optional=True,
    ),
    "postgresql": Need(lambda: _runs(str(postgres_programs() / "initdb"), "--version"), ("postgresql",)),
    "iproute2": Need(lambda: _runs("ip", "-Version"), ("iproute2",)),
    "network-namespaces": Need(
        lambda: _runs("unshare", "--net", "true"),
        cure="run as root outside of a container that forbids network namespaces",
        is_optional=True,
    ),
    "systemd-analyze": Need(lambda: _runs("systemd-analyze", "--version"), ("systemd",)),
}


def missing_needs(names: Iterable[str], needs: Mapping[str, Need] = NEEDS) -> list[str]:
    """Those of ``names`` that this machine does not meet, each once, in the order of ``needs``."""
    wanted = set(names)
    return [name for name, need in needs.items() if name in wanted and not need.is_met()]


def cures(missing: Iterable[str], needs: Mapping[str, Need] = NEEDS) -> list[str]:
    """Lines that say how to meet ``missing``: the one apt line first, then what no package brings."""
    missing = list(missing)
    packages = list(dict.fromkeys(package for name in missing for package in needs[name].packages))
    lines = [f"sudo apt install {' '.join(packages)}"] if packages else []
    return lines + [f"{name}: {needs[name].cure}" for name in missing if needs[name].cure]


if __name__ == "__main__":
    for missing_name in missing_needs(NEEDS):
        for package in NEEDS[missing_name].packages:
            print(package)
