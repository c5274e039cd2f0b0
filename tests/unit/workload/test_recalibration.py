"""P(exit right | bin) follows what the whole network answers: slowly, with a floor on samples, within sound bounds."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import DIGEST, MANIFEST_BYTES, StepRule, World, ended_task, state
from twin_service.memory import VolatileMemory
from twin_service.messages import PlanMessage, TaskReport
from twin_service.workload.recalibration import (
    BASELINE_SAMPLES,
    LEAST_SAMPLES,
    MAX_MODELS,
    ExitCalibration,
    Recalibration,
)
from twinsplit.model.manifest import Manifest, parse_manifest


def manifest_with(p_right: float, p_whole: float) -> Manifest:
    """One exit whose second bin is so often right."""
    document = json.loads(MANIFEST_BYTES)
    document["exits"][0] |= {"p_right": [0.6, p_right], "p_whole_right": [0.8, p_whole]}
    return parse_manifest(json.dumps(document).encode())


def live(calibration: ExitCalibration, agreement: float, samples: int, seed: int = 0, evidence: int = 2) -> None:
    """``samples`` answers of the whole network; the exit agreed with so many of them."""
    rng = random.Random(seed)
    for _ in range(samples):
        calibration.add(evidence, rng.random() < agreement)


def test_an_exit_that_agrees_as_ever_stays_as_calibrated() -> None:
    calibration = ExitCalibration(manifest_with(0.9, 0.95))
    live(calibration, 0.9, 3000)
    assert calibration.p_right(2) == pytest.approx(0.9, abs=0.01)
    assert calibration.p_right(1) == 0.6
    assert calibration.drift < 0.01


def test_few_samples_move_nothing() -> None:
    calibration = ExitCalibration(manifest_with(0.9, 0.95))
    live(calibration, 0.0, LEAST_SAMPLES - 1)
    assert calibration.p_right(2) == 0.9
    assert calibration.drift == 0.0
    live(calibration, 0.0, 2)
    assert calibration.p_right(2) < 0.3


def test_an_exit_that_agrees_less_than_both_can_be_right_is_known_to_be_wrong_at_once() -> None:
    """The bound needs no baseline: the samples were other ones from the first on."""
    calibration = ExitCalibration(manifest_with(0.95, 0.97))
    live(calibration, 0.5, BASELINE_SAMPLES)
    assert 0.5 < calibration.p_right(2) < 0.65


@pytest.mark.parametrize("seed", range(3))
def test_where_accuracy_is_agreement_it_is_simply_followed(seed: int) -> None:
    calibration = ExitCalibration(manifest_with(0.9, 1.0))
    live(calibration, 0.7, 2000, seed)
    assert calibration.p_right(2) == pytest.approx(0.7, abs=0.08)
    live(calibration, 0.9, 3000, seed)
    assert calibration.p_right(2) == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("seed", range(3))
def test_a_drift_after_the_baseline_moves_the_probability_the_right_way(seed: int) -> None:
    """Exit right in 80, network in 95 of 100; together right in 78. Then the exit is right in 65 only."""
    calibration = ExitCalibration(manifest_with(0.80, 0.95))
    live(calibration, 0.81, BASELINE_SAMPLES, seed)
    before = calibration.p_right(2)
    live(calibration, 0.65, 2500, seed + 10)
    assert before == pytest.approx(0.8, abs=0.02)
    assert 0.62 < calibration.p_right(2) < 0.76
    assert calibration.drift == pytest.approx(0.8 - calibration.p_right(2))


def test_an_exit_that_agrees_more_than_ever_is_not_believed_beyond_what_the_network_is() -> None:
    calibration = ExitCalibration(manifest_with(0.6, 0.9))
    live(calibration, 0.62, BASELINE_SAMPLES)
    live(calibration, 1.0, 3000)
    assert 0.8 < calibration.p_right(2) <= 0.92


@pytest.mark.parametrize(("p_right", "p_whole"), [(0.88, 0.9), (0.6, 0.9), (0.97, 0.9)])
def test_an_exit_that_nearly_always_agrees_is_right_about_as_often_as_the_network(
    p_right: float, p_whole: float
) -> None:
    calibration = ExitCalibration(manifest_with(p_right, p_whole))
    live(calibration, 0.8, BASELINE_SAMPLES)
    live(calibration, 0.998, 3000)
    assert calibration.p_right(2) == pytest.approx(p_whole, abs=0.02)


def test_plans_are_made_anew_only_when_a_probability_has_moved_noticeably() -> None:
    calibration = ExitCalibration(manifest_with(0.9, 1.0))
    original = calibration.manifest
    rng = random.Random(1)
    news = sum(calibration.add(2, rng.random() < 0.5) for _ in range(2000))
    assert 5 < news < 150
    assert original.exits[0].p_right == (0.6, 0.9)
    assert calibration.manifest.exits[0].p_right[1] == pytest.approx(calibration.p_right(2), abs=0.011)
    assert calibration.manifest.exits[0].transitions == original.exits[0].transitions


def test_what_was_learnt_survives_a_restart_and_a_damaged_record_does_not_matter() -> None:
    memory = VolatileMemory()
    recalibration = Recalibration(memory)
    manifest = manifest_with(0.9, 1.0)
    assert recalibration.known(DIGEST, manifest) is manifest
    assert recalibration.drift is None
    task = replace(ended_task(1, 0.0), evidence=2, exit_agrees=False)
    for _ in range(LEAST_SAMPLES + 5):
        recalibration.task_ended(DIGEST, task)
    assert recalibration.drift == pytest.approx(0.9 - recalibration.known(DIGEST, manifest).p_exit_right(2), abs=0.01)
    recalibration.save()
    again = Recalibration(memory).known(DIGEST, manifest)
    assert again.p_exit_right(2) < 0.2
    damages = ({"samples": "x"}, {"samples": -1}, {"mean": math.nan}, {"mean": 2.0}, {"baseline": None})
    for text in ("[]", "{", "[" * 100_000, *(json.dumps([damage, {}, {}]) for damage in damages)):
        memory.keep_calibration(DIGEST, text)
        damaged = Recalibration(memory)
        assert damaged.known(DIGEST, manifest) is manifest
        assert damaged.unreadable == 1


def test_what_was_learnt_of_a_model_is_let_go_for_another_and_found_again() -> None:
    memory = VolatileMemory()
    recalibration = Recalibration(memory)
    manifest = manifest_with(0.9, 1.0)
    recalibration.known("first", manifest)
    for _ in range(LEAST_SAMPLES + 5):
        recalibration.task_ended("first", replace(ended_task(1, 0.0), evidence=2, exit_agrees=False))
    for number in range(MAX_MODELS):
        recalibration.known(str(number), manifest)
    assert recalibration.known("first", manifest).p_exit_right(2) < 0.2, "others were saved as they are"
    recalibration.save()
    for number in range(MAX_MODELS):
        recalibration.known(f"later {number}", manifest)
    assert recalibration.drift is None
    assert recalibration.known("first", manifest).p_exit_right(2) < 0.2


def test_tasks_that_say_nothing_about_an_exit_change_nothing() -> None:
    recalibration = Recalibration(VolatileMemory())
    recalibration.known(DIGEST, manifest_with(0.9, 1.0))
    for task in (
        replace(ended_task(1, 0.0), evidence=2, exit_agrees=None),
        replace(ended_task(1, 0.0), evidence=0, exit_agrees=True),
    ):
        assert recalibration.task_ended(DIGEST, task) is None
    assert recalibration.task_ended("of another model", replace(ended_task(1, 0.0), exit_agrees=True)) is None
    assert recalibration.drift is None


def test_the_planner_uses_what_was_learnt_and_new_devices_do_too() -> None:
    world = World(StepRule())
    world.attach_edge()
    world.attach_device()
    world.take()
    for n in range(1, LEAST_SAMPLES + 20):
        world.now_s += 1.0
        task = replace(ended_task(n, world.now_s - 0.4), evidence=2, exit_agrees=False)
        world.say(TaskReport((task,), state=state(n)))
    found = world.core.ended_tasks.recalibrated[-1]
    assert found.model_digest == DIGEST
    assert found.drift > 0.5
    device = world.core.devices["cam"]
    assert device.status.manifest is found.manifest
    assert device.standing.weighed.manifest is found.manifest
    assert world.core.manifests.digest_of(found.manifest) == DIGEST
    assert world.core.planner.situation(device, None, world.now_s).manifest.p_exit_right(2) < 0.5
    world.attach_device("dock")
    assert world.core.devices["dock"].status.manifest is found.manifest
    assert isinstance(world.take(PlanMessage)[-1], PlanMessage)
    world.core.save()
    assert world.memory.calibration(DIGEST) is not None
