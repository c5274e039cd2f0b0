from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.comparison import planned_runs
from benchmarks.sim_cli import sim
from benchmarks.simulator.documents import rules_named
from benchmarks.simulator.frontier import variants_named, variants_of
from benchmarks.simulator.mirror_errors import FIELDS
from benchmarks.testbed.scenarios import DEMO
from twinsplit.errors import SettingsError

SCENARIO = """
task_rate_per_s: 4
device_whole_s: 0.2
edge_whole_s: 0.02
uplink_bytes_per_s: 30_000
load_share: 0.5
tasks: 40
warm_up_tasks: 10
warm_up_s: 1
"""
FIGURES = {
    "cost_s",
    "cost_ci_s",
    "cost_ratio_to_one_time",
    "cost_ratio_ci",
    "latency_mean_s",
    "latency_p95_s",
    "share_answered",
    "accuracy",
    "energy_joules",
    "messages_per_task",
    "stops",
    "gap_closed",
}


def invoke(folder: Path, *arguments: str) -> Result:
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO)
    return CliRunner().invoke(sim, ["run", str(path), "--workers", "1", *arguments])


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    result = invoke(folder, "--json", str(folder / "found.json"), *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.slow
def test_a_run_writes_the_figures_of_every_rule_and_of_one_time(tmp_path: Path) -> None:
    found = run(tmp_path, "--rules", "device-only,threshold-static:2,0.9", "--seeds", "2")
    assert set(found) == {"provenance", "scenario", "rules", "tasks_per_second"}
    assert found["provenance"]["seeds"] == [1, 2]
    assert found["scenario"]["tasks"] == 40
    assert list(found["rules"]) == ["one-time", "device-only", "threshold-static:2,0.9"]
    for figures in found["rules"].values():
        assert set(figures) >= FIGURES
        assert figures["messages_per_task"] is None
        assert figures["cost_ci_s"][0] <= figures["cost_s"] <= figures["cost_ci_s"][1]
        assert sum(figures["stops"].values()) == pytest.approx(1.0)
    assert found["rules"]["one-time"]["cost_ratio_to_one_time"] == 1.0
    assert found["rules"]["device-only"]["gap_closed"] is None
    assert found["tasks_per_second"] > 0


@pytest.mark.slow
def test_every_task_in_the_books_is_a_line_of_the_csv(tmp_path: Path) -> None:
    found = run(tmp_path, "--rules", "one-time", "--seeds", "1", "--tasks", str(tmp_path / "tasks.csv"))
    with (tmp_path / "tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["task"]) for row in rows] == list(range(11, 41))
    mean_s = sum(float(row["cost_s"]) for row in rows) / len(rows)
    assert mean_s == pytest.approx(found["rules"]["one-time"]["cost_s"])


@pytest.mark.slow
def test_a_rule_of_ones_own_has_one_name_in_both_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from twin_service.decision.own import OwnRule\n"
        "from twinsplit.types import Decision\n"
        "class Mine(OwnRule):\n"
        "    name = 'mine'\n"
        "    def decide(self, cell):\n"
        "        return Decision.CONTINUE\n"
    )
    path = tmp_path / "tasks.csv"
    found = run(tmp_path, "--rules", f"{tmp_path}/mine.py:Mine", "--seeds", "1", "--tasks", str(path))
    with path.open(newline="") as file:
        named = {row["rule"] for row in csv.DictReader(file)}
    assert named == set(found["rules"]) == {"one-time", "mine"}


@pytest.mark.slow
def test_a_rule_that_is_tuned_says_to_what(tmp_path: Path) -> None:
    found = run(tmp_path, "--rules", "static-best", "--seeds", "1")
    assert found["rules"]["static-best"]["tuned_to"].startswith("static:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rules", "no-such-rule"], "no-such-rule"),
        (["--rules", "one-time,one-time"], "each once"),
        (["--rules", ","], "at least one"),
        (["--rules", "one-time", "--set", "wishes=2"], "no such setting"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = invoke(tmp_path, *arguments)
    assert isinstance(result.exception, SettingsError)
    assert said in str(result.exception)


RULES = """
from twin_service.decision.own import OwnRule
class Mine(OwnRule):
    name = "mine"
class Alike(OwnRule):
    name = "mine"
class Seer(OwnRule):
    name = "clairvoyant"
"""


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("Mine", "Alike"), r"mine\.py:Mine and .*mine\.py:Alike are both called 'mine'; give one another `name`"),
        (("Seer",), "'clairvoyant' is the name of a built-in rule; give it another name"),
    ],
)
def test_rules_that_results_could_not_tell_apart_are_refused(
    tmp_path: Path, classes: tuple[str, ...], said: str
) -> None:
    (tmp_path / "mine.py").write_text(RULES)
    rules = [f"{tmp_path}/mine.py:{name}" for name in classes]
    with pytest.raises(SettingsError, match=said):
        rules_named(",".join(rules))
    with pytest.raises(SettingsError, match=said):
        planned_runs(DEMO, rules, None)
    with pytest.raises(SettingsError, match=said):
        planned_runs(DEMO, ["one-time", *rules[:-1]], rules[-1])


@pytest.mark.slow
def test_signalling_is_compared_with_exact_state(tmp_path: Path) -> None:
    path, found_path = tmp_path / "scenario.yaml", tmp_path / "found.json"
    path.write_text(SCENARIO)
    arguments = ["signalling", str(path), "--quick", "--seeds", "2", "--workers", "1", "--json", str(found_path)]
    result = CliRunner().invoke(sim, arguments)
    assert result.exit_code == 0, result.output
    assert "12 of 12 runs after" in result.stderr
    variants = {variant["name"]: variant for variant in json.loads(found_path.read_text())["variants"]}
    assert list(variants)[:3] == ["exact state", "plans", "polled"]
    assert variants["exact state"]["messages_per_task"] == 0
    assert variants["exact state"]["cost_ratio_to_exact"] == 1.0
    assert 0 < variants["plans"]["messages_per_task"] < variants["polled"]["messages_per_task"]
    assert {"backlog_s", "busy", "device_backlog_s", "epoch", "queue_length"} < set(variants["plans"]["errors"])
    assert set(variants["plans"]["errors"]) <= set(FIELDS)
    assert variants["plans"]["bytes_per_task"] > 20 * variants["plans"]["messages_per_task"]


def test_variants_are_chosen_by_name() -> None:
    variants = variants_of(is_quick=True)
    assert [variant.name for variant in variants_named(variants, "periodic 1 s, plans")] == ["periodic, 1 s", "plans"]
    with pytest.raises(SettingsError, match="--only: there is no 'plan'; there are plans, polled"):
        variants_named(variants, "polled,plan")
