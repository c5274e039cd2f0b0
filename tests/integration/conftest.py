"""The tiny model as an edge holds it, and what stands at its cuts: for tests that name them and have no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from edge.models import HeldModel, load_models
from tests.unit.edge.tiny_model import boundary_tensors, write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport import limits


@pytest.fixture(autouse=True)
def _patient_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects within this process has the time that it takes on a busy machine."""
    monkeypatch.setattr(limits, "CONNECT_S", 20.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> SegmentRuntime:
    return SegmentRuntime.load(folder)


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, HeldModel]:
    return load_models(folder, clock=SystemClock())


@pytest.fixture(scope="module")
def tensors(runtime: SegmentRuntime) -> list[NDArray[Any]]:
    return boundary_tensors(runtime)
