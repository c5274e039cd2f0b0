"""Recorded tasks run again: decisions by new weights, lines and uplinks that follow from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.tuning.recorded_tasks import EXIT_AT_S, SITUATION, WAY_S, WHOLE_S, WITHOUT_EDGE, recorded_tasks, tape
from twin_service.tuning.groups import MAX_GROUPS, Weighting
from twin_service.tuning.rerun import recorded_outcomes, rerun
from twin_service.tuning.tape import tape_of
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError
from twinsplit.types import Decision, Outcome

ONLY_TIME = Weighting(0.0, 0.0)
ONLY_ACCURACY = Weighting(1000.0, 0.0)
FEW_BINS = (0.6, 0.95)
WHOLE_BINS = (0.8, 0.97)


def test_what_was_recorded_comes_out_as_it_was() -> None:
    tasks = recorded_tasks(10, 0.2)
    outcomes = recorded_outcomes(tape(tasks))
    waits_s = np.arange(10) * (WHOLE_S - 0.2)
    assert outcomes.latency_s == pytest.approx(waits_s + WHOLE_S)
    assert outcomes.joules == pytest.approx([3.0 * WHOLE_S] * 10)
    assert sorted(set(outcomes.accuracy)) == pytest.approx(WHOLE_BINS)
    assert set(outcomes.decision) == {Decision.CONTINUE}


def test_an_offload_comes_out_as_it_was_too() -> None:
    outcomes = recorded_outcomes(tape(recorded_tasks(10, 0.5, how=Outcome.EDGE)))
    assert outcomes.latency_s == pytest.approx([WAY_S] * 10, abs=1e-6)
    assert outcomes.joules == pytest.approx([3.0 * 0.001 + 1.2 * 0.01] * 10)
    assert outcomes.accuracy == pytest.approx([0.868] * 10)
    assert set(outcomes.decision) == {Decision.OFFLOAD_INPUT}


def test_those_who_leave_early_keep_nobody_waiting() -> None:
    """Recorded in a line that grew and grew."""
    outcomes = rerun(tape(recorded_tasks(20, 0.2, situation=WITHOUT_EDGE)), Weighting(0.05, 0.0))
    assert set(outcomes.decision) == {Decision.EXIT}
    assert outcomes.latency_s == pytest.approx([EXIT_AT_S] * 20, abs=1e-6)
    assert outcomes.accuracy.mean() == pytest.approx(0.6 * FEW_BINS[0] + 0.4 * FEW_BINS[1])
    assert outcomes.joules == pytest.approx([3.0 * EXIT_AT_S] * 20)


def test_those_who_stay_longer_keep_others_waiting() -> None:
    """Recorded when all left early; without the exit, which nobody needs then, the network takes 0.3 s."""
    tasks = recorded_tasks(20, 0.2, how=Outcome.EXIT, situation=WITHOUT_EDGE)
    outcomes = rerun(tape(tasks), Weighting(1e6, 0.0))
    assert set(outcomes.decision) == {Decision.CONTINUE}
    assert outcomes.latency_s == pytest.approx(0.3 + np.arange(20) * 0.1, abs=1e-5)
    assert outcomes.accuracy == pytest.approx([0.868] * 20)


def test_payloads_wait_for_one_another_on_the_uplink() -> None:
    """An uplink that takes 0.2 s for an input, and an input every 0.1 s."""
    slow = replace(SITUATION, goodput_bytes_per_s=5e3, segment_s=(2.0, 2.0, 2.0))
    tasks = recorded_tasks(6, 100.0, situation=slow)
    together = [replace(task, at_s=1e9 + 0.1 * number) for number, task in enumerate(tasks)]
    outcomes = rerun(tape(together), ONLY_TIME)
    assert set(outcomes.decision) == {Decision.OFFLOAD_INPUT}
    alone_s = WAY_S - 0.01 + 0.2
    assert outcomes.latency_s == pytest.approx([alone_s + 0.1 * number for number in range(6)], abs=1e-4)


def test_energy_that_costs_much_is_saved() -> None:
    tasks = recorded_tasks(10, 0.5)
    assert rerun(tape(tasks), Weighting(2.5, 100.0)).joules.mean() < 0.1 * recorded_outcomes(tape(tasks)).joules.mean()


def test_tasks_that_were_not_recorded_are_still_waited_for() -> None:
    every = recorded_tasks(20, 0.2, how=Outcome.EXIT, situation=replace(WITHOUT_EDGE, segment_s=(0.18, 0.1, 0.1)))
    held = [replace(task, waited_s=task.waited_s + 0.05, at_s=task.at_s + 0.05) for task in every[::2]]
    outcomes = rerun(tape(held), Weighting(0.05, 0.0))
    assert outcomes.latency_s == pytest.approx(recorded_outcomes(tape(held)).latency_s, abs=0.15)
    assert outcomes.latency_s.min() > 0.05 + EXIT_AT_S - 1e-6


def test_what_held_the_uplink_holds_it_once_for_all_who_came_meanwhile() -> None:
    """An upload that was not recorded took until 2.2 s: so long the uplink was seen busy by three tasks."""
    tasks = []
    for task in recorded_tasks(4, 0.5):
        left_s = max(2.2 - (task.at_s - 1e9), 0.0)
        tasks.append(replace(task, uplink_busy_s=np.maximum(left_s - task.reached_s, 0.0)))
    (courses,) = tape(tasks).devices
    assert [course.uplink_hold_s for course in courses] == pytest.approx([1.7, 0.0, 0.0, 0.0], abs=1e-6)


def test_the_queue_that_a_decision_sees_follows_from_the_new_starts() -> None:
    """Where tasks queue a sure exit is enough; alone it is worth going on."""
    weighting = Weighting(8.0, 0.0)
    shares = {}
    for gap_s in (0.12, 5.0):
        decisions = rerun(tape(recorded_tasks(30, gap_s, how=Outcome.EXIT, situation=WITHOUT_EDGE)), weighting).decision
        shares[gap_s] = (decisions == Decision.EXIT).mean()
    assert shares[0.12] > shares[5.0]


@pytest.mark.slow
def test_an_exit_that_did_not_run_shows_what_is_likely() -> None:
    tasks = recorded_tasks(400, 1.0, exits_run=(False,), situation=WITHOUT_EDGE)
    made = tape(tasks)
    shown = np.array([course.shows[0] for course in made.devices[0]])
    assert set(shown) == {1, 2}
    assert (shown == 1).mean() == pytest.approx(0.6, abs=0.08)
    outcomes = rerun(made, Weighting(0.05, 0.0))
    assert outcomes.latency_s == pytest.approx([EXIT_AT_S] * 400, abs=1e-6)  # the exit's own time is counted


def test_what_could_not_be_done_when_it_was_recorded_is_not_done() -> None:
    tasks = [replace(task, latency_s=np.full_like(task.latency_s, np.nan)) for task in recorded_tasks(5, 1.0)]
    assert not any(Decision(each).is_offload for each in rerun(tape(tasks), ONLY_TIME).decision)


def test_devices_have_lines_of_their_own() -> None:
    one, other = recorded_tasks(5, 0.2), recorded_tasks(5, 0.2, device_id="other")
    outcomes = rerun(tape([*one, *other]), ONLY_ACCURACY)
    assert outcomes.latency_s[:5] == pytest.approx(outcomes.latency_s[5:])


@pytest.mark.slow
def test_situations_are_few_however_much_they_move() -> None:
    rng = np.random.default_rng(0)
    tasks: list[Replayed] = []
    for number in range(200):
        moved = replace(
            SITUATION,
            goodput_bytes_per_s=float(10 ** rng.uniform(4, 6)),
            backlog_mean_s=float(rng.exponential(0.3)),
            task_rate_per_s=float(rng.uniform(0.5, 5.0)),
        )
        tasks += recorded_tasks(1, 1.0, situation=moved, origin_s=1e9 + number)
    assert 2 <= len(tape(tasks).groups) <= MAX_GROUPS


@pytest.mark.parametrize(
    "changes",
    [
        {"evidence": np.full(4, 99, dtype=np.int16)},
        {"backlog_s": np.full(4, np.nan, dtype=np.float32)},
        {"conditions": None},
    ],
)
def test_a_task_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ReplayError):
        tape([replace(recorded_tasks(1, 1.0)[0], **changes)])


def test_the_newest_weights_are_the_present_ones() -> None:
    tasks = recorded_tasks(3, 1.0)
    tasks[1] = replace(tasks[1], alpha_s=9.0)
    made = tape_of(tasks, SITUATION.manifest)
    assert (made.newest, made.tasks) == (Weighting(2.5, 0.05), 3)
