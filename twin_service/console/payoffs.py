"""What the decisions at a task's stop were worth, by the plan that decided: why it stopped there.

Read off the payoffs that the planner's rule compared when it made the plan (open loop, with what was learnt where
weights serve), at the queue length and backlog of the stop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from twin_service.console.feed import Ended, Reckoned
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.statistics import Array
from twin_service.decision.tables import interpolated
from twin_service.decision.utility import NEVER
from twinsplit.plan import QUEUE_LEVELS
from twinsplit.types import Decision

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
        return ended.payoffs is not None or ended.decided is None or _key(ended.decided) in self._kept

    def compared(self, ended: Ended) -> Compared | None:
        """What was compared where the task stopped; ``None``: no plan that compares anything decided."""
        if ended.payoffs is None:
            ended.payoffs = self._reckoned(ended) or _NOTHING
        return ended.payoffs if isinstance(ended.payoffs, Compared) else None

    def _reckoned(self, ended: Ended) -> Compared | None:
        decided, task = ended.decided, ended.task
        grid = None if decided is None else self._grid(decided)
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

    def _grid(self, decided: Reckoned) -> _Grid | None:
        key = _key(decided)
        if key not in self._kept:
            self.grids += 1
            self._kept[key] = _grid_of(decided)
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


def _key(decided: Reckoned) -> tuple[int, int]:
    return decided.standing.plan.plan_id, id(decided.standing.evaluation)


def _grid_of(decided: Reckoned) -> _Grid | None:
    standing = decided.standing
    evaluation = standing.evaluation
    if evaluation.timed_with is not None:
        timed = evaluation.timed_with(standing.table)
        return _Grid(evaluation, timed.worth, timed.backlog_s, timed.age_s)
    if evaluation.payoffs_with is not None:
        worth, backlog_s = evaluation.payoffs_with(standing.table)
        return _Grid(evaluation, worth, backlog_s, None)
    return None


def _possible(payoff_s: float) -> float | None:
    return payoff_s if payoff_s > _IMPOSSIBLE else None
