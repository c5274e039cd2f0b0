"""What an edge with an engine elsewhere is tried with: a small model, its tensors, and servers that are no edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from edge.models import HeldModel, load_models
from tests.integration.edge_engine.other_server import OtherServer
from tests.unit.edge.tiny_model import boundary_tensors, write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.model.runtime import SegmentRuntime


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


@pytest.fixture
async def other(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def second(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()
