"""Generated code and the runtimes it may meet."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from twinsplit.rpc.v1 import device_pb2_grpc

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


def _lowest_allowed(root: Path, package: str) -> str:
    with (root / "pyproject.toml").open("rb") as file:
        requirements = map(Requirement, tomllib.load(file)["project"]["dependencies"])
    (specifier,) = (each.specifier for each in requirements if each.name == package)
    (lowest,) = (each.version for each in specifier if each.operator == ">=")
    return lowest


def test_the_oldest_allowed_grpcio_runs_the_generated_code(root: Path) -> None:
    assert _lowest_allowed(root, "grpcio") == device_pb2_grpc.GRPC_GENERATED_VERSION


@pytest.mark.parametrize(
    "name", [*(f"rpc/v1/{name}" for name in ("device", "edge", "errors", "tensor", "twin")), "oip/v2/inference"]
)
def test_the_oldest_allowed_protobuf_runs_the_generated_code(root: Path, name: str) -> None:
    text = (root / f"twinsplit/{name}_pb2.py").read_text()
    (version,) = re.findall(r"^# Protobuf Python Version: (.+)$", text, re.MULTILINE)
    assert _lowest_allowed(root, "protobuf") == version


def test_no_package_marker_lies_under_proto(root: Path) -> None:
    assert list((root / "proto").rglob("*.proto"))
    assert list((root / "proto").rglob("__init__.py")) == []
