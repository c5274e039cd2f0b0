"""One wheel, built once per run."""

from pathlib import Path

import pytest

from tests.wheels import ROOT, built_wheel


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` builds."""
    return built_wheel(tmp_path_factory.mktemp("dist"))
