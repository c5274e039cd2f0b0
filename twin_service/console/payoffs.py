"""What the decisions at a task's stop were worth, by the plan that decided: why it stopped there.

Read off the payoffs that the planner's rule compared when it made the plan (open loop, with what was learnt where
weights serve), at the queue length and backlog of the stop. Which of a plan's two tables decided, the one for a free
uplink or the one for a busy one, follows from what was decided.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from twin_service.console.feed import Ended, Reckoned
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.statistics import Array
from twin_service.decision.tables import interpolated
from twin_service.decision.utility import NEVER
from twin_service.device_twin import StandingPlan
from twinsplit.plan import QUEUE_LEVELS
from twinsplit.types import Decision, Outcome, TaskRecord

_KEPT_GRIDS = 16
"""Payoffs of so many plans are kept, some 300 kB each."""
_IMPOSSIBLE = NEVER / 4


@dataclass(frozen=True, slots=True)
class Compared:
    """Expected utility to go, seconds; ``None``: that decision could not be taken."""

    continue_s: float | None
    exit_s: float | None
    offload_s: float | None
    backlog_s: float
    """With which they were reckoned."""
    queue_length: int

    def document(self) -> dict[str, Any]:
        """As the snapshot has it."""
        return {
            "continue_s": self.continue_s,
            "exit_s": self.exit_s,
            "offload_s": self.offload_s,
            "backlog_s": self.backlog_s,
            "queue_length": self.queue_length,
        }


class PayoffBook:
    """Payoffs of ended tasks, reckoned when they are asked for."""

    def __init__(self) -> None:
        self.grids = 0
        """Evaluations made so far."""
        self._kept: OrderedDict[tuple[int, int], _Grid | None] = OrderedDict()

    def is_cheap(self, ended: Ended) -> bool:
        """Whether :meth:`compared` needs no evaluation of the rule, which takes some milliseconds."""
        decided = ended.decided
        if ended.payoffs is not None or decided is None:
            return True
        return _key(decided.standing, _evaluation(decided, ended.task)) in self._kept

    def compared(self, ended: Ended) -> Compared | None:
        """What was compared where the task stopped; ``None``: no plan that compares anything decided."""
        if ended.payoffs is None:
            ended.payoffs = self._reckoned(ended) or _NOTHING
        return ended.payoffs if isinstance(ended.payoffs, Compared) else None

    def _reckoned(self, ended: Ended) -> Compared | None:
        decided, task = ended.decided, ended.task
        grid = None if decided is None else self._grid(decided.standing, _evaluation(decided, task))
        if grid is None or decided is None or task.stop_epoch is None:
            return None
        worth = grid.at(task.stop_epoch, task.evidence, decided)
        offload_s = max(worth[Decision.OFFLOAD_TENSOR], worth[Decision.OFFLOAD_INPUT])
        return Compared(
            _possible(worth[Decision.CONTINUE]),
            _possible(worth[Decision.EXIT]),
            _possible(offload_s),
            decided.backlog_s,
            decided.queue_length,
        )

    def _grid(self, standing: StandingPlan, evaluation: Evaluation) -> _Grid | None:
        key = _key(standing, evaluation)
        if key not in self._kept:
            self.grids += 1
            self._kept[key] = _grid_of(standing, evaluation)
            while len(self._kept) > _KEPT_GRIDS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Payoffs (decision, K, Q, G, E) on the backlogs (G,); with a deadline (decision, K, Q, G, A, E) by age (A,)."""

    evaluation: Evaluation
    """Kept so that its identity, by which the grid is found, is not given to another."""
    worth: Array
    backlog_s: Array
    age_s: Array | None

    def at(self, epoch: int, evidence: int, decided: Reckoned) -> list[float]:
        """By decision."""
        queue = min(decided.queue_length, QUEUE_LEVELS - 1)
        if self.age_s is None:
            there = self.worth[:, epoch, queue, :, evidence]  # (decision, G)
        else:
            age = min(int(np.searchsorted(self.age_s, decided.age_s)), len(self.age_s) - 1)
            there = self.worth[:, epoch, queue, :, age, evidence]
        return [float(w) for w in interpolated(there, self.backlog_s, np.array([decided.backlog_s]))[:, 0]]


_NOTHING = object()


def _evaluation(decided: Reckoned, task: TaskRecord) -> Evaluation:
    """Of the table that decided: that for a free uplink, unless only the other one decides so."""
    standing, epoch = decided.standing, task.stop_epoch
    evaluation = standing.evaluation
    if evaluation.busy is None or epoch is None or epoch >= len(standing.plan.table):
        return evaluation
    seen = (epoch, task.evidence, decided.queue_length, decided.backlog_s, decided.age_s)
    free, busy = (_end(standing.plan.decision(*seen, uplink_busy_s)) for uplink_busy_s in (0.0, math.inf))
    return evaluation.busy if task.outcome is busy and busy is not free else evaluation


def _end(decision: Decision) -> Outcome:
    """How a task ends that stops there with ``decision``."""
    if decision.is_offload:
        return Outcome.EDGE
    return Outcome.EXIT if decision is Decision.EXIT else Outcome.DEVICE


def _key(standing: StandingPlan, evaluation: Evaluation) -> tuple[int, int]:
    return standing.plan.plan_id, id(evaluation)


def _grid_of(standing: StandingPlan, evaluation: Evaluation) -> _Grid | None:
    if evaluation.timed_with is not None:
        timed = evaluation.timed_with(standing.table)
        return _Grid(evaluation, timed.worth, timed.backlog_s, timed.age_s)
    if evaluation.payoffs_with is not None:
        worth, backlog_s = evaluation.payoffs_with(standing.table)
        return _Grid(evaluation, worth, backlog_s, None)
    return None


def _possible(payoff_s: float) -> float | None:
    return payoff_s if payoff_s > _IMPOSSIBLE else None
