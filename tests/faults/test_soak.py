"""Two minutes of random faults; ``make soak`` runs it for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.soak import DEVICES, EDGES, soak

SECONDS = 120.0
SEED = 1


def _say(fault: str) -> None:
    """Shown where the test fails."""
    sys.stderr.write(f"{fault}\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_minutes_of_random_faults_lose_nothing_double_nothing_and_grow_nothing(tmp_path: Path) -> None:
    result = soak(tmp_path, SECONDS, SEED, _say)
    assert result.problems == ()
    assert sum(result.faults.values()) >= 8
    # All but the one device and the one edge that are killed.
    assert len(result.growth) >= DEVICES + EDGES - 1
    assert sum(result.outcomes.values()) + result.broken + result.untaken == result.submitted
