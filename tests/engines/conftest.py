"""Real servers for a module's tests, started once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.engines.mlserver import running_mlserver
from benchmarks.engines.server import EngineServer
from benchmarks.engines.triton import running_triton
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from twinsplit.model.export.tails import export_tails
from twinsplit.model.export.triton import TritonSettings, export_triton


@pytest.fixture(scope="session")
def model() -> Path:
    return SHIPPED_MODEL


@pytest.fixture(scope="session")
def repository(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``twinsplit model export --to triton`` writes: segments, and an ensemble for each cut."""
    folder = tmp_path_factory.mktemp("repository")
    export_triton(model, folder, TritonSettings(backend="python", kind="cpu"))
    return folder


@pytest.fixture(scope="session")
def tails(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``twinsplit model export --to tails`` writes."""
    folder = tmp_path_factory.mktemp("tails")
    export_tails(model, folder)
    return folder


@pytest.fixture(scope="module")
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def triton(servers: ExitStack, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineServer:
    return servers.enter_context(running_triton(repository, tmp_path_factory.mktemp("triton")))


@pytest.fixture(scope="module")
def mlserver(servers: ExitStack, tails: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineServer:
    return servers.enter_context(running_mlserver(tails, tmp_path_factory.mktemp("mlserver")))
