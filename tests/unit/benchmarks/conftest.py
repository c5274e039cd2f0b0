from __future__ import annotations

import pytest

from tests.unit.decision.situations import manifest_of
from twinsplit.model.manifest import Manifest


@pytest.fixture
def manifest() -> Manifest:
    """Five segments, two exits with four bins each."""
    return manifest_of()
