"""Backward induction over (epoch, evidence) with queue and backlog dead-reckoned: the open-loop continuation value.

For every *present* epoch, queue length and backlog the future is a fixed course of queue and backlog, so the value of
going on follows from the last epoch back. What each decision is worth at the present epoch is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.reduction import Pruning, hopeless, ruled_out
from twin_service.decision.statistics import Array
from twin_service.decision.utility import NEVER, Batch, course, offload
from twinsplit.plan import Observation
from twinsplit.types import NO_EVIDENCE, Decision


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
    is_reduced: bool = False,
) -> PresentPayoffs:
    """Payoffs of all decisions at every epoch.

    ``queue`` (Q,) and ``backlog_s`` (D, G) are those at the present epoch; with ``Observation.SERVICE_START`` they are
    those at service start, and the payoffs at later epochs are what was expected of them then. ``is_reduced`` switches
    R1 and R2, which change no payoff at the present epoch that could win.
    """
    is_start_only = observation is Observation.SERVICE_START
    pruning = Pruning()
    if is_start_only:
        tensor, sent_input = _offloads_now(batch, queue, backlog_s, from_start=True)
        best = np.maximum(tensor, sent_input)
        ahead = {epoch: best[:, [epoch]] for epoch in range(batch.last_epoch + 1)}
    elif is_reduced:
        tensor, sent_input = _offloads_now(batch, queue, backlog_s)
        ahead = _offloads_left(batch, queue, backlog_s, pruning)
    else:
        tensor, sent_input, ahead = _offloads(batch, queue, backlog_s)
    right = batch.alpha[:, None] * batch.statistics.p_whole_right
    exits = batch.exit_payoffs()
    price = _prices(batch, queue)
    going_on = np.empty((*tensor.shape, batch.statistics.evidence_count))
    value: Array | None = None  # (D, S, Q, G or 1, E): best from the epoch after on, seen from presents up to this one
    for epoch in range(batch.last_epoch, -1, -1):
        if value is None:
            now = before = _at_the_end(batch, right)
        else:
            now = batch.after_exits_at(epoch + 1, value) - price[:, epoch, : value.shape[1], :, None, None]
            before = now if is_start_only else now[:, :-1]
        going_on[:, epoch] = now[:, -1]
        if epoch == 0:
            break
        value = np.maximum(before, exits[:, epoch, None, None, None, :])
        if epoch in ahead:
            offload_s = ahead[epoch][..., None] + right[:, None, None, None, :]
            value = np.maximum(value, offload_s, out=offload_s)
        shape = (batch.size, 1 if is_start_only else epoch, len(queue), *value.shape[3:])
        value = value if value.shape == shape else np.broadcast_to(value, shape)
    # However slow a device is, or dear its energy: going on can be done, and what cannot must not look better.
    np.maximum(going_on, NEVER / 2, out=going_on)
    return PresentPayoffs(tensor, sent_input, right, exits, going_on, pruning)


def start_values(batch: Batch, queue: Array, backlog_s: Array) -> Array:
    """What a task is worth at service start with ``queue`` (Q,) and ``backlog_s`` (D, G) there.  # (D, Q, G)"""
    tensor, sent_input = _offloads_now(batch, queue, backlog_s, from_start=True)
    right = batch.alpha[:, None] * batch.statistics.p_whole_right
    stopping = np.maximum(tensor, sent_input)[..., None] + right[:, None, None, None, :]  # (D, K, Q, G, E)
    np.maximum(stopping, batch.exit_payoffs()[:, :, None, None, :], out=stopping)
    queue_then = queue + (batch.task_rate[:, None] * batch.reached_s[:, :-1])[..., None]
    price = batch.price(batch.step_s[:, :, None], queue_then)[..., None, None]  # (D, h, Q, 1, 1)
    value = _at_the_end(batch, right)[:, 0]  # (D, 1, 1, E)
    for epoch in range(batch.last_epoch, 0, -1):
        value = batch.after_exits_at(epoch, np.maximum(value, stopping[:, epoch])) - price[:, epoch - 1]
    found: Array = np.maximum(stopping[:, 0], value)[..., NO_EVIDENCE]
    return found


def _offloads_now(batch: Batch, queue: Array, backlog_s: Array, *, from_start: bool = False) -> tuple[Array, Array]:
    """Offloads of tensor and input at the present epoch, less ``alpha * P(whole right)``; ``from_start``: seen from
    service start.  # (D, K, Q, G) each"""
    epochs = np.arange(batch.last_epoch + 1)
    present = course(batch, queue, backlog_s, np.zeros_like(epochs) if from_start else epochs, epochs)
    tensor, sent_input = offload(batch, batch.payloads, present)
    return tensor, sent_input


def _offloads(batch: Batch, queue: Array, backlog_s: Array) -> tuple[Array, Array, dict[int, Array]]:
    """The same, and the better of both at every epoch ahead, from every present before it: by epoch (D, S, Q, G)."""
    epochs, starts, presents = _pairs(batch.last_epoch)
    there = course(batch, queue, backlog_s, starts, epochs)
    tensor, sent_input = offload(batch, batch.payloads, there)
    best = np.maximum(tensor, sent_input)
    ahead = {epoch: best[:, last - epoch : last] for epoch, last in enumerate(presents) if epoch}
    return tensor[:, presents], sent_input[:, presents], ahead


@lru_cache(maxsize=64)
def _pairs(last_epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Epoch and present of every pair, by epoch and by present within, which comes to it last; places of the latter."""
    epochs, starts = np.tril_indices(last_epoch + 1)
    return epochs, starts, np.nonzero(epochs == starts)[0]


def _offloads_left(batch: Batch, queue: Array, backlog_s: Array, pruning: Pruning) -> dict[int, Array]:
    """Offloads ahead as those of :func:`_offloads`, as far as the necessary conditions leave any. An epoch at which
    nothing is left is left out: the value there does not depend on the backlog.
    """
    epochs, starts = np.tril_indices(batch.last_epoch + 1, -1)  # by epoch, and by present within
    best = np.full((batch.size, len(starts), len(queue), backlog_s.shape[1]), NEVER)
    is_open = np.zeros(len(starts), dtype=bool)  # pairs in which some device may offload
    for payload in (batch.tensor, batch.input):
        may = payload.is_available[:, epochs]  # (D, P)
        pruning.considered += int(may.sum()) * best[0, 0].size
        out = may & ruled_out(batch, payload, queue, backlog_s, starts, epochs)
        pruning.pruned += int(out.sum()) * best[0, 0].size
        may = may & ~out
        some = may.any(axis=0)
        if not some.any():
            continue
        there = course(batch, queue, backlog_s, starts[some], epochs[some])
        shut = hopeless(batch, payload, queue, there)
        pruning.pruned += int((shut & may[:, some, None, None]).sum())
        base = np.where(shut | ~may[:, some, None, None], NEVER, offload(batch, payload, there))
        best[:, some] = np.maximum(best[:, some], base)
        is_open |= some
    return {
        epoch: best[:, epoch * (epoch - 1) // 2 : epoch * (epoch + 1) // 2]
        for epoch in range(1, batch.last_epoch + 1)
        if is_open[epoch * (epoch - 1) // 2 : epoch * (epoch + 1) // 2].any()
    }


def _prices(batch: Batch, queue: Array) -> Array:
    """Price of the segment after every epoch with the queue expected there, seen from every present.  # (D, h, S, Q)"""
    elapsed = batch.reached_s[:, :-1, None] - batch.reached_s[:, None, :]
    queue_then = queue + (batch.task_rate[:, None, None] * elapsed)[..., None]
    return batch.price(batch.step_s[:, :, None, None], queue_then)


def _at_the_end(batch: Batch, right: Array) -> Array:
    """Going on after the last segment: the whole network's answer, where the device holds all of it.

    # (D, 1, 1, 1, E)
    """
    return (
        right[:, None, None, None, :] if batch.is_whole else np.full((batch.size, 1, 1, 1, right.shape[1]), NEVER / 2)
    )
