"""Rules with a fixed cut, a fixed threshold of confidence or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.evaluation import BatchRule, Evaluation
from twin_service.decision.optimising import ONE_TIME
from twin_service.decision.reduction import Pruning
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.tables import PlanTable
from twin_service.decision.utility import Batch, batch_of
from twinsplit.model.manifest import Manifest
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import Decision


@dataclass(frozen=True)
class Fixed(BatchRule):
    """Offload at cut ``cut`` (``None``: never), leave at an exit whose calibrated P(right) reaches ``threshold``."""

    name: str
    cut: int | None
    threshold: float | None = None

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        return [Evaluation(self._fixed(s), Pruning()) for s in situations]

    def _fixed(self, s: Situation) -> PlanTable:
        manifest = s.manifest
        statistics = statistics_of(manifest)
        exits_run = (self.threshold is not None,) * len(manifest.exits)
        batch = batch_of([s], statistics, exits_run)
        table = np.full(
            (manifest.held_segments + 1, manifest.evidence_count, QUEUE_LEVELS, 1), Decision.CONTINUE, dtype=np.uint8
        )
        if self.threshold is not None:
            table |= exit_cells(manifest, self.threshold)[:, :, None, None]
        if self.cut is not None:
            self._offload_from(table, batch, self.cut)
        return PlanTable(
            table,
            (),
            exits_run,
            tuple(int(r) for r in batch.tensor.representation[0]),
            tuple(int(r) for r in batch.input.representation[0]),
            Observation.EACH_EPOCH,
            tuple(float(t) for t in batch.reached_s[0, 1:]),
        )

    def _offload_from(self, table: NDArray[np.uint8], batch: Batch, cut: int) -> None:
        """OFFLOAD at ``cut`` or, where nothing may be sent there, at the first epoch after it that can send."""
        for epoch in range(cut, len(table)):
            row = table[epoch]
            if batch.tensor.is_available[0, epoch]:
                row[row == Decision.CONTINUE] = Decision.OFFLOAD_TENSOR
                return
            if epoch == 0 and batch.input.is_available[0, 0]:
                row[...] = Decision.OFFLOAD_INPUT
                return


def exit_cells(manifest: Manifest, threshold: float) -> NDArray[np.uint8]:
    """EXIT where the last exit's calibrated P(right) reaches ``threshold``, at the epoch of that exit.  # (K, E)"""
    cells = np.zeros((manifest.held_segments + 1, manifest.evidence_count), dtype=np.uint8)
    for e in manifest.exits:
        if e.after_segment <= manifest.held_segments:
            for bin_index, p_right in enumerate(e.p_right):
                if p_right >= threshold:
                    cells[e.after_segment, 1 + e.index * manifest.bin_count + bin_index] = Decision.EXIT
    return cells


@dataclass(frozen=True)
class OneTimeThreshold(BatchRule):
    """``one-time``, but every exit on the way is run and left at when its calibrated P(right) reaches ``threshold``."""

    name: str
    threshold: float

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        # Exits are put into one table alone.
        situations = [replace(s, uplink_busy_share=None) for s in situations]
        evaluations = ONE_TIME.evaluate(situations)
        for device, s in enumerate(situations):
            if s.weights.deadline_s is not None:  # then the time of the exits decides what is in time
                every = np.ones((1, len(s.manifest.exits)), dtype=bool)
                evaluations[device] = ONE_TIME.evaluate([s], every)[0]
        return [self._with_exits(e, s) for e, s in zip(evaluations, situations, strict=True)]

    def _with_exits(self, evaluation: Evaluation, s: Situation) -> Evaluation:
        base = evaluation.plan_table
        table = base.table.copy()
        exits = exit_cells(s.manifest, self.threshold)
        table[exits == Decision.EXIT] = Decision.EXIT
        exits_run = (True,) * len(s.manifest.exits)
        reached = batch_of([s], statistics_of(s.manifest), exits_run).reached_s[0, 1:]
        changed = replace(base, table=table, exits_run=exits_run, boundaries_s=tuple(float(t) for t in reached))
        return Evaluation(changed, evaluation.pruning)
