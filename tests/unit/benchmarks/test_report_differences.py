"""Where real processes and the simulator differ, in words."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.fidelity import STAGES
from benchmarks.report import differences
from benchmarks.report.tables import fidelity
from tests.unit.benchmarks import report_documents


def document(**stages_s: tuple[float | None, float | None]) -> dict[str, Any]:
    """Four of five tasks end at the edge on either side."""
    found = report_documents.fidelity()
    sides = ("testbed", "simulator")
    found["rules"]["multi-step"] |= {
        "stops": {
            "exit 1": dict.fromkeys(sides, 0.2),
            "edge, input": {"testbed": 0.5, "simulator": 0.55},
            "edge, tensor of cut 2": {"testbed": 0.3, "simulator": 0.25},
        },
        "stages_mean_s": {stage: dict(zip(sides, pair, strict=True)) for stage, pair in stages_s.items()},
    }
    return found


def test_every_stage_has_words() -> None:
    assert tuple(differences.STAGES) == STAGES


def test_stages_count_for_the_tasks_that_enter_them_and_small_ones_are_left_out() -> None:
    found = document(queue=(0.010, 0.012), compute=(0.1, 0.1), edge_queue=(0.2, 0.19), upload=(0.1001, 0.1))
    told = differences.main_differences_s(found["rules"]["multi-step"])
    assert list(told) == ["edge_queue", "queue"], "largest first"
    assert told == pytest.approx({"edge_queue": 0.008, "queue": -0.002})


def test_only_causes_of_stages_that_differ_are_told() -> None:
    text = fidelity(document(queue=(0.010, 0.012), compute=(0.1, 0.1), edge_queue=(0.2, 0.19)))
    assert "- multi-step: mean latency 100 ms on real processes, 110 ms simulated: " in text
    assert "waiting at the edge +8.0 ms, waiting for the device -2.0 ms" in text
    assert "Ends differ most in `edge, input`: 50.0 % of real tasks, 55.0 % of simulated ones." in text
    assert "*waiting at the edge*: jobs of other users" in text
    assert "*computing on the device*" not in text


def test_stages_that_nobody_entered_do_not_differ() -> None:
    text = fidelity(document(upload=(None, None), compute=(0.1, 0.1)))
    assert "110 ms simulated. Ends" in text
    assert "Cause" not in text
