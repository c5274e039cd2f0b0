"""From payoffs to the table of a plan: break points of backlog, bands, decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.statistics import Array
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import Decision

MAX_BREAK_POINTS = 15
QUEUES = np.arange(QUEUE_LEVELS, dtype=float)

_PREFERRED = (Decision.EXIT, Decision.OFFLOAD_TENSOR, Decision.OFFLOAD_INPUT, Decision.CONTINUE)
"""Order in which a tie is broken: stop at once, and with the smaller secret."""
_ORDER = np.array(_PREFERRED, dtype=np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class PlanTable:
    """What a rule hands to the planner; everything a plan needs but its id, edge, lease and contingency."""

    table: NDArray[np.uint8]  # (K, E, Q, bands)
    band_edges_s: tuple[float, ...]
    exits_run: tuple[bool, ...]
    tensor_representations: tuple[int, ...]
    input_representations: tuple[int, ...]
    observation: Observation
    boundaries_s: tuple[float, ...]
    """Service start to decision epochs 1..h with these exits run, seconds: what dead reckoning of progress needs."""

    def is_same(self, other: PlanTable) -> bool:
        """Whether a device would do the same under both."""
        return (
            self.exits_run == other.exits_run
            and self.tensor_representations == other.tensor_representations
            and self.input_representations == other.input_representations
            and self.observation == other.observation
            and self.band_edges_s == other.band_edges_s
            and np.array_equal(self.table, other.table)
        )


def decisions(payoffs: Array) -> NDArray[np.uint8]:
    """Best decision along the first axis (by :class:`~twinsplit.types.Decision`)."""
    best: NDArray[np.uint8] = _ORDER[np.argmax(payoffs[_ORDER], axis=0)]
    return best


def banded(payoffs: Array, backlog_s: Array) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Table (K, E, Q, bands) and break points from payoffs (decision, K, Q, G, E) on the grid ``backlog_s`` (G,).

    A break point lies where two decisions are worth the same, by linear interpolation between grid points; close ones
    are merged until at most ``MAX_BREAK_POINTS`` are left, and each band takes the decision that is best at its middle.
    """
    chosen = decisions(payoffs)  # (K, Q, G, E)
    changes = np.nonzero(chosen[:, :, :-1] != chosen[:, :, 1:])
    if not len(changes[0]):
        return np.ascontiguousarray(np.moveaxis(chosen[:, :, :1], 2, 3).transpose(0, 2, 1, 3)), ()
    epoch, queue, left, evidence = changes
    before, after = chosen[changes], chosen[epoch, queue, left + 1, evidence]
    lead = payoffs[before, epoch, queue, left, evidence] - payoffs[after, epoch, queue, left, evidence]
    lag = payoffs[after, epoch, queue, left + 1, evidence] - payoffs[before, epoch, queue, left + 1, evidence]
    share = lead / np.maximum(lead + lag, 1e-12)
    points = np.sort(backlog_s[left] + share * (backlog_s[left + 1] - backlog_s[left]))
    edges = _merged(points)
    middles = np.concatenate(([edges[0] / 2.0], (edges[:-1] + edges[1:]) / 2.0, [(edges[-1] + backlog_s[-1]) / 2.0]))
    right = np.clip(np.searchsorted(backlog_s, middles), 1, len(backlog_s) - 1)
    weight = ((middles - backlog_s[right - 1]) / (backlog_s[right] - backlog_s[right - 1]))[:, None]
    at_middles = payoffs[:, :, :, right - 1] * (1.0 - weight) + payoffs[:, :, :, right] * weight
    table = decisions(at_middles)  # (K, Q, bands, E)
    return np.ascontiguousarray(table.transpose(0, 3, 1, 2)), tuple(float(edge) for edge in edges)


def _merged(points: Array) -> Array:
    """Ascending break points, merged into the mean of each cluster until few enough are left."""
    gap = 1e-3
    while True:
        cluster = np.concatenate(([0], np.cumsum(np.diff(points) > gap)))
        if cluster[-1] < MAX_BREAK_POINTS:
            merged: Array = np.bincount(cluster, weights=points) / np.bincount(cluster)
            return merged
        gap *= 1.5
