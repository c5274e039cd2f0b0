"""The clairvoyant foresees what really comes and decides by it; where no exit tells anything it equals hindsight."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.books import Entry
from benchmarks.scenario import Scenario
from benchmarks.simulator.clairvoyant import Clairvoyant
from benchmarks.simulator.deciding import ByTable, Deciding
from benchmarks.simulator.edge import SimulatedEdge
from benchmarks.simulator.foresight import EdgeAhead, Foresight, QueueAhead, QueueExpected
from benchmarks.simulator.result import SimulatedRun
from benchmarks.simulator.world import World
from edge.load_pattern import Pattern
from twin_service.decision.rules import rule_named
from twinsplit.types import Outcome, Payloads

QUIET = Scenario(
    device_whole_s=0.4, edge_whole_s=0.02, uplink_bytes_per_s=50e3, load_share=0.0, exit_shares=(9.0, 9.0), tasks=1
)
"""Exits that nobody would run, and nobody else at the edge."""


def ran(scenario: Scenario, deciding: Deciding | str, seed: int = 1) -> SimulatedRun:
    if isinstance(deciding, str):
        deciding = ByTable(rule_named(deciding))
    return World(scenario, seed, deciding).run(keeps_entries=True)


def traced(scenario: Scenario, folder: Path, **instants_s: list[float]) -> Scenario:
    """``scenario`` with arrivals or load at stated instants."""
    changes: dict[str, object] = {}
    for name, instants in instants_s.items():
        path = folder / f"{name}.txt"
        path.write_text("\n".join(f"{instant:.6f}" for instant in instants))
        changes[f"{name}_trace"] = path
    if "arrival" in instants_s:
        changes |= {"arrivals": "trace"}
    if "load" in instants_s:
        changes |= {"load_pattern": Pattern.TRACE, "load_share": 0.5, "warm_up_s": 0.0}
    return scenario.model_copy(update=changes)


def without(kind: Foresight) -> Clairvoyant:
    """One that sees everything else coming."""
    return Clairvoyant(foresees=set(Foresight) - {kind})


def only(run: SimulatedRun) -> Entry:
    (entry,) = run.entries
    return entry


def test_a_burst_that_is_about_to_come_keeps_the_task_off_the_edge(tmp_path: Path) -> None:
    burst = [1.001 + number * 1e-5 for number in range(100)]  # 2 s of work, right after the task starts at 1 s
    scenario = traced(QUIET, tmp_path, arrival=[1.0], load=burst)

    assert only(ran(scenario, "open-loop")).outcome is Outcome.EDGE
    assert only(ran(scenario, Clairvoyant())).outcome is Outcome.DEVICE
    assert only(ran(scenario, without(Foresight.LOAD))).outcome is Outcome.EDGE


def test_a_burst_that_comes_too_late_to_matter_changes_nothing(tmp_path: Path) -> None:
    burst = [1.2 + number * 1e-5 for number in range(100)]
    scenario = traced(QUIET, tmp_path, arrival=[1.0], load=burst)

    assert only(ran(scenario, Clairvoyant())).outcome is Outcome.EDGE


def test_frames_that_are_about_to_come_make_room_for_themselves(tmp_path: Path) -> None:
    slow_link = QUIET.model_copy(update={"uplink_bytes_per_s": 2e3})
    alone = traced(slow_link, tmp_path, arrival=[1.0])
    followed = traced(slow_link, tmp_path, arrival=[1.0] + [1.01] * 4).model_copy(update={"tasks": 5})

    assert only(ran(alone, Clairvoyant())).outcome is Outcome.DEVICE
    late = followed.model_copy(
        update={"arrival_trace": traced(slow_link, tmp_path, arrival=[1.0] + [1.3] * 4).arrival_trace}
    )
    foreseen, unforeseen = (ran(late, d).entries[0] for d in (Clairvoyant(), without(Foresight.ARRIVALS)))
    assert foreseen.stop_epoch is not None
    assert unforeseen.stop_epoch is not None
    assert foreseen.stop_epoch < unforeseen.stop_epoch, "they have to come first"


def test_an_uplink_that_is_about_to_give_way_keeps_the_task_off_it(tmp_path: Path) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("0,50000\n1.01,100\n1000,100\n")
    scenario = traced(QUIET, tmp_path, arrival=[1.0]).model_copy(update={"uplink": "trace", "uplink_trace": rates})

    assert only(ran(scenario, Clairvoyant())).outcome is Outcome.DEVICE
    assert only(ran(scenario, without(Foresight.UPLINK))).outcome is Outcome.EDGE


def test_an_upload_on_its_way_is_foreseen(tmp_path: Path) -> None:
    # The edge is slow enough that waiting behind the first tail is worse than finishing on the device.
    scenario = traced(QUIET, tmp_path, arrival=[1.0, 1.001]).model_copy(
        update={"tasks": 2, "edge_whole_s": 0.4, "uplink_bytes_per_s": 1e6}
    )
    first, second = ran(scenario, Clairvoyant()).entries

    assert first.outcome is Outcome.EDGE
    assert second.outcome is Outcome.DEVICE
    assert ran(scenario, "open-loop").entries[1].outcome is Outcome.EDGE


APART = QUIET.model_copy(
    update={
        "arrivals": "periodic",
        "task_rate_per_s": 0.1,
        "tasks": 60,
        "edge_whole_s": 0.15,
        "uplink_bytes_per_s": 20e3,
        "load_share": 0.5,
        "load_burst_s": 0.2,
        "load_mean_s": 0.02,
        "load_sizes": "exponential",
    }
)
"""Tasks far enough apart that none meets another, at a busy edge."""


def best_in_hindsight_s(scenario: Scenario) -> NDArray[np.float64]:
    """Least cost of each task among those of the fixed decisions.  # (tasks,)"""
    rules = ("device-only", *(f"static:{cut}" for cut in range(5)))
    fixed = np.array([ran(scenario, rule).costs_s for rule in rules])
    assert len(set(fixed.argmin(axis=0))) > 2, "or there is nothing to choose"
    best_s: NDArray[np.float64] = fixed.min(axis=0)
    return best_s


@pytest.mark.slow
def test_without_exits_it_takes_what_hindsight_finds_best_for_every_task() -> None:
    np.testing.assert_allclose(ran(APART, Clairvoyant()).costs_s, best_in_hindsight_s(APART), atol=1e-9)


@pytest.mark.slow
def test_it_knows_the_rates_to_come_of_its_uplink() -> None:
    unsteady = APART.model_copy(
        update={"uplink": "two-state", "uplink_bad_bytes_per_s": 10e3, "uplink_good_s": 0.5, "uplink_bad_s": 0.5}
    )

    # Less is possible: an input sent later, when another representation has become the cheapest.
    assert (ran(unsteady, Clairvoyant()).costs_s <= best_in_hindsight_s(unsteady) + 1e-9).all()


@pytest.mark.slow
@pytest.mark.parametrize("load_share", [0.5, 0.8])
def test_knowing_what_comes_never_costs_more_than_open_loop(load_share: float) -> None:
    busy = Scenario(
        device_whole_s=0.3,
        edge_whole_s=0.02,
        uplink_bytes_per_s=60e3,
        load_share=load_share,
        task_rate_per_s=4,
        tasks=800,
    )
    saved_s = np.concatenate([ran(busy, "open-loop", s).costs_s - ran(busy, Clairvoyant(), s).costs_s for s in (1, 2)])

    assert saved_s.mean() > -2.0 * saved_s.std(ddof=1) / len(saved_s) ** 0.5


@pytest.mark.slow
def test_with_nothing_to_foresee_it_is_open_loop() -> None:
    lonely = Scenario(
        device_whole_s=0.3, edge_whole_s=0.02, uplink_bytes_per_s=8e3, load_share=0.0, arrivals="periodic",
        task_rate_per_s=0.1, tasks=200,
    )  # fmt: skip
    found, open_loop = ran(lonely, Clairvoyant()), ran(lonely, "open-loop")

    assert len(found.summary.ends) > 2, "or there is nothing to decide"
    np.testing.assert_allclose(found.costs_s, open_loop.costs_s, atol=1e-12)


def test_it_keeps_to_tensors_and_deadlines() -> None:
    scenario = Scenario(
        device_whole_s=0.3,
        edge_whole_s=0.02,
        uplink_bytes_per_s=60e3,
        tasks=100,
        payloads=Payloads.TENSORS_ONLY,
        deadline_s=0.2,
    )
    summary = ran(scenario, Clairvoyant()).summary

    assert summary.payloads["input"] == 0
    assert summary.share_in_time is not None
    assert summary.share_in_time > 0.9


def test_waits_at_the_edge_are_those_of_a_fifo() -> None:
    rng = np.random.default_rng(1)
    jobs = list(zip(np.sort(rng.uniform(1.0, 3.0, 40)).tolist(), rng.exponential(0.06, 40).tolist(), strict=True))
    tails = [(1.3, 0.2), (2.2, 0.1)]
    edge = SimpleNamespace(
        backlog_s=lambda now_s: 0.15,
        jobs=SimpleNamespace(between=lambda after_s, until_s: (j for j in jobs if after_s < j[0] <= until_s)),
    )
    ahead = EdgeAhead(cast(SimulatedEdge, edge))
    for tail in reversed(tails):
        ahead.sent(*tail)
    arrives_s = rng.uniform(1.0, 3.0, (3, 7))

    expected = []
    for at_s in arrives_s.ravel():
        free_s = 1.0 + 0.15
        for came_s, service_s in sorted(jobs + tails):
            if came_s <= at_s:
                free_s = max(free_s, came_s) + service_s
        expected.append(max(free_s - at_s, 0.0))
    np.testing.assert_allclose(ahead.waits_s(1.0, arrives_s).ravel(), expected, atol=1e-12)


def test_the_queue_grows_with_every_frame_to_come() -> None:
    ahead = QueueAhead(2, 1.0, np.array([0.5, 1.0, 1.4, 1.7, 9.0]))

    np.testing.assert_allclose(ahead.area_s(np.array([[1.0, 1.3], [1.5, 2.0]])), [[0.0, 0.6], [1.1, 2.9]])


def test_a_queue_that_is_only_expected_grows_as_it_does_in_the_mean() -> None:
    rng = np.random.default_rng(1)
    until_s = np.array([[1.2, 1.5], [2.0, 3.0]])
    areas_s = [
        QueueAhead(2, 1.0, np.sort(rng.uniform(1.0, 9.0, rng.poisson(24.0)))).area_s(until_s) for _ in range(4000)
    ]

    expected_s = QueueExpected(2, 1.0, task_rate_per_s=3.0).area_s(until_s)
    np.testing.assert_allclose(expected_s, np.mean(areas_s, axis=0), rtol=0.02)


@pytest.mark.slow
def test_blind_to_everything_it_costs_more_than_seeing_it_and_no_more_than_open_loop() -> None:
    busy = APART.model_copy(update={"task_rate_per_s": 1.0, "arrivals": "poisson", "tasks": 800, "load_share": 0.7})
    deciders: tuple[Deciding | str, ...] = (Clairvoyant(), Clairvoyant(foresees=()), "open-loop")
    seeing, blind, open_loop = (ran(busy, decider).costs_s.mean() for decider in deciders)

    # Open loop takes the backlog to drain while a payload is on its way; this one expects new work to come meanwhile.
    assert seeing < 0.98 * blind
    assert blind < 1.01 * open_loop
