"""Weights for a scenario: one run under open loop on a seed of its own, replayed by the workload twin, one lesson."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import lru_cache

from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.points import ByPoint
from benchmarks.simulator.recording import Recording
from benchmarks.simulator.world import World, model_of
from twin_service.decision.value_net import ValueNet
from twin_service.learning.lesson import learn
from twin_service.learning.options import LearningOptions, TrainingOptions
from twin_service.workload.replayed import Replayed

LEARNING_SEED = 2_000_001
LEARNING_TASKS = 8_000
"""At most; a shorter scenario is learnt on five times its own tasks."""


class Teaching(str, Enum):
    """How weights are learnt."""

    FULL = "learned"
    """Both heads, counterfactual labels, and the promotion gate: as the twin service learns."""
    ONE_HEAD = "learned-one-head"
    """C only, P left at P0; without the gate, which would refuse it."""
    FACTUAL = "learned-factual"
    """Only from what tasks really did, no counterfactuals; without the gate, which needs them."""

    @property
    def options(self) -> LearningOptions:
        """Options of the lesson. What serves decides by exact state, where nothing is stale: it sees every feature."""
        training = TrainingOptions(
            ignored=(), is_one_head=self is Teaching.ONE_HEAD, is_counterfactual=self is not Teaching.FACTUAL
        )
        return replace(LearningOptions(), training=training)


def recorded(scenario: Scenario, tasks: int, seed: int = LEARNING_SEED) -> list[Replayed]:
    """So many tasks of ``scenario`` under open loop, each under all its decisions."""
    recording = Recording(seed)
    run = changed_scenario(scenario, tasks=tasks, warm_up_tasks=min(scenario.warm_up_tasks, tasks // 10))
    World(run, seed, ByPoint("open-loop", None), listeners=[recording]).run()
    return recording.close()


def taught(scenario: Scenario, teaching: Teaching) -> ValueNet | None:
    """Weights that serve on ``scenario``; ``None``: the gate let none through, so open loop decides.

    Raises:
        TrainingError: torch is not installed, or training diverged.
    """
    manifest, _ = model_of(scenario.model)
    tasks = _recorded_once(scenario.model_copy(update={"seed": LEARNING_SEED}))
    promoted, report = learn(tasks, manifest, options=teaching.options)
    return promoted if teaching is Teaching.FULL else report.candidate


# The variants of one scenario learn from the same tasks.
@lru_cache(maxsize=1)
def _recorded_once(scenario: Scenario) -> list[Replayed]:
    return recorded(scenario, min(LEARNING_TASKS, 5 * (scenario.tasks or LEARNING_TASKS)))
