"""The learned rule: open loop with both sides of the comparison corrected by what was learnt (design section 5).

It stops iff ``max(best P0 + g_P, exit) >= C0 + g_C``. Without weights it is exactly the open-loop rule. Evidence that
the exits which are run cannot show at an epoch (a task whose plan has changed under way) is not corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.evaluation import Evaluation
from twin_service.decision.features import Points, features, point_features
from twin_service.decision.optimising import OPEN_LOOP, Optimising
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array
from twin_service.decision.stopping import PresentPayoffs
from twin_service.decision.tables import QUEUES, PlanTable
from twin_service.decision.utility import Batch
from twin_service.decision.value_net import CONTINUING, OFFLOADING, ValueNet
from twin_service.decision.values import OpenLoopValues, Payoffs
from twinsplit.model.manifest import Manifest
from twinsplit.types import Decision

NO_CORRECTION = (0.0, 0.0)


@dataclass(frozen=True)
class Learned:
    """A rule with weights. ``net_of``: those in force for a model; ``None``: it has none."""

    name: str
    net_of: Callable[[Manifest], ValueNet | None]
    is_reduced: bool = False
    """Whether R1 and R2 rule decisions out while there are no weights."""
    is_learned_reduced: bool = False
    """Likewise with weights: an approximation there, since what R1 and R2 rule out lowers the C0 that was learnt on."""

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        net = self.net_of(situations[0].manifest)
        if net is None:
            return replace(OPEN_LOOP, is_reduced=self.is_reduced).evaluate(situations)
        rule = Optimising(self.name, is_reduced=self.is_learned_reduced, correct=partial(corrected, net))
        return rule.evaluate(situations)

    def table(self, situation: Situation) -> PlanTable:
        return self.evaluate([situation])[0].plan_table


def decide(payoffs: Payoffs, correction: tuple[float, float] = NO_CORRECTION) -> Decision:
    """What is best at a point; ``correction``: (g_C, g_P), seconds. Ties stop at an exit first and go on last."""
    going_on, offloading = correction
    remaining = payoffs.going_on + going_on
    best = (payoffs.tensor if payoffs.tensor >= payoffs.input else payoffs.input) + offloading
    if best > remaining and best > payoffs.exit:
        return Decision.OFFLOAD_TENSOR if payoffs.tensor >= payoffs.input else Decision.OFFLOAD_INPUT
    return Decision.EXIT if payoffs.exit >= remaining else Decision.CONTINUE


def correction_at(
    net: ValueNet,
    values: OpenLoopValues,
    payoffs: Payoffs,
    epoch: int,
    evidence: int,
    queue: float,
    backlog_s: float,
    uplink_busy_s: float,
    arrived_work_s: tuple[float, ...],
) -> tuple[float, float]:
    """(g_C, g_P) at a point with open-loop ``payoffs``, seconds; rate and busy share are those of ``values``."""
    if values.is_whole and epoch == values.last_epoch:
        return NO_CORRECTION  # what ends there is known
    situation = values.situation
    lead_s = (payoffs.tensor if payoffs.tensor >= payoffs.input else payoffs.input) - payoffs.going_on
    row = point_features(
        epoch / values.last_epoch,
        values.p_exit_right[evidence],
        values.p_whole_right[evidence],
        evidence > 0,
        queue,
        backlog_s,
        uplink_busy_s,
        arrived_work_s,
        situation.task_rate_per_s,
        situation.busy_share,
        lead_s,
    )
    return net.correct_point(row)


def corrected(
    net: ValueNet, situations: Sequence[Situation], batch: Batch, payoffs: PresentPayoffs, backlog_s: Array
) -> PresentPayoffs:
    """``payoffs`` with the corrections of ``net`` at every cell that the exits which are run can lead to."""
    going_on = payoffs.going_on.copy()
    learned = np.zeros_like(going_on)
    lead_s = np.maximum(payoffs.tensor, payoffs.input)[..., None] + payoffs.right[:, None, None, None] - going_on
    for device, situation in enumerate(situations):
        epochs, evidence = np.nonzero(reachable(batch, batch.exits_run[device]))
        rows = features(
            Points(
                epoch_share=(epochs / batch.last_epoch)[:, None, None],
                evidence=evidence[:, None, None],
                p_exit_right=batch.statistics.p_exit_right,
                p_whole_right=batch.statistics.p_whole_right,
                queue=QUEUES[:, None],
                backlog_s=backlog_s[device],
                uplink_busy_s=situation.uplink_busy_s,
                arrived_work_s=situation.arrived_work_s,
                task_rate_per_s=situation.task_rate_per_s,
                busy_share=situation.busy_share,
                lead_s=lead_s[device, epochs, :, :, evidence],
            )
        )  # (cells, Q, G, F)
        found = net.correct(rows.reshape(-1, rows.shape[-1])).reshape(*rows.shape[:-1], -1)
        going_on[device, epochs, :, :, evidence] += found[..., CONTINUING]
        learned[device, epochs, :, :, evidence] = found[..., OFFLOADING]
    return replace(payoffs, going_on=going_on, learned=learned)


def reachable(batch: Batch, exits_run: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells (epoch, evidence) that a task meets with these exits where something is to be learnt: not at the end of the
    whole network, where all is known.  # (K, E)"""
    statistics = batch.statistics
    cells = np.zeros((batch.last_epoch + 1, statistics.evidence_count), dtype=bool)
    shown = [0]
    for epoch in range(batch.last_epoch + (not batch.is_whole)):
        for index, at in enumerate(statistics.exit_epochs):
            if at == epoch and exits_run[index]:
                shown = list(range(1 + index * statistics.bin_count, 1 + (index + 1) * statistics.bin_count))
        cells[epoch, shown] = True
    return cells
