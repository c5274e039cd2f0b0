"""Where figures come from: version, commit, command, seeds, machine, digests; kept beside every result."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from twinsplit import __version__
from twinsplit.model.profile import machine_name

_PACKAGES = ("grpcio", "numpy", "onnxruntime", "protobuf", "zstandard", "pillow", "onnx", "torch")
_ROOT = Path(__file__).resolve().parents[1]


def provenance(
    *, seeds: Sequence[int], digests: Mapping[str, str] | None = None, scenario: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a result must say about itself; ``digests`` by name, ``scenario`` as it was run."""
    found: dict[str, Any] = {
        "version": __version__,
        "commit": commit(),
        "command": command(),
        "seeds": list(seeds),
        "machine": machine(),
        "versions": versions(),
        "digests": dict(digests or {}),
        "written_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if scenario is not None:
        found["scenario"] = dict(scenario)
    return found


def ended(about: dict[str, Any]) -> str:
    """Enter into ``about``, made when the run began, how long it took (``took_s``, whole seconds), and say it."""
    took = datetime.now(timezone.utc) - datetime.fromisoformat(about["written_at"])
    about["took_s"] = round(took.total_seconds())
    return f"Took {about['took_s']} s."


def command() -> str:
    """The command line that this process was started with."""
    program, *rest = sys.argv or ["twinsplit"]
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None:  # python -m; of a package the name is that of its __main__
        return shlex.join(["python", "-m", module.name.removesuffix(".__main__"), *rest])
    return shlex.join([Path(program).name, *rest])


def commit(root: Path = _ROOT) -> str:
    """Commit of the checkout, with ``-dirty`` where tracked files were changed other than results, which earlier runs
    write; ``unknown`` outside of git."""

    def said(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return found.stdout.strip()

    try:
        changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results")
        return said("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def shown_commit(recorded: str, digits: int = 12) -> str:
    """What :func:`commit` gave, for a page: short, and whether files were changed."""
    number, _, dirty = recorded.partition("-")
    return number[:digits] + (", changed" if dirty else "")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the load before the run."""
    return {
        "processor": machine_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python and the packages that figures depend on, as far as they are installed."""
    installed = {name: _installed(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | {name: found for name, found in installed.items() if found}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
