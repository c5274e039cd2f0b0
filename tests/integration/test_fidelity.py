"""The simulator beside a short run of real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fidelity
from benchmarks.fidelity import BOUNDS, STAGES, run_fidelity
from benchmarks.scenario import changed_scenario
from benchmarks.testbed.scenarios import DEMO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_both_sides_run_the_same_tasks_and_are_laid_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []

    def noted(*arguments: Any) -> Any:
        measured.append(run_real(*arguments))
        return measured[-1]

    run_real = fidelity._run_real
    monkeypatch.setattr(fidelity, "_run_real", noted)
    said: list[str] = []
    scenario = changed_scenario(DEMO, seconds=3.0)
    run_fidelity(scenario, ["edge-only"], [1], tmp_path / "found.json", said.append)
    found = json.loads((tmp_path / "found.json").read_text())
    figures = found["rules"]["edge-only"]
    tasks = len(scenario.arrivals_s())
    assert figures["tasks"] == {"testbed": tasks, "simulator": tasks}
    assert figures["is_within"].keys() == {"share", "median", "p95", "cost", "ks"}
    assert found["bounds"]["median"] == BOUNDS.median
    # What the edge takes for a tail was measured in the run itself.
    stages = figures["stages_mean_s"]
    assert stages.keys() == set(STAGES)
    assert stages["edge_compute"]["simulator"] == pytest.approx(measured[0].job_s, rel=0.1)
    assert stages["edge_compute"]["testbed"] > 0.0
    assert any("edge_compute" in line for line in said)
    assert said[-1] == f"Took {found['provenance']['took_s']} s."
