"""What ended tasks cost, and what hindsight would have saved: running sums for metrics. Sans-IO.

Cost is the glossary's: ``alpha (A_whole - A) + T + beta E``, and the penalty of a task without an answer. A is the
calibrated accuracy, since nobody tells the service which answers are right. Cost is kept in parts that only grow: part
``accuracy`` is ``alpha (1 - A)``, and ``alpha (1 - A_whole)`` is summed apart. Energy that is not known is left out.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from twin_service.decision.situation import Weights
from twin_service.learning.promotion import live_gain_s
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.model.manifest import Manifest
from twinsplit.telemetry.histogram import Histogram
from twinsplit.types import Decision, TaskRecord

GAIN_MEMORY_TASKS = 200
"""The mean gain over open-loop is one over about so many newest tasks."""


class CostPart(str, Enum):
    """What a cost is made of."""

    ACCURACY = "accuracy"
    LATENCY = "latency"
    ENERGY = "energy"
    LOSS = "loss"
    """Penalty of a task that was dropped or failed."""


class Accounts:
    """Sums over all ended tasks since the start of the service, seconds of utility."""

    def __init__(self) -> None:
        self.cost_s = dict.fromkeys(CostPart, 0.0)
        self.whole_network_s = 0.0
        """``alpha (1 - A_whole)`` of the same tasks."""
        self.costed = 0
        """Tasks in these sums: those without an answer, and those whose answer is calibrated."""
        self.regret_s = Histogram.of("twinsplit_regret_seconds")
        self.open_loop_gain_s: float | None = None
        """Mean utility of replayed tasks less what open-loop would have brought them; ``None``: none was replayed.

        What was done is measured, what open-loop would have done is reckoned: the level also holds what a busy machine
        and older plans cost, so its changes tell something, its sign does not.
        """
        self._gains = 0

    def task_ended(self, task: TaskRecord, manifest: Manifest, weights: Weights) -> None:
        """Book a task's cost; an answer of unknown accuracy has none."""
        is_answered = task.outcome.is_answered
        if is_answered and task.confidence is None:
            return
        is_in_time = weights.deadline_s is None or task.latency_s <= weights.deadline_s
        accuracy = task.confidence if is_answered and is_in_time and task.confidence is not None else 0.0
        self.cost_s[CostPart.ACCURACY] += weights.alpha_s * (1.0 - accuracy)
        self.whole_network_s += weights.alpha_s * (1.0 - manifest.p_whole_right(task.evidence))
        self.cost_s[CostPart.LATENCY] += max(task.latency_s, 0.0)
        if task.energy_joules is not None:
            self.cost_s[CostPart.ENERGY] += weights.beta_s_per_joule * max(task.energy_joules, 0.0)
        if not is_answered:
            self.cost_s[CostPart.LOSS] += weights.loss_penalty_s
        self.costed += 1

    def task_replayed(self, task: Replayed, manifest: Manifest | None) -> None:
        """Book what hindsight and open-loop would have made of a task; ``manifest`` ``None``: it is not known."""
        regret_s = hindsight_regret_s(task)
        if regret_s is not None:
            self.regret_s.observe(regret_s)
        gain_s = None if manifest is None else live_gain_s(task, manifest)
        if gain_s is not None:
            self._gains += 1
            known_s = 0.0 if self.open_loop_gain_s is None else self.open_loop_gain_s
            self.open_loop_gain_s = known_s + (gain_s - known_s) / min(self._gains, GAIN_MEMORY_TASKS)


def hindsight_regret_s(task: Replayed) -> float | None:
    """Utility of the best stop that the task could have made, less that of the one it made, seconds, 0 or more.

    Hindsight knows arrivals, backlog and evidence, not whether an answer is right. No rule can reach 0 for all tasks.
    After the task's deadline no answer is worth anything. ``None``: what it did has no number.
    """
    latest_s = math.inf if task.deadline_s is None else task.deadline_s
    age_s = task.waited_s + task.reached_s  # (K,)
    exit_s = task.exit_s * (age_s <= latest_s)
    offload_s = task.offload_s - task.alpha_s * task.accuracy * (age_s[:, None] + task.latency_s > latest_s)
    spent_s = np.concatenate(([0.0], np.cumsum(task.step_cost_s, dtype=np.float64)))  # (K,)
    ends_s = np.column_stack((exit_s, offload_s)) - spent_s[:, None]  # (K, 3)
    finish_s = task.finish_s * bool(age_s[-1] <= latest_s) - spent_s[-1]
    at = task.taken_epoch
    taken_s = {
        Decision.CONTINUE: finish_s,
        Decision.EXIT: ends_s[at, 0],
        Decision.OFFLOAD_TENSOR: ends_s[at, 1 + TENSOR],
        Decision.OFFLOAD_INPUT: ends_s[at, 1 + INPUT],
    }[task.taken]
    if not math.isfinite(taken_s):
        return None
    return max(float(np.nanmax((*ends_s.ravel(), finish_s))) - float(taken_s), 0.0)
