"""Backward induction and its restrictions: one engine for all rules that optimise.

``open-loop`` sees evidence and looks again at every epoch; ``load-only`` looks again but sees mean accuracies;
``one-time`` sees mean accuracies and decides at service start; ``one-time-myopic`` also ignores the waiting it causes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.deadline import TimedPayoffs, exits_worth_running, timed_payoffs
from twin_service.decision.evaluation import BatchRule, Evaluation
from twin_service.decision.reduction import Pruning, ceiling_s
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array, Statistics, statistics_of, statistics_without_evidence
from twin_service.decision.stopping import PresentPayoffs, present_payoffs, start_values
from twin_service.decision.tables import QUEUES, PlanTable, banded
from twin_service.decision.utility import Batch, Representations, batch_of
from twinsplit.model.manifest import Manifest
from twinsplit.plan import Observation

GRID_POINTS = 20
_GRID_SHARES = np.linspace(0.0, 1.0, GRID_POINTS) ** 2.5
"""Points lie dense where backlogs are short: where they begin to exceed the way of a payload its payoff bends."""
MAX_BACKLOG_S = 30.0
"""Top of the backlog grid where no alternative limits it."""
_MAX_ENUMERATED_EXITS = 4
_WEIGHED_BACKLOGS = np.array([0.0, 0.7, 2.0, 4.0, 8.0])
"""Backlogs at which exits are weighed, in parts of its mean. The long ones are rare, but where all sets offload at once
at the others only they tell them apart."""

_LEAST_UPLOAD_S = 0.02
"""Where the longest payload is sent sooner, a busy uplink is not told apart."""
_BUSY_FROM = 1.0 / 3.0
"""Part of the longest payload from which the uplink counts as busy with all of it. Nearest would be a half; but what an
offload makes later ones wait is priced nowhere, so that the busy side is wrong less often (formulation, "The uplink in
a plan")."""


Correcting = Callable[[Sequence[Situation], Batch, PresentPayoffs, Array], PresentPayoffs]
"""What is learned, put upon the payoffs of situations on their backlog grids (D, G)."""


@dataclass(frozen=True)
class Optimising(BatchRule):
    """Backward induction; the flags take away what a simpler rule does not know."""

    name: str = "open-loop"
    has_evidence: bool = True
    observation: Observation = Observation.EACH_EPOCH
    is_myopic: bool = False
    is_reduced: bool = False
    correct: Correcting | None = None

    def evaluate(self, situations: Sequence[Situation], exits_run: NDArray[np.bool_] | None = None) -> list[Evaluation]:
        """``exits_run`` (D, X): which exits are run; ``None``: those worth it."""
        if any(s.weights.deadline_s is not None for s in situations):
            return self._evaluate_apart(situations, exits_run)
        if self.is_myopic:
            situations = [replace(s, is_caused_waiting_counted=False) for s in situations]
        manifest = situations[0].manifest
        if exits_run is None:
            batch = self._with_exits_worth_running(situations)
        else:
            batch = batch_of(situations, self._statistics(manifest), exits_run)
        count, apart = len(situations), _told_apart(situations, batch)
        if apart:
            idle = [replace(s, uplink_busy_s=0.0) if k in apart else s for k, s in enumerate(situations)]
            situations = idle + [replace(situations[k], uplink_busy_s=longest_s) for k, longest_s in apart.items()]
            batch = batch.rows(np.array([*range(count), *apart]))
            batch = replace(batch, uplink_busy_s=np.array([s.uplink_busy_s for s in situations]))
        payoffs, backlog_s = self._payoffs(situations, batch, is_reduced=self.is_reduced)
        evaluations = []
        for device, situation in enumerate(situations):
            table, edges = banded(payoffs, device, backlog_s[device])
            plan_table = self._plan_table(manifest, batch, device, table, edges)
            # What is pruned is worth less than it is.
            own = None if self.is_reduced else partial(self._dense, manifest, payoffs, device, backlog_s[device])
            evaluations.append(
                Evaluation(
                    plan_table,
                    payoffs.pruning,
                    partial(self._payoffs_with, situation),
                    own=own,
                    start_values=partial(self._start_values_with, situation) if self.correct is None else None,
                )
            )
        for (k, longest_s), busy in zip(apart.items(), evaluations[count:], strict=True):
            evaluations[k] = evaluations[k].told_apart(_BUSY_FROM * longest_s, busy)
        return evaluations[:count]

    def _plan_table(
        self,
        manifest: Manifest,
        batch: Batch,
        device: int,
        table: NDArray[np.uint8],
        band_edges_s: tuple[float, ...],
        age_edges_s: tuple[float, ...] = (),
    ) -> PlanTable:
        tensor, sent_input = batch.payloads.representation
        return PlanTable(
            table if self.has_evidence else table[:, _spread(manifest)],
            band_edges_s,
            tuple(bool(run) for run in batch.exits_run[device]),
            tuple(tensor[device].tolist()),
            tuple(sent_input[device].tolist()),
            self.observation,
            tuple(float(t) for t in batch.reached_s[device, 1:]),
            age_edges_s,
        )

    def _evaluate_apart(self, situations: Sequence[Situation], exits_run: NDArray[np.bool_] | None) -> list[Evaluation]:
        """Situations with a deadline one by one."""
        evaluations = []
        for device, s in enumerate(situations):
            run = None if exits_run is None else exits_run[[device]]
            deadline_s = s.weights.deadline_s
            if deadline_s is None:
                evaluations += self.evaluate([s], run)
                continue
            counted = replace(s, is_caused_waiting_counted=False) if self.is_myopic else s
            run = self.exits_run([counted]) if run is None else run
            batch = batch_of([counted], self._statistics(s.manifest), run)
            bands = timed_payoffs(batch, counted, self.observation).table()
            plan_table = self._plan_table(s.manifest, batch, 0, *bands)
            evaluations.append(Evaluation(plan_table, Pruning(), timed_with=partial(self._timed_with, counted)))
        return evaluations

    def _statistics(self, manifest: Manifest) -> Statistics:
        return statistics_of(manifest) if self.has_evidence else statistics_without_evidence(manifest)

    def exits_run(self, situations: Sequence[Situation]) -> NDArray[np.bool_]:
        """Which exits are worth running: value at service start over a few queue lengths and backlogs.  # (D, X)"""
        if len(situations) > 1 and any(s.weights.deadline_s is not None for s in situations):
            return np.concatenate([self.exits_run([s]) for s in situations])
        return self._with_exits_worth_running(situations).exits_run

    def _with_exits_worth_running(self, situations: Sequence[Situation]) -> Batch:
        """``situations`` with these exits run; one alone where there is a deadline."""
        statistics = self._statistics(situations[0].manifest)
        sets = exit_sets(len(statistics.exit_epochs))
        every = [s for s in situations for _ in sets]
        batch = batch_of(every, statistics, np.tile(sets, (len(situations), 1)))
        if situations[0].weights.deadline_s is not None:
            return batch.rows(np.array([exits_worth_running(batch, situations[0])]))
        backlog_s = batch.backlog_mean_s[:, None] * _WEIGHED_BACKLOGS
        value = start_values(batch, QUEUES[:2], backlog_s).mean(axis=(1, 2)).reshape(len(situations), len(sets))
        return batch.rows(np.arange(len(situations)) * len(sets) + value.argmax(axis=1))

    def backlog_grid_s(self, batch: Batch) -> Array:
        """Backlogs at which payoffs are reckoned: from none to where no decision depends on it.  # (D, G)"""
        top = ceiling_s(batch, QUEUES)
        if self.observation is Observation.SERVICE_START:
            top = top + batch.reached_s[:, -1]  # it drains until a later epoch looks at what was seen at the start
        top = np.clip(top, 0.01, MAX_BACKLOG_S)
        grid: Array = top[:, None] * _GRID_SHARES
        return grid

    def _payoffs(
        self, situations: Sequence[Situation], batch: Batch, *, is_reduced: bool
    ) -> tuple[PresentPayoffs, Array]:
        """Payoffs and their backlog grid (D, G)."""
        backlog_s = self.backlog_grid_s(batch)
        payoffs = present_payoffs(batch, QUEUES, backlog_s, self.observation, is_reduced=is_reduced)
        if self.correct is not None:
            payoffs = self.correct(situations, batch, payoffs, backlog_s)
        return payoffs, backlog_s

    def _start_values_with(self, situation: Situation, tables: Sequence[PlanTable], backlog_s: Array) -> Array:
        batch = self._batch_like(situation, tables)
        return start_values(batch, QUEUES, np.tile(backlog_s, (len(tables), 1)))

    def _batch_like(self, situation: Situation, tables: Sequence[PlanTable]) -> Batch:
        """``situation`` once with the exits and representations of each table."""
        return batch_of(
            [situation] * len(tables),
            self._statistics(situation.manifest),
            np.array([table.exits_run for table in tables]),
            [Representations(table.tensor_representations, table.input_representations) for table in tables],
        )

    def _payoffs_with(self, situation: Situation, like: PlanTable) -> tuple[Array, Array]:
        manifest = situation.manifest
        batch = self._batch_like(situation, [like])
        payoffs, backlog_s = self._payoffs([situation], batch, is_reduced=False)
        return self._dense(manifest, payoffs, 0, backlog_s[0])

    def _dense(self, manifest: Manifest, payoffs: PresentPayoffs, device: int, backlog_s: Array) -> tuple[Array, Array]:
        dense = payoffs.dense(device)
        return dense if self.has_evidence else dense[..., _spread(manifest)], backlog_s

    def _timed_with(self, situation: Situation, like: PlanTable) -> TimedPayoffs:
        payoffs = timed_payoffs(self._batch_like(situation, [like]), situation, self.observation)
        return payoffs if self.has_evidence else payoffs.spread(_spread(situation.manifest))


def _told_apart(situations: Sequence[Situation], batch: Batch) -> dict[int, float]:
    """Situations whose plan tells a busy uplink from a free one, by place, with the time in which the longest payload
    that they may send keeps it busy, seconds."""
    longest_s = batch.payloads.upload_s.max(axis=(0, 2))
    return {
        k: float(longest_s[k])
        for k, s in enumerate(situations)
        if s.uplink_busy_share is not None and longest_s[k] > _LEAST_UPLOAD_S
    }


def exit_sets(count: int) -> NDArray[np.bool_]:
    """Sets of exits that are weighed: all subsets of few, else none, all and each alone.  # (sets, X)"""
    if count <= _MAX_ENUMERATED_EXITS:
        return np.array(list(product((False, True), repeat=count)), dtype=bool).reshape(2**count, count)
    return np.concatenate((np.zeros((1, count), bool), np.ones((1, count), bool), np.eye(count, dtype=bool)))


def _spread(manifest: Manifest) -> NDArray[np.int64]:
    """Column of the one-bin statistics for every full evidence state."""
    bins = manifest.bin_count
    return np.array([0] + [1 + (e - 1) // bins for e in range(1, manifest.evidence_count)])


OPEN_LOOP = Optimising()
LOAD_ONLY = Optimising("load-only", has_evidence=False)
ONE_TIME = Optimising("one-time", has_evidence=False, observation=Observation.SERVICE_START)
ONE_TIME_MYOPIC = replace(ONE_TIME, name="one-time-myopic", is_myopic=True)
