"""Ports for the processes of a run, which other runs beside it draw, too."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.testbed import process

DRAW = """
from benchmarks.testbed import process
from tests.integration.test_ports import Dice
process._DRAW = Dice({ports})
print(*process.free_ports(1))
"""


class Dice:
    """They fall as they were told at first."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = iter(ports)

    def randrange(self, first: int, last: int) -> int:
        return next(self._ports, random.SystemRandom().randrange(first, last))


@pytest.mark.slow
def test_a_port_that_was_given_away_is_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = process.free_ports(2)
    monkeypatch.setattr(process, "_DRAW", Dice(ports))
    (here,) = process.free_ports(1)
    assert here not in ports
    command = [sys.executable, "-c", DRAW.format(ports=[*ports, here])]
    root = Path(__file__).resolve().parents[2]
    there = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert int(there.stdout) not in (*ports, here)
