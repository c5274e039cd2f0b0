"""Necessary conditions that prune the choices ahead (design section 5, R1-R3).

Take neighbouring epochs l' = l - 1 and l with no exit run at l, payload j at l, and payload i at l' that reaches the
edge no later. A FIFO backlog falls at most at rate one, so going on toward (l, j) can pay only if

    G = (z_i - z_j) + alpha (F_j - F_i) + beta (P_tx (s_i - s_j) / R - P_c sum d)

exceeds ``max(0, a_j - a_i - W_i)`` plus the price of the waiting caused on the way. Only cuts *ahead* of the present
epoch are pruned, never the one where the task stands. Comparing neighbours suffices: what a farther epoch rules out, a
chain of neighbours or the maximum itself does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.statistics import Array
from twin_service.decision.utility import NEVER, Batch, Course, PayloadTerms, arrival_s, course


@dataclass(slots=True)
class Pruning:
    """How many (present epoch, epoch ahead, payload, queue, backlog) choices there were and how many were pruned."""

    considered: int = 0
    pruned: int = 0

    @property
    def share(self) -> float:
        return self.pruned / self.considered if self.considered else 0.0


def ruled_out(
    batch: Batch,
    payload: PayloadTerms,
    queue: Array,
    backlog_s: Array,
    starts: NDArray[np.int64],
    epochs: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """R1: pairs (present, epoch ahead) in which going on toward offloading ``payload`` pays at no backlog.  # (D, P)

    What may be paid in time is linear in the queue, so the ends of ``queue`` speak for all of it.
    """
    found = np.zeros((batch.size, len(epochs)), dtype=bool)
    there = course(batch, queue[[0, -1]], backlog_s[:, :1], starts, epochs)
    for slack, applies, _ in _neighbours(batch, payload, queue[[0, -1]], there):
        found |= applies & (slack.max(axis=2) <= 0.0)
    return found


def hopeless(batch: Batch, payload: PayloadTerms, queue: Array, there: Course) -> NDArray[np.bool_]:
    """R2: where going on toward offloading ``payload`` at the epoch ahead of a pair of ``there`` pays only while the
    edge's wait hides the way, and it does not.  # (D, P, Q, G)"""
    found = np.zeros((*there.queue.shape, there.backlog_s.shape[2]), dtype=bool)
    for slack, applies, later in _neighbours(batch, payload, queue, there):
        found |= applies[..., None, None] & (slack[..., None] <= later[:, :, None, :])
    return found


def _neighbours(
    batch: Batch, payload: PayloadTerms, queue: Array, there: Course
) -> Iterator[tuple[Array, NDArray[np.bool_], Array]]:
    """Per rival payload at the epoch before: G less the caused waiting (D, P, Q), where the comparison applies (D, P),
    and ``max(0, a_j - a_i - W_i)`` (D, P, G)."""
    comparable = payload.is_available[:, there.epochs] & ~batch.is_exit_run_at(there.epochs)
    if not comparable.any():
        return
    before = course(batch, queue, there.present_backlog_s, there.starts, there.epochs - 1)
    way = batch.step_s[:, before.epochs]  # (D, P)
    queue_there = before.queue + (batch.task_rate[:, None] * way)[..., None]
    arrival = way + arrival_s(batch, payload, there)
    paid = batch.side_price(way[..., None], before.queue)
    paid = paid + batch.side_price(payload.encode_s[:, there.epochs, None], queue_there)
    kept = _kept(batch, payload)[:, there.epochs]
    for rival in (batch.tensor, batch.input):
        if not rival.is_available.any():
            continue
        rival_arrival = arrival_s(batch, rival, before)
        gain = kept - _kept(batch, rival)[:, before.epochs]
        slack = gain[..., None] - paid + batch.side_price(rival.encode_s[:, before.epochs, None], before.queue)
        applies = comparable & rival.is_available[:, before.epochs] & (arrival >= rival_arrival)
        met = np.maximum(rival_arrival[..., None], before.backlog_s)  # a_i + W_i, from the epoch before
        yield slack, applies, np.maximum(arrival[..., None] - met, 0.0)


def _kept(batch: Batch, payload: PayloadTerms) -> Array:
    """What of the payoff depends on the payload alone: tail, loss, energy of sending.  # (D, K)"""
    spent = payload.tail_s + batch.alpha[:, None] * payload.loss + batch.energy_transmit[:, None] * payload.upload_s
    return -spent


def ceiling_s(batch: Batch, queue: Array) -> Array:
    """R3: backlog above which no epoch and no evidence ever offloads, seconds; ``inf``: nothing limits it.  # (D,)

    Offloading gives at most ``alpha * P(whole right)`` less the backlog; never offloading gives what the exits and the
    whole network on the device give, with the longest queue all the way.
    """
    statistics = batch.statistics
    alpha = batch.alpha[:, None]
    right = alpha * statistics.p_whole_right
    longest = queue.max() + batch.task_rate[:, None] * batch.reached_s  # (D, K), from service start on
    price, exits = batch.price(batch.step_s, longest[:, :-1]), batch.exit_payoffs()
    best = np.empty_like(exits)  # (D, K, E)
    kept = right if batch.is_whole else np.full_like(right, NEVER / 2)
    for epoch in range(batch.last_epoch, -1, -1):
        if epoch < batch.last_epoch:
            kept = batch.after_exits_at(epoch + 1, kept) - price[:, epoch, None]
        kept = np.maximum(kept, exits[:, epoch], out=best[:, epoch])
    gain = np.where(statistics.seen[: batch.last_epoch + 1], right[:, None] - best, 0.0)
    ceiling = gain.max(axis=(1, 2), initial=0.0)
    return np.where(ceiling >= -NEVER / 4, np.inf, ceiling)
