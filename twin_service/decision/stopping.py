"""Backward induction over (epoch, evidence) with queue and backlog dead-reckoned: the open-loop continuation value.

For every *present* epoch, queue length and backlog the future is a fixed course of queue and backlog, so the value of
going on follows from the last epoch back. What each decision is worth at the present epoch is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twin_service.decision.reduction import Pruning, hopeless, ruled_out
from twin_service.decision.statistics import Array
from twin_service.decision.utility import NEVER, Batch, Course, course, offload
from twinsplit.plan import Observation
from twinsplit.types import Decision


@dataclass(frozen=True, slots=True)
class PresentPayoffs:
    """Expected utility to go of every decision, seconds: one array per epoch, (decision, D, Q, G, E)."""

    by_epoch: tuple[Array, ...]
    pruning: Pruning = field(default_factory=Pruning)


def present_payoffs(
    batch: Batch,
    queue: Array,
    backlog_s: Array,
    observation: Observation = Observation.EACH_EPOCH,
    *,
    is_reduced: bool = True,
) -> PresentPayoffs:
    """Payoffs of all decisions at every epoch.

    ``queue`` (Q,) and ``backlog_s`` (D, G) are those at the present epoch; with ``Observation.SERVICE_START`` they are
    those at service start, and the payoffs at later epochs are what was expected of them then. ``is_reduced`` switches
    R1 and R2, which change no payoff at the present epoch that could win.
    """
    epochs = np.arange(batch.last_epoch + 1)
    is_start_only = observation is Observation.SERVICE_START
    present = course(batch, queue, backlog_s, np.zeros_like(epochs) if is_start_only else epochs, epochs)
    here = _offloads(batch, present)
    pruning = Pruning()
    ahead = {} if is_start_only else _offloads_ahead(batch, queue, backlog_s, pruning if is_reduced else None)
    right = (batch.alpha[:, None] * batch.statistics.p_whole_right)[:, None, None, None, :]
    shape = (len(Decision), batch.size, len(queue), backlog_s.shape[1], batch.statistics.evidence_count)
    by_epoch: list[Array] = []
    value: Array | None = None  # (D, S, Q, G or 1, E): best from the epoch after on, seen from presents before it
    for epoch in range(batch.last_epoch, -1, -1):
        exit_payoff = _exit_payoff(batch, epoch)
        going_on = _continuing(batch, epoch, present.queue[:, [epoch]], None if value is None else value[:, -1:])
        payoffs = np.full(shape, NEVER)
        for decision, base in here.items():
            np.add(base[:, epoch, :, :, None], right[:, 0], out=payoffs[decision])
        payoffs[Decision.EXIT] = exit_payoff[:, None, None, :]
        payoffs[Decision.CONTINUE] = going_on[:, 0]
        by_epoch.append(payoffs)
        if is_start_only:
            value = payoffs.max(axis=0)[:, None]
        elif epoch:
            queue_then = queue + batch.task_rate[:, None, None] * (
                batch.reached_s[:, epoch, None, None] - batch.reached_s[:, :epoch, None]
            )
            value = _continuing(batch, epoch, queue_then, None if value is None else value[:, :-1])
            value = np.maximum(value, exit_payoff[:, None, None, None, :])
            if epoch in ahead:
                value = np.maximum(value, ahead[epoch][..., None] + right)
            value = np.broadcast_to(value, (batch.size, epoch, *value.shape[2:]))
    return PresentPayoffs(tuple(reversed(by_epoch)), pruning)


def _offloads(batch: Batch, there: Course) -> dict[Decision, Array]:
    """Offloading payoffs less ``alpha * P(whole right)``, each (D, P, Q, G)."""
    return {
        decision: offload(batch, payload, there)
        for decision, payload in ((Decision.OFFLOAD_TENSOR, batch.tensor), (Decision.OFFLOAD_INPUT, batch.input))
        if payload.is_available.any()
    }


def _offloads_ahead(batch: Batch, queue: Array, backlog_s: Array, pruning: Pruning | None) -> dict[int, Array]:
    """Best offload at every epoch ahead, seen from every present before it, less ``alpha * P(whole right)``.

    By epoch (D, S, Q, G). With ``pruning`` the necessary conditions apply, and an epoch at which nothing is left is
    left out: the value there does not depend on the backlog.
    """
    starts, epochs = np.tril_indices(batch.last_epoch + 1, -1)[::-1]
    there = course(batch, queue, backlog_s[:, :1], starts, epochs)
    found: dict[int, Array] = {}
    for payload in (batch.tensor, batch.input):
        is_open = payload.is_available[:, epochs]
        if pruning is not None:
            cells = len(queue) * backlog_s.shape[1]
            pruning.considered += int(is_open.sum()) * cells
            out = ruled_out(batch, payload, queue, there)
            pruning.pruned += int((is_open & out).sum()) * cells
            is_open = is_open & ~out
        for epoch in np.unique(epochs[is_open.any(axis=0)]):
            some = course(batch, queue, backlog_s, np.arange(epoch), np.full(epoch, epoch))
            base = offload(batch, payload, some)
            if pruning is not None:
                shut = ~is_open[:, epochs == epoch][..., None, None] | hopeless(batch, payload, queue, some)
                base = np.where(shut, NEVER, base)
                pruning.pruned += int((shut & is_open[:, epochs == epoch][..., None, None]).sum())
            found[int(epoch)] = np.maximum(found[int(epoch)], base) if int(epoch) in found else base
    return found


def _continuing(batch: Batch, epoch: int, queue: Array, value: Array | None) -> Array:
    """Price of the next segment plus the expected value after it; at the last epoch the whole network's answer.

    ``queue`` (D, S, Q) at the epoch, ``value`` (D, S, Q, G or 1, E) at the next.
    """
    if value is None:
        if not batch.is_whole:
            return np.full((batch.size, 1, 1, 1, 1), NEVER / 2)
        return (batch.alpha[:, None] * batch.statistics.p_whole_right)[:, None, None, None, :]
    step = batch.step_s[:, epoch][:, None, None]
    return batch.after_exits_at(epoch + 1, value) - batch.price(step, queue)[..., None, None]


def _exit_payoff(batch: Batch, epoch: int) -> Array:
    """alpha * P(right) of the last exit that ran; NEVER without one.  # (D, E)"""
    seen = batch.statistics.seen_by(epoch)
    seen[0] = False
    return np.where(seen, batch.alpha[:, None] * batch.statistics.p_exit_right, NEVER)
