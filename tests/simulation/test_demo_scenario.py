"""What the demo shows, by the decision code as it is now; stored runs of real processes are read elsewhere."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.simulator.running import compare
from benchmarks.testbed.scenarios import DEMO

RULES = ("device-only", "edge-only", "one-time", "open-loop")
"""multi-step is open-loop until it has learnt."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_deciding_at_every_step_costs_least(seed: int) -> None:
    (found,) = compare([changed_scenario(DEMO, seconds=60.0)], RULES, [seed], workers=1)
    costs_s = {name: statistics.fmean(run.cost_s for run in found.runs[name]) for name in RULES}
    assert min(costs_s, key=lambda name: costs_s[name]) == "open-loop", costs_s
    assert costs_s["open-loop"] < 0.9 * costs_s["one-time"], costs_s
