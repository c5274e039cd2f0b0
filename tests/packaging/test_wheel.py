"""The wheel: what it asks for, what it holds, what it leaves out."""

import subprocess
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("twinsplit", "device", "edge", "twin_service")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _asked_by(metadata: Message, extra: str) -> set[str]:
    """What ``extra`` brings beyond the base; the base itself for the empty name."""
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    if not extra:
        return {canonicalize_name(each.name) for each in requirements if "extra" not in str(each.marker or "")}
    own = {
        canonicalize_name(each.name) for each in requirements if each.marker and each.marker.evaluate({"extra": extra})
    }
    return own - _asked_by(metadata, "")


def test_the_base_is_what_every_service_needs(metadata: Message) -> None:
    base = _asked_by(metadata, "")
    assert {"grpcio", "protobuf", "psutil", "prometheus-client"} <= base
    assert not base & {"onnxruntime", "onnxruntime-gpu", "onnx", "torch"}


@pytest.mark.parametrize(
    ("extra", "runtime"),
    [
        ("device-cpu", {"onnxruntime"}),
        ("edge-cpu", {"onnxruntime"}),
        ("edge-gpu", {"nvidia-ml-py", "onnxruntime-gpu"}),
        ("twin", {"cryptography", "rich", "starlette", "uvicorn"}),
    ],
)
def test_a_role_adds_what_it_runs_on_and_nothing_else(metadata: Message, extra: str, runtime: set[str]) -> None:
    assert _asked_by(metadata, extra) == runtime


def test_the_console_comes_with_its_page(files: set[str], root: Path) -> None:
    page = root / "twin_service/console/page"
    needed = {str(path.relative_to(root)) for path in page.rglob("*") if path.is_file()}
    assert "twin_service/console/page/index.html" in needed
    assert needed <= files


def test_torch_comes_with_learn_and_model_only(metadata: Message) -> None:
    extras = metadata.get_all("Provides-Extra", [])
    assert {extra for extra in extras if "torch" in _asked_by(metadata, extra)} == {"learn", "model"}


def test_the_metadata_says_licence_python_and_version(metadata: Message) -> None:
    from twinsplit import __version__

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Version"] == __version__


def test_every_tracked_file_of_the_four_packages_is_in_the_wheel(root: Path, files: set[str]) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=root, check=True, capture_output=True, text=True)
    expected = {name for name in tracked.stdout.split("\0") if name and (root / name).exists()}
    assert {"twinsplit/py.typed", "twinsplit/rpc/v1/device_pb2.py", "twinsplit/rpc/v1/device_pb2.pyi"} <= expected
    assert expected - files == set()


def test_the_consoles_page_is_in_the_wheel_with_the_licence_of_its_charts(files: set[str]) -> None:
    page = "twin_service/console/page"
    expected = ("index.html", "js/main.js", "css/layout.css", "vendor/uPlot.iife.min.js", "vendor/uPlot-LICENSE")
    assert {f"{page}/{name}" for name in expected} <= files


def test_nothing_but_the_four_packages_is_in_the_wheel(files: set[str]) -> None:
    tops = {PurePosixPath(name).parts[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in files if name.endswith((".pyc", ".onnx", ".jpg"))]
