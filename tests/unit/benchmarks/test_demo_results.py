"""The stored runs of the demo show what README says of them."""

import json
from typing import Any

import pytest

from benchmarks.results import RESULTS_FOLDER

SEEDS = (1, 2, 3)


def rules_of(seed: int) -> dict[str, dict[str, Any]]:
    found = json.loads((RESULTS_FOLDER / f"demo-seed-{seed}.json").read_text(encoding="utf-8"))
    assert found["provenance"]["seeds"] == [seed]
    rules: dict[str, dict[str, Any]] = found["rules"]
    return rules


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_step_costs_least(seed: int) -> None:
    costs_s = {name: rule["cost_s"] for name, rule in rules_of(seed).items()}
    assert set(costs_s) == {"device-only", "edge-only", "one-time", "multi-step"}
    assert min(costs_s, key=lambda name: costs_s[name]) == "multi-step"


@pytest.mark.parametrize("seed", SEEDS)
def test_its_tasks_end_everywhere_and_take_few_messages(seed: int) -> None:
    rule = rules_of(seed)["multi-step"]
    ended = rule["outcomes"] | rule["payloads"]
    assert all(ended[place] > 0 for place in ("exit", "device", "edge", "tensor", "input")), ended
    assert rule["messages_per_task"] <= 3.0 < rule["polled_messages_per_task"]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_has_one_outcome(seed: int) -> None:
    for name, rule in rules_of(seed).items():
        assert sum(rule["outcomes"].values()) == rule["tasks"] > 0, name
        assert sum(rule["payloads"].values()) == rule["outcomes"]["edge"], name
