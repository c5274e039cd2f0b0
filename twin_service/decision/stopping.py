"""Backward induction over (epoch, evidence) with queue and backlog dead-reckoned: the open-loop continuation value.

For every *present* epoch, queue length and backlog the future is a fixed course of queue and backlog, so the value of
going on follows from the last epoch back. What each decision is worth at the present epoch is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twin_service.decision.reduction import Pruning, hopeless, ruled_out
from twin_service.decision.statistics import Array
from twin_service.decision.utility import NEVER, Batch, course, offload
from twinsplit.plan import Observation
from twinsplit.types import Decision


@dataclass(frozen=True, slots=True, eq=False)
class PresentPayoffs:
    """Expected utility to go of every decision at every epoch, seconds, apart where they depend on different things."""

    tensor: Array  # (D, K, Q, G) OFFLOAD_TENSOR less alpha * P(whole right)
    input: Array  # (D, K, Q, G) OFFLOAD_INPUT, likewise
    right: Array  # (D, E) alpha * P(whole right | evidence)
    exit: Array  # (D, K, E) EXIT
    going_on: Array  # (D, K, Q, G, E) CONTINUE
    pruning: Pruning = field(default_factory=Pruning)
    learned: Array | None = None  # (D, K, Q, G, E) g_P, in both offloads; None: nothing is learned

    def dense(self, device: int) -> Array:
        """All payoffs of one device in one array.  # (decision, K, Q, G, E)"""
        epochs, queues, backlogs = self.tensor.shape[1:]
        found = np.empty((len(Decision), epochs, queues, backlogs, self.right.shape[1]))
        found[Decision.OFFLOAD_TENSOR] = self.tensor[device][..., None] + self.right[device]
        found[Decision.OFFLOAD_INPUT] = self.input[device][..., None] + self.right[device]
        if self.learned is not None:
            found[Decision.OFFLOAD_TENSOR] += self.learned[device]
            found[Decision.OFFLOAD_INPUT] += self.learned[device]
        found[Decision.EXIT] = self.exit[device][:, None, None, :]
        found[Decision.CONTINUE] = self.going_on[device]
        return found


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
    tensor, sent_input = offload(batch, batch.tensor, present), offload(batch, batch.input, present)
    pruning = Pruning()
    if is_start_only:
        best = np.maximum(tensor, sent_input)
        ahead = {int(epoch): best[:, [epoch]] for epoch in epochs}
    else:
        ahead = _offloads_ahead(batch, queue, backlog_s, pruning if is_reduced else None)
    right = batch.alpha[:, None] * batch.statistics.p_whole_right
    exits = _exit_payoffs(batch)
    going_on = np.empty((*tensor.shape, batch.statistics.evidence_count))
    value: Array | None = None  # (D, S, Q, G or 1, E): best from the epoch after on, seen from presents before it
    for epoch in range(batch.last_epoch, -1, -1):
        queue_now = present.queue[:, [epoch]]
        now = _continuing(batch, epoch, queue_now, None if value is None else value[:, -1:])
        going_on[:, epoch] = now[:, 0]
        if epoch == 0:
            break
        if not is_start_only:
            elapsed = batch.reached_s[:, epoch, None] - batch.reached_s[:, :epoch]
            queue_then = queue + (batch.task_rate[:, None] * elapsed)[..., None]
            now = _continuing(batch, epoch, queue_then, None if value is None else value[:, :-1])
        value = np.maximum(now, exits[:, epoch, None, None, None, :])
        if epoch in ahead:
            value = np.maximum(value, ahead[epoch][..., None] + right[:, None, None, None, :])
        value = np.broadcast_to(value, (batch.size, 1 if is_start_only else epoch, len(queue), *value.shape[3:]))
    return PresentPayoffs(tensor, sent_input, right, exits, going_on, pruning)


def _offloads_ahead(batch: Batch, queue: Array, backlog_s: Array, pruning: Pruning | None) -> dict[int, Array]:
    """Best offload at every epoch ahead, seen from every present before it, less ``alpha * P(whole right)``.

    By epoch (D, S, Q, G). With ``pruning`` the necessary conditions apply, and an epoch at which nothing is left is
    left out: the value there does not depend on the backlog.
    """
    epochs, starts = np.tril_indices(batch.last_epoch + 1, -1)  # by epoch, and by present within
    best = np.full((batch.size, len(starts), len(queue), backlog_s.shape[1]), NEVER)
    is_open = np.zeros(len(starts), dtype=bool)  # pairs in which some device may offload
    for payload in (batch.tensor, batch.input):
        may = payload.is_available[:, epochs]  # (D, P)
        if pruning is not None:
            pruning.considered += int(may.sum()) * best[0, 0].size
            out = may & ruled_out(batch, payload, queue, backlog_s, starts, epochs)
            pruning.pruned += int(out.sum()) * best[0, 0].size
            may = may & ~out
        some = may.any(axis=0)
        if not some.any():
            continue
        there = course(batch, queue, backlog_s, starts[some], epochs[some])
        base = offload(batch, payload, there)
        if pruning is not None:
            shut = hopeless(batch, payload, queue, there)
            pruning.pruned += int((shut & may[:, some, None, None]).sum())
            base = np.where(shut | ~may[:, some, None, None], NEVER, base)
        best[:, some] = np.maximum(best[:, some], base)
        is_open |= some
    return {
        epoch: best[:, epoch * (epoch - 1) // 2 : epoch * (epoch + 1) // 2]
        for epoch in range(1, batch.last_epoch + 1)
        if is_open[epoch * (epoch - 1) // 2 : epoch * (epoch + 1) // 2].any()
    }


def _continuing(batch: Batch, epoch: int, queue: Array, value: Array | None) -> Array:
    """Price of the next segment plus the expected value after it; at the last epoch the whole network's answer.

    ``queue`` (D, S, Q) at the epoch, ``value`` (D, S, Q, G or 1, E) at the next.
    """
    if value is None:
        if not batch.is_whole:
            return np.full((batch.size, 1, 1, 1, batch.statistics.evidence_count), NEVER / 2)
        return (batch.alpha[:, None] * batch.statistics.p_whole_right)[:, None, None, None, :]
    step = batch.step_s[:, epoch][:, None, None]
    return batch.after_exits_at(epoch + 1, value) - batch.price(step, queue)[..., None, None]


def _exit_payoffs(batch: Batch) -> Array:
    """alpha * P(right) of the last exit that ran; NEVER without one.  # (D, K, E)"""
    is_exit = batch.statistics.seen[: batch.last_epoch + 1].copy()
    is_exit[:, 0] = False
    return np.where(is_exit, (batch.alpha[:, None] * batch.statistics.p_exit_right)[:, None, :], NEVER)
