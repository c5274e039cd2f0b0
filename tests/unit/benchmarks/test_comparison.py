from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.comparison import Comparison, expected_s, planned_runs, rule_document
from benchmarks.demo import announcement, emulation
from benchmarks.scenario import changed_scenario
from benchmarks.testbed.scenarios import DEMO, DEMO_RULES
from tests.unit.benchmarks.made_up_runs import result
from twinsplit.errors import SettingsError


def comparison(*results: Any) -> Comparison:
    return Comparison(DEMO, SimpleNamespace(), results)


def test_runs_differ_in_the_rule_alone_and_the_polled_one_comes_last() -> None:
    runs = planned_runs(DEMO, DEMO_RULES, "multi-step")
    assert [(run.rule, run.is_polled) for run in runs] == [
        *((rule, False) for rule in DEMO_RULES),
        ("multi-step", True),
    ]
    assert len({run.model_dump_json(exclude={"rule", "is_polled"}) for run in runs}) == 1


@pytest.mark.parametrize("rules", [["always"], [], ["one-time", "one-time"], ["static:x"]])
def test_rules_that_cannot_be_run_are_refused_at_once(rules: list[str]) -> None:
    with pytest.raises(SettingsError):
        planned_runs(DEMO, rules, None)


def test_the_demo_says_first_how_long_it_takes() -> None:
    runs = planned_runs(DEMO, DEMO_RULES, "multi-step")
    text = announcement(runs, "multi-step")
    assert text.startswith("4 rules for 15 s each and multi-step once more")
    assert f"{expected_s(runs) // 60:.0f} min" in text
    assert announcement(runs[:1], None).startswith("1 rule for 15 s each: about 25 s")


def test_everything_emulated_is_called_so() -> None:
    scenario = changed_scenario(DEMO, device_whole_s=0.3, edge_slowdown=2.0, uplink_bytes_per_s=70_000.0)
    text = emulation(scenario)
    assert text.startswith("Emulated on this one machine")
    assert all(word in text for word in ("300 ms for the whole network", "70 kB/s", "2 times this", "other users"))
    bare = changed_scenario(DEMO, device_whole_s=None, edge_whole_s=None, uplink_bytes_per_s=None, load_share=0.0)
    assert emulation(bare).startswith("Nothing is emulated")


def test_a_rule_has_its_own_polled_messages_and_no_others() -> None:
    found = comparison(
        result("one-time", [0.1, 0.2], messages=4),
        result("multi-step", [0.1, 0.2], messages=5),
        result("multi-step", [0.1, 0.2], messages=20, is_polled=True),
    )
    documents = [rule_document(found, each) for each in found.results]
    assert [document["messages_per_task"] for document in documents[:2]] == [2.0, 2.5]
    assert [document["polled_messages_per_task"] for document in documents[:2]] == [None, 10.0]
