"""``bench testbed``: order of rules, and the document over seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from benchmarks.comparative import document, ordered, seed_lines
from benchmarks.comparison import Comparison, planned_runs
from benchmarks.scenario import changed_scenario
from benchmarks.testbed.scenarios import DEMO, DEMO_RULES
from benchmarks.verdict import failures
from tests.unit.benchmarks.made_up_runs import result

OWN = """
from twin_service.decision.own import OwnRule
class Mine(OwnRule):
    name = "mine"
"""


def comparison(seed: int, one_time_s: float, multi_step_s: float) -> Comparison:
    results = (result("one-time", [one_time_s] * 4), result("multi-step", [multi_step_s] * 4))
    return Comparison(changed_scenario(DEMO, seed=seed), SimpleNamespace(), results)


def test_rules_run_in_an_order_of_each_seeds_own() -> None:
    orders = [ordered(DEMO_RULES, seed) for seed in range(20)]
    assert all(sorted(order) == sorted(DEMO_RULES) for order in orders)
    assert len({tuple(order) for order in orders}) > 8
    assert ordered(DEMO_RULES, 3) == ordered(DEMO_RULES, 3)


def test_the_document_has_every_rule_over_all_seeds_and_what_only_processes_have() -> None:
    found = document([comparison(1, 0.4, 0.2), comparison(2, 0.6, 0.3)], DEMO, {"seeds": [1, 2]})
    assert found.keys() == {"provenance", "scenario", "rules", "tasks_per_second"}
    assert found["tasks_per_second"] is None
    assert list(found["rules"]) == ["one-time", "multi-step"]
    figures = found["rules"]["multi-step"]
    assert 0.0 < figures["cost_ratio_to_one_time"] < 1.0
    assert figures["gap_closed"] is None
    assert figures["testbed"]["by_seed"].keys() == {"1", "2"}
    assert found["scenario"]["model"] == "alexnet-fashion/1", "no path of this machine"


def test_a_rule_that_failed_is_named_in_words_and_in_the_document() -> None:
    failed = replace(result("mine", [0.1] * 4), rule_failures=3, last_rule_failure="rule 'mine' at epoch 0: raised")
    runs = Comparison(DEMO, SimpleNamespace(), (failed, result("one-time", [0.2] * 4)))
    (line,) = failures(runs.results)
    assert line.startswith("mine: the rule failed 3 times, and the plans that stood were kept; ")
    assert line.endswith("rule 'mine' at epoch 0: raised")
    found = {name: rule["testbed"] for name, rule in document([runs], DEMO, {})["rules"].items()}
    assert [found[name]["rule_failures"] for name in ("mine", "one-time")] == [3, 0]
    assert found["mine"]["by_seed"]["1"]["last_rule_failure"] == failed.last_rule_failure


def test_the_last_lines_say_how_often_the_product_cost_least() -> None:
    lines = seed_lines([comparison(1, 0.4, 0.2), comparison(2, 0.3, 0.6)])
    assert lines[0] == "Over 2 seeds:"
    assert lines[-1] == "multi-step cost least on 1 of 2 seeds."


def test_a_rule_of_ones_own_is_found_from_the_services_folder_and_called_by_its_name(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    (run,) = planned_runs(DEMO, ["mine.py:Mine"], None)
    assert run.rule == f"{tmp_path}/mine.py:Mine"
