"""Goals beside what was found."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.report.causes import CAUSES
from benchmarks.report.goals import GOALS, Judged, Verdict, judged
from benchmarks.report.runs import RUNS
from tests.unit.benchmarks import report_documents


def of(key: str, **documents: dict[str, Any]) -> Judged:
    named = {name.replace("_", "-"): document for name, document in documents.items()}
    return next(each for each in judged(named) if each.goal.key == key)


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {each.verdict for each in judged({})} == {Verdict.NOT_MEASURED}


def test_every_goal_has_a_key_of_its_own_and_a_document_that_is_run() -> None:
    assert len({goal.key for goal in GOALS}) == len(GOALS)
    assert {goal.document for goal in GOALS} <= {run.name for run in RUNS}


def test_causes_are_those_of_goals() -> None:
    assert set(CAUSES) <= {goal.key for goal in GOALS}


def test_every_goal_is_judged_where_its_document_is_there() -> None:
    found = judged(report_documents.every())
    assert Verdict.NOT_MEASURED not in {each.verdict for each in found}
    assert all(each.found for each in found)


def test_a_miss_names_the_cells_that_miss() -> None:
    found = of("gap-least", grid=report_documents.grid(learned=0.145))
    assert found.verdict is Verdict.MISSED
    assert "heavy-tailed 0.859 (clairvoyant takes 32.0 % off)" in found.found
    assert "1 of 5 below" in found.found


def test_a_small_grid_misses_the_extent() -> None:
    found = of("extent", grid=report_documents.grid())
    assert found.verdict is Verdict.MISSED
    assert found.found.startswith("2 x 2 x 1 x 1 cells and 1 others")


@pytest.mark.parametrize(
    ("plans", "ratio", "verdict"),
    [(4.0, 1.019, Verdict.MET), (4.1, 1.0, Verdict.MISSED), (2.0, 1.02, Verdict.MISSED)],
)
def test_messages_and_cost_must_both_be_low(plans: float, ratio: float, verdict: Verdict) -> None:
    assert of("messages", signalling=report_documents.signalling(plans=plans, ratio=ratio)).verdict is verdict


def test_a_fleet_is_told_with_its_size() -> None:
    found = of("messages-fleet", signalling_fleet=report_documents.signalling(is_quick=True))
    assert found.verdict is Verdict.MET
    assert found.found.startswith("10,000 devices: 2.00 of 8.00 messages (25 %)")


def test_a_smaller_fleet_does_not_meet_the_goal_of_the_full_one() -> None:
    document = report_documents.signalling(is_quick=True)
    smaller = document | {"scenario": {"devices": 1_000}}
    assert of("messages-fleet", signalling_fleet=document).verdict is Verdict.MET
    assert of("messages-fleet", signalling_fleet=smaller).verdict is Verdict.MISSED


@pytest.mark.parametrize(
    ("planned", "planned_s", "verdict"),
    [(4.0, 0.203, Verdict.MET), (4.1, 0.19, Verdict.MISSED), (2.0, 0.204, Verdict.MISSED)],
)
def test_real_processes_are_judged_beside_their_polled_run(planned: float, planned_s: float, verdict: Verdict) -> None:
    document = report_documents.signalling_testbed(planned=planned, planned_s=planned_s)
    found = of("messages-testbed", signalling_testbed=document)
    assert found.verdict is verdict
    assert found.found.startswith(f"4 devices: {planned:.2f} of 8.00 messages ({planned / 0.08:.0f} %)")
    ratio = f"{planned_s / 0.2:.3f}"
    assert found.found.endswith(f"{ratio} ({ratio} to {ratio})"), "paired: on both seeds the same"


@pytest.mark.parametrize(
    ("over_frozen", "verdict"),
    [
        ([0.8, 0.99], "learning on gained"),
        ([0.96, 1.2], "no gain of learning on is shown"),
        ([1.01, 1.2], "learning on lost"),
        (None, "one run tells no difference"),
    ],
)
def test_learning_on_after_a_step_is_told_beside_weights_that_were_frozen_at_it(
    over_frozen: list[float] | None, verdict: str
) -> None:
    document = report_documents.regime()
    document["learning_on"]["later"] = {"ratio": 1.0, "ratio_ci": over_frozen}
    document["rules"]["learned-frozen"]["spans"]["later"] = {"ratio": 1.0, "ratio_ci": [0.95, 1.05]}
    for key in ("regime", "regime-heavy-tailed", "regime-kind"):
        found = of(key, **{key.replace("-", "_"): document})
        assert found.verdict is Verdict.STATED
        assert "weights served at the step in 1 of 2 runs, promotions after it: 0" in found.found
        assert "1.000 (0.950 to 1.050) with weights frozen at the step" in found.found
        assert found.found.endswith(verdict)


def test_learning_must_gain_under_heavy_tails() -> None:
    assert of("heavy-tails", grid=report_documents.grid()).verdict is Verdict.MET
    assert of("heavy-tails", grid=report_documents.grid(learned=0.151)).verdict is Verdict.MISSED
    document = report_documents.grid()
    del document["cells"][-1]
    assert of("heavy-tails", grid=document).verdict is Verdict.MISSED


def test_decisions_that_differ_are_a_miss_and_what_pruning_is_worth_is_only_stated() -> None:
    assert of("reduction", pruning=report_documents.pruning()).verdict is Verdict.MET
    assert of("reduction", pruning=report_documents.pruning(different=1)).verdict is Verdict.MISSED
    assert of("reduction-worth", pruning=report_documents.pruning()).verdict is Verdict.STATED


def test_what_is_out_of_bounds_is_named() -> None:
    found = of("fidelity", fidelity=report_documents.fidelity(is_within=False))
    assert found.verdict is Verdict.MISSED
    assert "out of bounds: multi-step: median" in found.found


def test_the_factor_of_the_labels_is_told_at_the_least_error_reached_without_them() -> None:
    document = report_documents.learning()
    assert of("labels", learning_curve=document).found == (
        "heavy-tailed: factor 12 (1,800 against 150 tasks) at the least error reached without them"
    )
    del document["scenarios"][0]["tasks_needed"][0]
    found = of("labels", learning_curve=document)
    assert (found.verdict, found.found) == (
        Verdict.STATED,
        "heavy-tailed: never reached without them: factor more than 13",
    )
