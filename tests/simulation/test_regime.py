"""A twin that learns while it serves, in the simulator, and what is told of a change of regime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scenario import changed_scenario, read_scenario
from benchmarks.simulator.online_learning import LearningByPlans, WeightsEvent
from benchmarks.simulator.regime import (
    RULES,
    RegimeRun,
    near_after_s,
    regime_change,
    regime_lines,
    sized,
    tracked,
    weights_told,
)
from benchmarks.simulator.signalling import Signalling
from benchmarks.simulator.world import World
from twin_service.learning import lesson
from twin_service.learning.learner import LearnerSettings
from twin_service.learning.options import GateOptions, LearningOptions, TrainingOptions
from twin_service.planner import PlannerSettings
from twinsplit.errors import SettingsError

STEP = read_scenario(Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios" / "regime-change.yaml")
EAGER = LearnerSettings(
    LearningOptions(TrainingOptions(steps=20), GateOptions(least_tasks=5, roll_back_errors=1e9)),
    least_tasks=80,
    new_tasks=60,
)


@pytest.fixture
def gate_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "refused_because", lambda *_: None)


def learning_world(**arguments: float) -> tuple[LearningByPlans, World]:
    # However little the weights of twenty steps change, plans by them are sent.
    signalling = Signalling(planner=PlannerSettings(plan_threshold_s=0.0))
    deciding = LearningByPlans(signalling, settings=EAGER, lesson_s=5.0, **arguments)
    return deciding, World(changed_scenario(STEP, tasks=240, warm_up_tasks=0, step_at_s=60.0), 1, deciding)


@pytest.mark.slow
@pytest.mark.usefixtures("gate_is_open")
def test_weights_that_pass_the_gate_serve_from_the_end_of_their_lesson_on() -> None:
    deciding, world = learning_world()
    world.run()

    promoted = [event for event in deciding.events if event.result == "promoted"]
    assert [event.version for event in promoted] == [1, 2, 3]
    manifest = deciding.core.devices["device-0"].status.manifest
    assert manifest is not None
    assert deciding.core.kept.net_of(manifest) is deciding.learner.net(world.model_digest) is not None
    assert deciding.core.devices["device-0"].document.plan_revisions["weights"] > 0
    assert deciding.workload.replayed > 200
    assert promoted[0].at_s > 80 / STEP.task_rate_per_s / 1.5 + 5.0


@pytest.mark.slow
@pytest.mark.usefixtures("gate_is_open")
def test_what_is_frozen_learns_nothing_more() -> None:
    deciding, world = learning_world(learns_until_s=70.0)
    world.run()

    assert [event.version for event in deciding.events] == [1]
    assert deciding.learner.serving_version(world.model_digest) == 1
    assert max(event.at_s for event in deciding.events) < 70.0


@pytest.mark.slow
def test_all_that_is_told_of_a_change_can_be_written_down() -> None:
    scenario = changed_scenario(STEP, tasks=160, warm_up_tasks=10, step_at_s=40.0)

    found = regime_change(scenario, [1, 2], window_s=20.0, workers=1)

    json.dumps(found, allow_nan=False)
    assert tuple(found["rules"]) == RULES
    assert found["windows_from_s"][:3] == [-40.0, -20.0, 0.0]
    for figures in found["rules"].values():
        assert len(figures["windows_s"]) == len(found["windows_from_s"])
        assert figures["spans"]["before"]["cost_s"] < figures["spans"]["after"]["cost_s"]
    assert found["rules"]["open-loop"]["spans"]["after"]["ratio"] == 1.0
    assert found["rules"]["clairvoyant"]["spans"]["after"]["ratio"] < 1.0
    assert found["learning_on"]["before"] == {"ratio": 1.0, "ratio_ci": [1.0, 1.0]}
    goodput = found["tracked"]["goodput_bytes_per_s"]
    assert (goodput["before"], goodput["after"]) == (60_000.0, 20_000.0)
    assert any(line.startswith("goodput_bytes_per_s: 6e+04 before, 2e+04 after") for line in regime_lines(found))


def test_a_scenario_without_a_step_is_refused_by_name() -> None:
    steady = changed_scenario(STEP, step_at_s=None, step_load_share=None, step_uplink_bytes_per_s=None)
    with pytest.raises(SettingsError, match="step_at_s"):
        sized(steady, is_quick=False)


def test_a_quick_look_has_its_step_in_the_middle() -> None:
    quick = sized(STEP, is_quick=True)
    assert (quick.tasks, quick.step_at_s) == (1000, 250.0)
    assert sized(STEP, is_quick=False) is STEP


def test_what_is_tracked_is_near_again_when_it_first_comes_within_a_tenth() -> None:
    assert near_after_s(np.array([1.0, 1.5, 1.85, 1.7, 2.0]), 2.0) == 2.0
    assert near_after_s(np.array([1.0, 1.5]), 2.0) is None


def test_tracks_are_judged_by_what_there_is_before_and_after_the_step() -> None:
    steps = np.array([4.0] * 10 + [3.0, 2.5, 2.1] + [2.0] * 7)
    there = np.array([4.0] * 10 + [2.0] * 10)
    names = ("task_rate_per_s", "goodput_bytes_per_s", "backlog_mean_s")
    tracks = {name: np.array([steps, steps]) for name in names} | {f"true {n}": np.array([there, there]) for n in names}

    found = tracked(tracks, 10.0)["backlog_mean_s"]

    assert (found["before"], found["after"]) == (4.0, 2.0)
    assert found["near_since_start_s"] == 0.0
    assert found["near_since_step_s"] == 2.0
    assert found["near_since_step_s_by_run"] == [2.0, 2.0]
    assert found["spread_later"] == 0.0


def test_weights_are_told_before_and_after_the_step() -> None:
    events = (
        WeightsEvent(20.0, "promoted", 1, ""),
        WeightsEvent(30.0, "refused", 2, "no-better-than-serving"),
        WeightsEvent(40.0, "promoted", 3, ""),
        WeightsEvent(60.0, "rolled-back", 3, "version 1 serves again"),
        WeightsEvent(75.0, "promoted", 4, ""),
    )
    run = RegimeRun(np.zeros(1), (0.0, 0.0, 0.0), events=events)

    found = weights_told([run, RegimeRun(np.zeros(1), (0.0, 0.0, 0.0))], 50.0, [1, 2])

    assert found["counts"] == {"before": {"promoted": 2, "refused": 1}, "after": {"promoted": 1, "rolled-back": 1}}
    assert found["first_promotion_after_step_s"] == [25.0, None]
    assert found["serving_at_step"] == [3, 0]
    assert weights_told([run], 70.0, [1])["serving_at_step"] == [1]
    assert [event["version"] for event in found["events"]["1"]] == [1, 2, 3, 3, 4]
