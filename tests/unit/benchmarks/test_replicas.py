"""Shares of one replica's load, and the verdict on what all of them take together."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.replicas import GOAL_TOTAL, judged, lines


def row(*messages_per_task: float) -> dict[str, Any]:
    replicas = [{"devices": 10, "messages_per_task": each, "cpu_s_per_task": each / 1000} for each in messages_per_task]
    return {"tasks": 100, "replicas": replicas}


def test_shares_are_of_what_one_takes_alone() -> None:
    found = judged([row(2.0), row(0.9, 1.1), row(0.5, 0.75, 0.75)])
    shares = [[replica["messages_per_task_share"] for replica in each["replicas"]] for each in found["rows"]]
    assert shares == [[1.0], pytest.approx([0.45, 0.55]), pytest.approx([0.25, 0.375, 0.375])]
    assert [each["cpu_s_per_task_total"] for each in found["rows"]] == pytest.approx([1.0, 1.0, 1.0])
    assert found["goal_is_met"]


def test_replicas_that_all_hear_everything_miss_the_goal() -> None:
    found = judged([row(1.0), row(1.0, 1.0), row(0.3, 0.3, 0.4)])
    assert not found["goal_is_met"]
    *table, verdict = lines(found)
    assert len(table) == 1 + 1 + 2 + 3
    assert "2 take 2.00 of the messages" in verdict
    assert verdict.endswith(f"{GOAL_TOTAL} of the messages wanted: MISSED")
