"""What ``twin tune`` foretells of its weights is what the simulator brings with them in force.

Tasks are recorded under the default weights, weights are found for a wish, and the same world (the same arrivals,
evidence, load: common random numbers) is run with them. Tolerances: accuracy 0.5 points, mean latency and energy 3 %,
95th percentile 15 % (30 of 600 tasks lie beyond it). On another seed, whose tasks are others: 1.5 points, 12 %, 20 %.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from benchmarks.scenario import Scenario, changed_scenario, read_scenario
from benchmarks.simulator.points import ByPoint
from benchmarks.simulator.teaching import LEARNING_SEED, recorded
from benchmarks.simulator.world import World, model_of
from twin_service.tuning import search
from twin_service.tuning.groups import Weighting
from twin_service.tuning.recorded import Recorded
from twin_service.tuning.rerun import recorded_outcomes, rerun
from twin_service.tuning.tape import tape_of
from twin_service.tuning.tuning import best_weights
from twin_service.tuning.wishes import Figures, Wish, Wished, figures_of

SCENARIOS = Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios"
TASKS = 600
OTHER_SEED = 5
FEWER = {"ALPHAS_S": (0.25, 1.0, 4.0, 16.0), "BETAS_S_PER_JOULE": (0.0, 0.05, 0.5), "_REFINED": 1}
"""Weights looked at: enough to find some that bring the wishes below."""


@lru_cache(maxsize=1)
def record(name: str) -> tuple[Scenario, Recorded]:
    scenario = read_scenario(SCENARIOS / f"{name}.yaml")
    manifest, digest = model_of(scenario.model)
    return scenario, Recorded(digest, manifest, tuple(recorded(scenario, TASKS)), {})


def simulated(scenario: Scenario, weighting: Weighting, seed: int) -> Figures:
    run = changed_scenario(scenario, **weighting._asdict(), tasks=TASKS, warm_up_tasks=0)
    summary = World(run, seed, ByPoint("open-loop", None)).run().summary
    assert summary.latency_p95_s is not None
    return Figures(
        summary.booked_accuracy, summary.mean_time_s, summary.latency_p95_s, summary.energy_joules, summary.ends
    )


def assert_alike(told: Figures, came: Figures, *, points: float, mean: float, p95: float) -> None:
    assert told.accuracy == pytest.approx(came.accuracy, abs=points / 100.0)
    assert told.latency_mean_s == pytest.approx(came.latency_mean_s, rel=mean)
    assert told.energy_joules == pytest.approx(came.energy_joules, rel=mean)
    assert told.latency_p95_s == pytest.approx(came.latency_p95_s, rel=p95)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "wish", "other_seed"),
    [
        ("demo", Wish(Wished.LATENCY_P95, 0.15), True),
        ("demo", Wish(Wished.ENERGY, 0.17), True),
        # Its link changes every ten seconds or so: other seeds are other worlds.
        ("slow-device", Wish(Wished.ACCURACY, 0.87), False),
    ],
)
def test_what_is_foretold_comes(name: str, wish: Wish, other_seed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, value in FEWER.items():
        monkeypatch.setattr(search, setting, value)
    scenario, tasks = record(name)
    found, before = best_weights(tasks, wish)
    assert found.is_met
    chosen = found.chosen
    assert abs(wish.value(chosen.figures) - wish.value(before)) > 0.01 * wish.limit  # other weights are needed for it
    same = simulated(scenario, chosen.weighting, LEARNING_SEED)
    assert_alike(chosen.figures, same, points=0.5, mean=0.03, p95=0.15)
    if other_seed:
        assert_alike(chosen.figures, simulated(scenario, chosen.weighting, OTHER_SEED), points=1.5, mean=0.12, p95=0.2)


@pytest.mark.slow
def test_under_the_weights_that_were_in_force_all_stays_as_it_was() -> None:
    _, tasks = record("demo")
    tape = tape_of(tasks.tasks, tasks.manifest)
    before, again = recorded_outcomes(tape), rerun(tape, tape.newest)
    assert (before.decision == again.decision).mean() >= 0.98
    assert_alike(figures_of(again), figures_of(before), points=0.1, mean=0.01, p95=0.05)
