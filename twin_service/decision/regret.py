"""What keeping an old table, or an old backlog, would cost: communication is bought by its value (design section 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.deadline import TimedPayoffs, likely_ages_s
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array, Statistics, statistics_of
from twin_service.decision.tables import QUEUES, PlanTable, bracket, interpolated
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import NO_EVIDENCE, Decision

_SPAN_S = 0.05
"""Distance from a break point at which slopes are taken: payoffs bend between close ones, and jump at a deadline."""

_HARDLY_SHARE = 0.02
"""Share of all that may be lost by a wrong backlog which is hardly anything."""


@dataclass(frozen=True, slots=True, eq=False)
class BacklogRegret:
    """What decisions by a wrong backlog cost with one table."""

    slope: Array  # (K, Q, edges) lost per second of backlog beyond a band edge by deciding as on its other side
    going_on: Array  # (K, Q, bands) share of the tasks at an epoch that go on there
    ceiling_s: float = 0.0
    """Band edge above which hardly anything is lost at likely queue lengths; 0: nothing is lost at all."""


def backlog_regret(table: PlanTable, evaluation: Evaluation, situation: Situation) -> BacklogRegret:
    """What a task that gets to an epoch loses there on average; ``evaluation`` made ``table`` for ``situation``.

    Payoffs are taken as straight lines beyond each break point. Where the rule does not say what decisions are worth, a
    second of backlog costs every sample a second whose decision it should change. With a deadline: averaged over likely
    ages at service start.
    """
    statistics = statistics_of(situation.manifest)
    epochs, _, queues, bands = table.table.shape[:4]
    edges_s = np.array(table.band_edges_s)
    slope, going_on = np.zeros((epochs, queues, bands - 1)), np.zeros((epochs, queues, bands))
    for met, share, worth in _met_by_age(table, evaluation, situation):
        there, goes = _evidence_there(met, statistics)
        slope += share * _slopes(met.table, there, edges_s, worth)
        going_on += share * goes
    if table.observation is Observation.SERVICE_START:
        # What is read at epoch 0 serves all epochs, as far as a task that read it gets.
        reach = np.concatenate((np.ones_like(going_on[:1]), np.cumprod(going_on, axis=0)[:-1]))
        slope[0] = (slope * np.maximum(reach[..., 1:], reach[..., :-1])).sum(axis=0)
        slope[1:] = 0.0
    return BacklogRegret(slope, going_on, _ceiling_s(slope, edges_s, situation.busy_share))


def _ceiling_s(slope: Array, edges_s: Array, busy_share: float) -> float:
    by_edge = _queue_weights(0, busy_share) @ slope.sum(axis=0)
    lost_from = np.cumsum(by_edge[::-1])[::-1]
    needed = np.nonzero(lost_from > _HARDLY_SHARE * by_edge.sum())[0]
    return float(edges_s[needed[-1]]) if len(needed) else 0.0


def _met_by_age(
    table: PlanTable, evaluation: Evaluation, situation: Situation
) -> Iterator[tuple[PlanTable, float, tuple[Array, Array] | None]]:
    """The table without ages that a task of some age meets, the share of such tasks, and what decisions are worth to
    them (decision, K, Q, G, E) with the backlog grid (G,)."""
    if situation.weights.deadline_s is None:
        yield _as_met(table, 0.0), 1.0, evaluation.payoffs_of(table)
        return
    timed = None if evaluation.timed_with is None else evaluation.timed_with(table)
    for age_s, share in zip(*likely_ages_s(situation), strict=True):
        worth = None if timed is None else (_worth_at_age(timed, table, age_s), timed.backlog_s)
        yield _as_met(table, age_s), share, worth


def _evidence_there(table: PlanTable, statistics: Statistics) -> tuple[Array, Array]:
    """Shares of evidence among the tasks at each epoch (K, Q, bands, E) and of those that go on there (K, Q, bands), if
    all were looked up in one band; where none of these would come, those who come at all."""
    epochs, evidence_count, queues, bands = table.table.shape
    there, going_on = np.empty((epochs, queues, bands, evidence_count)), np.empty((epochs, queues, bands))
    now, anybody = np.zeros((queues, bands, evidence_count)), np.zeros(evidence_count)
    now[..., NO_EVIDENCE] = anybody[NO_EVIDENCE] = 1.0
    everybody = np.ones(evidence_count)  # a product with it is a sum, in half the time
    by_evidence = (table.table == Decision.CONTINUE).transpose(0, 2, 3, 1)
    for epoch, goes_on in enumerate(np.ascontiguousarray(by_evidence, dtype=np.float64)):
        for index, at in enumerate(statistics.exit_epochs):
            if at == epoch and table.exits_run[index]:
                now, anybody = now @ statistics.transitions[index], anybody @ statistics.transitions[index]
        there[epoch] = now
        now = now * goes_on
        share = np.matmul(now, everybody, out=going_on[epoch])
        now /= np.maximum(share, 1e-12)[..., None]
        if not share.all():
            now[share == 0.0] = anybody
    return there, going_on


def _slopes(table: NDArray[np.uint8], evidence: Array, edges_s: Array, worth: tuple[Array, Array] | None) -> Array:
    """By epoch, queue and band edge.  # (K, Q, edges)"""
    epochs, states, queues, _ = table.shape
    shape = (epochs, queues, len(edges_s))
    by_evidence = np.ascontiguousarray(table.transpose(0, 2, 3, 1))  # (K, Q, bands, E)
    # Few decisions change at an edge; what does not change loses nothing.
    changes = (by_evidence[..., :-1, :] != by_evidence[..., 1:, :]).ravel().nonzero()[0]
    place, state = np.divmod(changes, states)
    row, edge = np.divmod(place, max(len(edges_s), 1))  # of epoch and queue length
    below = changes + row * states  # in (K, Q, bands, E): one band more
    above = below + states
    share = 0.5 * (evidence.take(below) + evidence.take(above))

    def summed(lost: Array) -> Array:
        """Over evidence."""
        found: Array = np.bincount(place, weights=share * lost, minlength=math.prod(shape)).astype(np.float64)
        return found.reshape(shape)

    if worth is None:
        return summed(np.ones(len(place)))
    payoffs, grid_s = worth
    points = payoffs.shape[3]
    flat = payoffs.reshape(-1)
    # Where in it the decisions below and above are at the first point of the grid.
    below, above = (
        (by_evidence.take(band).astype(np.intp) * (epochs * queues) + row) * (points * states) + state
        for band in (below, above)
    )
    slope = np.zeros(shape)
    for side in (-1.0, 1.0):
        right, weight = (each[edge] for each in bracket(grid_s, edges_s + side * _SPAN_S))
        before, after = (right - 1) * states, right * states
        gain = (flat[above + before] - flat[below + before]) * (1.0 - weight)
        gain += (flat[above + after] - flat[below + after]) * weight
        slope = np.maximum(slope, side * summed(gain) / _SPAN_S)
    return slope


def regret_s(
    old: PlanTable,
    evaluation: Evaluation,
    situation: Situation,
    *,
    backlog_s: float,
    queue_length: int,
    enough_s: float = math.inf,
) -> float:
    """Expected utility lost per task, seconds, if ``old`` stands where ``evaluation`` was made for the situation now.

    Averaged over where queue and backlog are likely to be when a task starts, and over the evidence its exits will
    show. Once it is known to be above ``enough_s``, how far above is not reckoned. ``inf`` where the old table is of
    another kind, or where the rule does not optimise and its table has changed; more than any real loss where it
    offloads to an edge that is gone.
    """
    new = evaluation.plan_table
    if new.is_same(old):
        return 0.0
    if old.observation != new.observation or old.table.shape[:3] != new.table.shape[:3]:
        return float("inf")
    backlogs = _likely_backlogs_s(situation, backlog_s)
    weights = _queue_weights(queue_length, situation.busy_share)[:, None] / len(backlogs)  # (Q, 1)
    if evaluation.timed_with is not None:
        return _timed_regret_s(old, evaluation, situation, backlogs, weights)
    if evaluation.busy is not None:
        idle, share = replace(evaluation, busy=None), situation.uplink_busy_share or 0.0
        lost = 0.0
        for weight, each, table in ((1.0 - share, idle, old), (share, evaluation.busy, old.while_uplink_is_busy())):
            if weight > 0.0 and lost <= enough_s:
                left_s = (enough_s - lost) / weight
                lost += weight * regret_s(
                    table, each, situation, backlog_s=backlog_s, queue_length=queue_length, enough_s=left_s
                )
        return lost
    if not old.sends_as(new) and evaluation.start_values is not None and enough_s < math.inf:
        # A bound: that the decisions of the old table make no use of what is left comes on top.
        best, with_these = evaluation.start_values((new, old), backlogs)
        lost = float((weights * (best - with_these)).sum())
        if lost > enough_s:
            return lost
    with_old = evaluation.payoffs_of(old)
    if with_old is None or old.age_edges_s:
        return float("inf")
    worth, grid_s = with_old
    lost = _deviation_s(old, worth, grid_s, situation, backlogs, weights)
    if not old.sends_as(new) and (with_new := evaluation.payoffs_of(new)) is not None:
        # Other exits or representations: what the best use of the old ones is worth less than that of the new.
        best, best_grid_s = with_new
        start = interpolated(best[:, 0, ..., NO_EVIDENCE], best_grid_s, backlogs).max(axis=0)
        lost += float(
            (weights * (start - interpolated(worth[:, 0, ..., NO_EVIDENCE], grid_s, backlogs).max(axis=0))).sum()
        )
    return lost


def start_value_s(evaluation: Evaluation, situation: Situation, *, backlog_s: float, queue_length: int) -> float | None:
    """Expected utility of a task at service start by the plan of ``evaluation``, seconds, averaged over likely
    backlogs, queue lengths and ages; ``None``: the rule does not say what decisions are worth."""
    table = evaluation.plan_table
    backlogs = _likely_backlogs_s(situation, backlog_s)
    weights = _queue_weights(queue_length, situation.busy_share)[:, None] / len(backlogs)  # (Q, 1)
    if evaluation.timed_with is not None:
        timed = evaluation.timed_with(table)
        ages = [
            (_worth_at_age(timed, table, age_s), share) for age_s, share in zip(*likely_ages_s(situation), strict=True)
        ]
        grid_s = timed.backlog_s
    elif (found := evaluation.payoffs_of(table)) is not None:
        worth, grid_s = found
        ages = [(worth, 1.0)]
    else:
        return None
    value_s = 0.0
    for worth, share in ages:
        start = interpolated(worth[:, 0, ..., NO_EVIDENCE], grid_s, backlogs).max(axis=0)
        value_s += share * float((weights * start).sum())
    return value_s


def _timed_regret_s(
    old: PlanTable, evaluation: Evaluation, situation: Situation, backlogs_s: Array, weights: Array
) -> float:
    """The same with a deadline, averaged over likely ages at service start.

    Payoffs jump where an answer becomes late, and tables decide at the far ends of their bands: what ``old`` loses is
    counted against what the new table itself loses between them.
    """
    assert evaluation.timed_with is not None
    new = evaluation.plan_table
    with_old = evaluation.timed_with(old)
    with_new = with_old if old.sends_as(new) else evaluation.timed_with(new)
    lost = 0.0
    for age_s, share in zip(*likely_ages_s(situation), strict=True):
        worth, best = _worth_at_age(with_old, old, age_s), _worth_at_age(with_new, new, age_s)
        start_worth, start_best = (
            interpolated(w[:, 0, ..., NO_EVIDENCE], payoffs.backlog_s, backlogs_s).max(axis=0)
            for w, payoffs in ((worth, with_old), (best, with_new))
        )
        lost += share * float((weights * (start_best - start_worth)).sum())
        for table, at_age, payoffs, sign in ((old, worth, with_old, 1.0), (new, best, with_new, -1.0)):
            met = _as_met(table, age_s)
            lost += share * sign * _deviation_s(met, at_age, payoffs.backlog_s, situation, backlogs_s, weights)
    return max(lost, 0.0)


def _ages_s(table: PlanTable, age_s: float) -> list[float]:
    """Age at every epoch with which a task looks up that is ``age_s`` old at service start."""
    if table.observation is Observation.SERVICE_START:
        return [age_s] * len(table.table)
    return [age_s, *(age_s + boundary_s for boundary_s in table.boundaries_s)]


def _worth_at_age(payoffs: TimedPayoffs, table: PlanTable, age_s: float) -> Array:
    """Payoffs that such a task meets: at the far ends of the finest bands of age.  # (decision, K, Q, G, E)"""
    levels = np.searchsorted(payoffs.age_s, _ages_s(table, age_s))
    return np.stack([payoffs.worth[:, epoch, :, :, level] for epoch, level in enumerate(levels)], axis=1)


def _as_met(table: PlanTable, age_s: float) -> PlanTable:
    """The table without ages that such a task meets."""
    if not table.age_edges_s:
        return table
    bands = np.searchsorted(table.age_edges_s, _ages_s(table, age_s), side="right")
    met = np.stack([table.table[epoch, ..., band] for epoch, band in enumerate(bands)])
    return replace(table, table=met, age_edges_s=())


def _deviation_s(
    old: PlanTable, worth: Array, grid_s: Array, situation: Situation, backlogs_s: Array, weights: Array
) -> float:
    """What is lost by the decisions of ``old`` against the best with the same exits and representations."""
    statistics = statistics_of(situation.manifest)
    epochs = np.arange(len(old.table))[:, None]
    now = np.broadcast_to(backlogs_s, (len(epochs), len(backlogs_s)))  # (K, N)
    if old.observation is Observation.EACH_EPOCH:
        now = _after(situation, backlogs_s, np.concatenate(([0.0], old.boundaries_s))[:, None])
    right, weight = bracket(grid_s, now)
    weight = weight[..., None, None, None]
    payoffs = worth[:, epochs, :, right - 1] * (1.0 - weight) + worth[:, epochs, :, right] * weight
    payoffs = payoffs.transpose(2, 0, 1, 3, 4)  # (decision, K, N, Q, E)
    best = payoffs.max(axis=0)
    kept = old.table[epochs, :, :, np.searchsorted(old.band_edges_s, now, side="right")].swapaxes(2, 3)
    gap = best - np.choose(kept, payoffs)
    goes_on = payoffs[Decision.CONTINUE] >= best
    evidence = np.zeros((len(backlogs_s), len(weights), statistics.evidence_count))  # (N, Q, E)
    evidence[:, :, NO_EVIDENCE] = weights[:, 0]
    lost = 0.0
    for epoch in range(len(old.table)):
        for index, at in enumerate(statistics.exit_epochs):
            if at == epoch and old.exits_run[index]:
                evidence = evidence @ statistics.transitions[index]
        lost += float((evidence * gap[epoch]).sum())
        evidence = evidence * goes_on[epoch]
    return lost


def _likely_backlogs_s(situation: Situation, backlog_s: float) -> Array:
    """Now, soon, and where it usually is.  # (N,)"""
    mean = situation.backlog_mean_s
    horizons = np.array([0.0, 0.5, 1.0]) * situation.backlog_time_constant_s
    kept = np.exp(-horizons / max(situation.backlog_time_constant_s, 1e-3))
    soon = np.maximum(mean + (backlog_s - mean) * kept, np.maximum(backlog_s - horizons, 0.0))
    return np.concatenate((soon, [0.0, 0.7 * mean, 2.0 * mean]))


def _after(situation: Situation, backlogs_s: Array, elapsed_s: Array) -> Array:
    mean = situation.backlog_mean_s
    kept = np.exp(-elapsed_s / max(situation.backlog_time_constant_s, 1e-3))
    then: Array = np.maximum(np.maximum(backlogs_s - elapsed_s, mean + (backlogs_s - mean) * kept), 0.0)
    return then


def _queue_weights(queue_length: int, busy_share: float) -> Array:
    """Half on the queue as it is, half geometric in the busy share.  # (Q,)"""
    rho = min(max(busy_share, 0.0), 0.95)
    weights: Array = (1.0 - rho) * rho**QUEUES
    weights[-1] = rho ** QUEUES[-1]
    weights *= 0.5
    weights[min(queue_length, QUEUE_LEVELS - 1)] += 0.5
    weights /= weights.sum()
    return weights
