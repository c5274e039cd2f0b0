"""The demo as its user starts it, short."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from twinsplit.errors import StorageError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = (sys.executable, "-c", "from twinsplit.cli import main; main()", "demo")
RULE_KEYS = {
    "tasks",
    "outcomes",
    "payloads",
    "accuracy",
    "latency_p50_s",
    "latency_p95_s",
    "energy_joules",
    "energy_source",
    "cost_s",
    "messages_per_task",
    "polled_messages_per_task",
}


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """Lines and JSON of a demo of two rules."""
    path = tmp_path_factory.mktemp("demo") / "demo.json"
    run = demo("--seconds", "4", "--rules", "device-only,multi-step", "--json", str(path))
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), json.loads(path.read_text())


def test_the_document_has_what_is_promised_and_nothing_else(shown: tuple[list[str], dict[str, Any]]) -> None:
    _, document = shown
    assert set(document) == {"provenance", "rules"}
    assert set(document["rules"]) == {"device-only", "multi-step"}
    for rule in document["rules"].values():
        assert set(rule) == RULE_KEYS
        assert set(rule["outcomes"]) == {"edge", "exit", "device", "dropped", "failed"}
        assert set(rule["payloads"]) == {"tensor", "input"}
    assert {"version", "commit", "command", "seeds", "machine", "digests"} <= set(document["provenance"])


def test_outcomes_add_up_on_the_same_arrivals(shown: tuple[list[str], dict[str, Any]]) -> None:
    rules = shown[1]["rules"]
    for rule in rules.values():
        assert sum(rule["outcomes"].values()) == rule["tasks"] > 0
        assert sum(rule["payloads"].values()) == rule["outcomes"]["edge"]
        assert 0.0 <= rule["accuracy"] <= 1.0
        assert rule["energy_source"] == "model"
        assert rule["energy_joules"] > 0.0
    assert rules["device-only"]["tasks"] == rules["multi-step"]["tasks"]
    assert rules["device-only"]["outcomes"]["device"] == rules["device-only"]["tasks"]


def test_signalling_stands_beside_that_of_asking_at_every_epoch(shown: tuple[list[str], dict[str, Any]]) -> None:
    rule = shown[1]["rules"]["multi-step"]
    assert rule["messages_per_task"] < rule["polled_messages_per_task"]


def test_it_says_first_how_long_it_takes_and_what_is_emulated_and_last_what_was_seen(
    shown: tuple[list[str], dict[str, Any]],
) -> None:
    lines = [line for line in shown[0] if line]
    assert "2 rules for 4 s each" in lines[0]
    assert lines[1].startswith("Emulated on this one machine")
    assert lines[2].startswith("Live console while it runs")
    assert "http://127.0.0.1:" in lines[2]
    assert any(line.split()[:2] == ["device-only", "multi-step"] for line in lines), "the closing table"
    assert lines[-1].startswith("multi-step ")
    assert lines[-1].endswith(".")


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs() -> None:
    refused = demo("--json", "/dev/full")
    assert refused.returncode == StorageError.exit_code
    assert refused.stdout == ""
    assert "No space left on device" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_unknown_rule_is_refused_before_anything_runs() -> None:
    refused = demo("--rules", "always")
    assert refused.returncode == 2
    assert "no rule is called 'always'" in refused.stderr
