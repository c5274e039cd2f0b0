"""Versions: is what is installed what twinsplit was made for, and only once?"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from device.doctor.finding import Check, Finding, bad, ok
from twinsplit import __version__

OLDEST_PYTHON = (3, 10)
ONNXRUNTIME_WHEELS = (
    "onnxruntime",
    *(
        f"onnxruntime-{build}"
        for build in ("cann", "directml", "gpu", "migraphx", "openvino", "qnn", "rocm", "training")
    ),
)
"""Distributions that bring the module ``onnxruntime``."""
_MINIMUM = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")
"""A requirement of every role: those of extras, or of some Pythons only, have a marker."""
_REINSTALL = "python -m pip install --force-reinstall twinsplit"


def version_findings() -> Iterator[Finding]:
    """Python, twinsplit, grpcio, ONNX Runtime."""
    yield _python(sys.version_info[:2])
    yield _twinsplit()
    yield _grpcio()
    yield _onnxruntime()


def _python(version: tuple[int, ...]) -> Finding:
    text = f"{platform.python_version()} ({platform.machine()})"
    if version < OLDEST_PYTHON:
        return bad(Check.PYTHON, text, "make the environment anew with Python 3.10 or newer")
    return ok(Check.PYTHON, text)


def _twinsplit() -> Finding:
    installed = _installed("twinsplit")
    if installed != __version__:
        return bad(
            Check.TWINSPLIT,
            f"the code is {__version__}, the installed package {installed or 'none'}",
            f"there are two copies; leave the folder that holds the other one, or {_REINSTALL}",
        )
    unmet = list(_unmet())
    if unmet:
        return bad(Check.TWINSPLIT, f"{__version__} needs {', '.join(unmet)}", _REINSTALL)
    return ok(Check.TWINSPLIT, __version__)


def _grpcio() -> Finding:
    installed = _installed("grpcio")
    if installed is None:
        return bad(Check.GRPCIO, "not installed", _REINSTALL)
    needed = _minima().get("grpcio", "0")
    if _number(installed) < _number(needed):
        return bad(Check.GRPCIO, f"{installed} is older than {needed}", f"python -m pip install 'grpcio>={needed}'")
    return ok(Check.GRPCIO, installed)


def _onnxruntime() -> Finding:
    # Each wheel brings the same module: the one that was unpacked last is what runs, whatever pip says.
    names = [name for name in ONNXRUNTIME_WHEELS if _installed(name) is not None]
    found = ", ".join(f"{name} {_installed(name)}" for name in names)
    if not names:
        return bad(Check.ONNXRUNTIME, "not installed", "python -m pip install 'twinsplit[device-cpu]'")
    if len(names) > 1:
        return bad(
            Check.ONNXRUNTIME,
            f"{found} overwrite each other",
            f"python -m pip uninstall {' '.join(names)}, then install the one for this machine",
        )
    try:
        import onnxruntime
    except Exception as error:  # noqa: BLE001 - a broken build fails in many ways, and all of them are to be told
        return bad(
            Check.ONNXRUNTIME,
            f"{found} cannot be imported: {' '.join(str(error).split()) or type(error).__name__}",
            f"python -m pip install --force-reinstall {names[0]}",
        )
    return ok(Check.ONNXRUNTIME, f"{found}, running {onnxruntime.__version__}")


def _unmet() -> Iterator[str]:
    for name, needed in _minima().items():
        installed = _installed(name)
        if name != "grpcio" and (installed is None or _number(installed) < _number(needed)):
            yield f"{name}>={needed}, not {installed or 'none'}"


def _minima() -> dict[str, str]:
    """The oldest version of each package that every role needs."""
    found: dict[str, str] = {}
    for line in metadata.requires("twinsplit") or ():
        match = _MINIMUM.fullmatch(line)
        if match is not None:
            found[match[1]] = match[2]
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
