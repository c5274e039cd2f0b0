"""The rule on the page docs/how-to/own-rule.md, taken from there and run from a folder outside the clone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.sim_cli import sim
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.own_points import OwnPoints
from benchmarks.simulator.world import World
from benchmarks.testbed.scenarios import DEMO
from twin_service.decision.loading import load_rule
from twinsplit.errors import RuleError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "own-rule.md"


MOODY = """
import sys
from twin_service.decision.own import OwnRule
from twinsplit.types import Decision

class Moody(OwnRule):
    name = "moody"
    has_planned = False

    def decide(self, cell):
        return Decision.OFFLOAD_INPUT if Decision.OFFLOAD_INPUT in cell.possible else Decision.CONTINUE

    def exits_run(self, situation):
        if self.has_planned:
            sys.exit("weary")
        self.has_planned = situation.tail_s is not None
"""
"""Its first plan with an edge is its last."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds nothing but the rule."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert 20 <= len([line for line in code.splitlines() if line.strip()]) <= 40
    (tmp_path / "hurried.py").write_text(code)
    assert not tmp_path.is_relative_to(ROOT)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from twinsplit.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def test_it_runs_in_the_simulator_by_table_and_at_exact_points_alike(folder: Path) -> None:
    rule = load_rule(f"{folder}/hurried.py:Hurried")
    scenario = changed_scenario(DEMO, tasks=300)
    exact, by_table = (World(scenario, 1, way).run() for way in (OwnPoints(rule), ByTable(rule)))
    assert exact.rule == by_table.rule == "hurried"
    assert exact.summary.outcomes["exit"] > 0 < exact.summary.outcomes["edge"]
    assert exact.cost_s == pytest.approx(by_table.cost_s, rel=0.02)


def test_it_runs_in_sim_run_beside_the_baseline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    few = ("--set", "tasks=300", "--set", "warm_up_tasks=20", "--seeds", "1", "--workers", "1")
    scenario = str(ROOT / "benchmarks" / "scenarios" / "demo.yaml")
    sim.main(["run", scenario, "--rules", "hurried.py:Hurried", *few, "--json", "found.json"], standalone_mode=False)
    found = json.loads((folder / "found.json").read_text())
    (name,) = found["rules"].keys() - {"one-time"}
    figures = found["rules"][name]
    assert figures["stops"].keys() - {"device"}
    assert 0.0 < figures["cost_ratio_to_one_time"] < 2.0


def test_a_rule_that_fails_ends_the_simulation_with_its_cell_and_cause(folder: Path) -> None:
    text = (folder / "hurried.py").read_text().replace("enough = self.enough", "enough = self.enuogh")
    (folder / "hurried.py").write_text(text)
    rule = load_rule(f"{folder}/hurried.py:Hurried")
    with pytest.raises(RuleError, match=r"rule 'hurried' at epoch 0, no evidence, .*AttributeError.*enuogh"):
        World(changed_scenario(DEMO, tasks=20), 1, OwnPoints(rule)).run()


def test_it_runs_on_real_processes_beside_a_built_in_rule(folder: Path) -> None:
    done = run(folder, "bench", "testbed", "--seconds", "3", "--rules", "hurried.py:Hurried", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    figures = found["rules"]["hurried"]
    assert figures["share_answered"] == 1.0
    assert figures["stops"].keys() - {"device"}, "it runs exits and offloads"
    assert f"Took {found['provenance']['took_s']} s." in done.stdout
    assert str(folder) not in (folder / "found.json").read_text(), "no path of this machine"
    assert DEMO.seconds != found["scenario"]["seconds"] == 3.0


def test_a_rule_that_fails_on_real_processes_is_named_and_the_standing_plan_stays(folder: Path) -> None:
    (folder / "moody.py").write_text(MOODY)
    done = run(folder, "bench", "testbed", "--seconds", "3", "--rules", "moody.py:Moody", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    assert "moody: the rule failed" in done.stdout
    assert "raised SystemExit: weary" in done.stdout
    figures = json.loads((folder / "found.json").read_text())["rules"]["moody"]
    assert figures["testbed"]["rule_failures"] > 0
    assert figures["share_answered"] == 1.0
    assert figures["stops"]["edge, input"] > 0.0, "as in the plan that stands"


def test_a_rule_that_cannot_be_run_is_refused_before_anything_starts(folder: Path) -> None:
    done = run(folder, "bench", "testbed", "--rules", "hurried.py:Patient")
    assert done.returncode == 2
    assert "hurried.py has no class 'Patient'; it defines Hurried" in done.stderr
    assert "Traceback" not in done.stderr
