"""From payoffs to the table of a plan: break points of backlog, bands, decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.statistics import Array
from twin_service.decision.stopping import PresentPayoffs
from twin_service.decision.utility import NEVER
from twinsplit.plan import QUEUE_LEVELS, BusyUplink, Observation
from twinsplit.types import NO_EVIDENCE, Decision

MAX_BREAK_POINTS = 23
_SAME_BACKLOG_S = 1e-6
QUEUES = np.arange(QUEUE_LEVELS, dtype=float)


@dataclass(frozen=True, slots=True, eq=False)
class PlanTable:
    """What a rule hands to the planner; everything a plan needs but its id, edge, lease and contingency."""

    table: NDArray[np.uint8]  # (K, E, Q, bands), with a deadline (K, E, Q, bands, age bands)
    band_edges_s: tuple[float, ...]
    exits_run: tuple[bool, ...]
    tensor_representations: tuple[int, ...]
    input_representations: tuple[int, ...]
    observation: Observation
    boundaries_s: tuple[float, ...]
    """Service start to decision epochs 1..h with these exits run, seconds: what dead reckoning of progress needs."""
    age_edges_s: tuple[float, ...] = ()
    """Ascending ages of the task, seconds; empty: no deadline."""
    busy_uplink: BusyUplink | None = None

    def while_uplink_is_busy(self) -> PlanTable:
        """What holds while earlier payloads keep the uplink busy."""
        busy = self.busy_uplink
        if busy is None:
            return self
        return replace(self, table=busy.table, band_edges_s=busy.band_edges_s, busy_uplink=None)

    def is_same(self, other: PlanTable) -> bool:
        """Whether a device would do the same under both."""
        return (
            self.sends_as(other)
            and self.observation == other.observation
            and np.array_equal(self.table, other.table)
            and _are_close(self.band_edges_s, other.band_edges_s)
            and _are_close(self.age_edges_s, other.age_edges_s)
            and _are_alike(self.busy_uplink, other.busy_uplink)
        )

    def sends_as(self, other: PlanTable) -> bool:
        """Whether the same exits are run and the same representations sent under both."""
        return (
            self.exits_run == other.exits_run
            and self.tensor_representations == other.tensor_representations
            and self.input_representations == other.input_representations
        )


def _are_close(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= _SAME_BACKLOG_S for a, b in zip(one, other, strict=True))


def _are_alike(one: BusyUplink | None, other: BusyUplink | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        abs(one.from_s - other.from_s) <= _SAME_BACKLOG_S
        and np.array_equal(one.table, other.table)
        and _are_close(one.band_edges_s, other.band_edges_s)
    )


def banded(payoffs: PresentPayoffs, device: int, backlog_s: Array) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Table (K, E, Q, bands) and break points of one device from its payoffs on the grid ``backlog_s`` (G,).

    A break point lies where two decisions are worth the same, by linear interpolation between grid points; close ones
    are merged until at most ``MAX_BREAK_POINTS`` are left, and each band takes the decision that is best at its middle.
    """
    points = np.sort(_break_points(payoffs, device, backlog_s))
    if not len(points):
        return _decisions(payoffs, device, backlog_s, backlog_s[:1]), ()
    edges = merged(points)
    last = (edges[-1] + max(backlog_s[-1], edges[-1])) / 2.0
    middles = np.concatenate(([edges[0] / 2.0], (edges[:-1] + edges[1:]) / 2.0, [last]))
    return _decisions(payoffs, device, backlog_s, middles), tuple(float(edge) for edge in edges)


def _break_points(payoffs: PresentPayoffs, device: int, backlog_s: Array) -> Array:
    """Backlogs at which the best decision changes in some cell."""
    tensor, sent_input, going_on = payoffs.tensor[device], payoffs.input[device], payoffs.going_on[device]
    leave = payoffs.exit[device][:, None, None, :]  # (K, 1, 1, E)
    lead = np.maximum(tensor, sent_input)[..., None] + _right_where_seen(payoffs, device)
    lead -= np.maximum(going_on, leave)
    if payoffs.learned is not None:
        lead += payoffs.learned[device]
    offloads = lead > 0.0  # (K, Q, G, E)
    found = [_crossings(lead, backlog_s), _crossings(going_on - leave, backlog_s, ~offloads)]
    of_tensor = (tensor - sent_input)[..., None]
    is_ahead = of_tensor > 0.0
    if (is_ahead[..., 1:, :] != is_ahead[..., :1, :]).any():
        found.append(_crossings(of_tensor, backlog_s, offloads.any(axis=-1, keepdims=True)))
    return np.concatenate(found)


def _crossings(lead: Array, backlog_s: Array, counts: NDArray[np.bool_] | None = None) -> Array:
    """Where ``lead`` (..., G, E) changes its sign along the grid, between two points that both count."""
    is_ahead = lead > 0.0
    does_change = is_ahead[..., :-1, :] != is_ahead[..., 1:, :]
    if counts is not None:
        does_change &= counts[..., :-1, :]
        does_change &= counts[..., 1:, :]
    points, states = lead.shape[-2:]
    # Of one row with all its points but the last, to the same with all.
    row, there = np.divmod(does_change.ravel().nonzero()[0], (points - 1) * states)
    there, left, flat = there + row * (points * states), there // states, lead.ravel()
    before = flat[there]
    share = before / (before - flat[there + states])
    before_s = backlog_s[left]
    crossings: Array = before_s + share * (backlog_s[left + 1] - before_s)
    return crossings


def _decisions(payoffs: PresentPayoffs, device: int, backlog_s: Array, at_s: Array) -> NDArray[np.uint8]:
    """Best decision at backlogs ``at_s`` (B,). Ties stop at an exit first, and go on last.  # (K, E, Q, B)"""
    offloads = np.stack((payoffs.tensor[device], payoffs.input[device]))
    tensor, sent_input = interpolated(offloads, backlog_s, at_s)  # (K, Q, B)
    going_on = interpolated(payoffs.going_on[device], backlog_s, at_s, axis=-2)  # (K, Q, B, E)
    leave = payoffs.exit[device][:, None, None, :]
    sends = np.where(tensor >= sent_input, np.uint8(Decision.OFFLOAD_TENSOR), np.uint8(Decision.OFFLOAD_INPUT))
    best = np.maximum(tensor, sent_input)[..., None] + _right_where_seen(payoffs, device)
    if payoffs.learned is not None:
        best += interpolated(payoffs.learned[device], backlog_s, at_s, axis=-2)
    table = np.where(leave >= going_on, np.uint8(Decision.EXIT), np.uint8(Decision.CONTINUE))
    np.copyto(table, sends[..., None], where=best > np.maximum(going_on, leave))
    return np.ascontiguousarray(table.transpose(0, 3, 1, 2))


def _right_where_seen(payoffs: PresentPayoffs, device: int) -> Array:
    """alpha * P(whole right) by epoch, ``NEVER`` for evidence that cannot exist there yet: that of exits ahead, for
    which EXIT is worth ``NEVER``, too, and going on is not.  # (K, 1, 1, E)"""
    seen = payoffs.exit[device] > NEVER
    seen[:, NO_EVIDENCE] = True
    right: Array = np.where(seen, payoffs.right[device], NEVER)[:, None, None, :]
    return right


def interpolated(values: Array, backlog_s: Array, at_s: Array, axis: int = -1) -> Array:
    """``values`` (..., G) on the grid ``backlog_s`` (G,), linear in between and constant beyond.  # (..., at)

    ``axis``: of the grid, counted from the last one, where it is another.
    """
    right, weight = bracket(backlog_s, at_s)
    weight = weight.reshape(-1, *[1] * (-1 - axis))
    found: Array = values.take(right - 1, axis)
    found *= 1.0 - weight
    beyond = values.take(right, axis)
    beyond *= weight
    found += beyond
    return found


def bracket(backlog_s: Array, at_s: Array) -> tuple[NDArray[np.intp], Array]:
    """Point of the grid that follows each of ``at_s``, and the share of the way to it from the one before."""
    right = np.minimum(np.maximum(backlog_s.searchsorted(at_s), 1), len(backlog_s) - 1)
    before_s = backlog_s[right - 1]
    weight = (at_s - before_s) / (backlog_s[right] - before_s)
    return right, np.minimum(np.maximum(weight, 0.0), 1.0)


def merged(points: Array) -> Array:
    """Ascending break points, merged into the mean of each cluster until few enough are left."""
    gap, apart = 1e-3, points[1:] - points[:-1]
    while np.count_nonzero(apart > gap) >= MAX_BREAK_POINTS:
        gap *= 1.5
    cluster = np.concatenate(([0], np.cumsum(apart > gap)))
    merged: Array = np.bincount(cluster, weights=points) / np.bincount(cluster)
    return merged
