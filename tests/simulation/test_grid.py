"""``sim grid`` and ``sim foresight`` from end to end, with tiny cells."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.sim_cli import sim
from benchmarks.simulator import grid
from tests.simulation.worlds import scenario_of

RULES = ("one-time", "one-time-threshold-best", "open-loop", "learned", "clairvoyant")
"""Those that claims are about."""


@pytest.mark.slow
def test_the_grid_writes_every_cell_and_what_is_claimed_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"load_share": 0.5, "uplink_bytes_per_s": 20_000.0, "tasks": 40, "warm_up_tasks": 5}
    cells = [(name, scenario_of(**tiny, task_rate_per_s=rate)) for name, rate in (("calm", 2.0), ("busy", 5.0))]
    monkeypatch.setattr(grid, "grid_cells", lambda *, is_quick: cells if is_quick else [])
    monkeypatch.setattr(grid, "run_grid", partial(grid.run_grid, names=RULES))
    path = tmp_path / "grid.json"
    arguments = ["grid", "--quick", "--seeds", "1", "--workers", "1", "--json", str(path)]
    result = CliRunner().invoke(sim, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())

    assert set(found) == {"provenance", "claims", "cells"}
    assert found["provenance"]["seeds"] == [1]
    assert [cell["name"] for cell in found["cells"]] == ["calm", "busy"], "in the order of the grid"
    for cell in found["cells"]:
        assert set(cell) == {
            "name",
            "scenario",
            "rules",
            "tasks_per_second",
            "learned_over_open_loop",
            "learned_over_one_time_threshold_best",
        }
        assert set(cell["rules"]) == set(RULES)
        assert cell["rules"]["one-time"]["cost_ratio_to_one_time"] == 1.0
    gains = [1.0 - cell["rules"]["learned"]["cost_ratio_to_one_time"] for cell in found["cells"]]
    assert found["claims"]["gain_over_one_time_least"]["found"] == pytest.approx(min(gains))
    assert found["claims"] == grid.claims(found["cells"])
    for name, claim in found["claims"].items():
        assert f"{name}: {claim['found']:.4g} " in result.output
        assert ("MISSED" in next(line for line in result.output.splitlines() if line.startswith(name))) != claim[
            "is_met"
        ]
    assert result.output.splitlines()[-1] == f"Took {found['provenance']['took_s']} s."


@pytest.mark.slow
def test_foresight_tells_what_blindness_to_each_kind_closes_of_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = scenario_of(load_share=0.7, uplink_bytes_per_s=20_000.0, tasks=200, warm_up_tasks=5, task_rate_per_s=4.0)
    monkeypatch.setattr(grid, "foresight_cells", lambda *, is_quick: [("tiny", tiny)] if is_quick else [])
    path = tmp_path / "foresight.json"
    arguments = ["foresight", "--quick", "--seeds", "2", "--workers", "1", "--json", str(path)]
    result = CliRunner().invoke(sim, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (cell,) = json.loads(path.read_text())["cells"]

    assert list(cell["rules"]) == list(grid.FORESIGHT_RULES)
    closed = {rule: figures["gap_closed"] for rule, figures in cell["rules"].items()}
    assert closed["clairvoyant"] == 1.0
    assert closed["blind"] < closed["blind-to-load"] < 1.0
    assert f"blind {closed['blind']:.3f}, clairvoyant 1.000" in result.output
