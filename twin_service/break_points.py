"""Where a moved backlog changes a decision: break points per plan, and intervals sorted per edge (design section 7).

One report of a busy edge must not cost work for ten thousand devices. Each device leaves, at its edge, the interval
of backlog within which what it holds decides like the newest reading; a report looks only at the intervals that it
falls out of.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort

import numpy as np
from numpy.typing import NDArray

from twinsplit.model.manifest import Manifest
from twinsplit.plan import QUEUE_LEVELS, Observation, Plan
from twinsplit.types import Decision


class PlanBreakPoints:
    """The break points of backlog of one plan that matter, by (epoch, queue length).

    A break point matters when the share of samples whose decision changes there is at least ``least_share``: evidence
    that hardly ever occurs buys no message. With a deadline it matters when it does at any age.
    """

    def __init__(self, plan: Plan, manifest: Manifest, *, least_share: float) -> None:
        evidence = _evidence_shares(plan, manifest)
        table = plan.table if plan.age_edges_s else plan.table[..., None]  # (epochs, evidence, queue, bands, ages)
        changes = table[..., 1:, :] != table[..., :-1, :]
        share = np.einsum("keqba,ke->akqb", changes, evidence).max(axis=0)
        going_on = np.einsum("keqba,ke->akqb", table == Decision.CONTINUE, evidence).max(axis=0)
        if plan.observation is Observation.SERVICE_START:
            # What is read at epoch 0 serves all epochs, as far as a task that read it gets.
            reach = np.concatenate((np.ones_like(going_on[:1]), np.cumprod(going_on, axis=0)[:-1]))
            share[0] = (share * np.maximum(reach[..., 1:], reach[..., :-1])).max(axis=0)
            share[1:] = 0.0
        self._edges_s = plan.band_edges_s
        self._going_on: list[list[list[float]]] = going_on.tolist()
        self._points = [
            [
                tuple(edge_s for edge_s, is_kept in zip(plan.band_edges_s, row, strict=True) if is_kept)
                for row in by_queue
            ]
            for by_queue in (share >= least_share).tolist()
        ]

    def at(self, epoch: int, queue_length: int) -> tuple[float, ...]:
        """Ascending break points at ``epoch`` with ``queue_length`` tasks waiting, seconds of backlog."""
        return self._points[epoch][min(queue_length, QUEUE_LEVELS - 1)]

    def is_changed(self, epoch: int, queue_length: int, held_s: float, newest_s: float) -> bool:
        """Whether a device that reckons with ``held_s`` decides otherwise than with ``newest_s``."""
        points = self.at(epoch, queue_length)
        return bisect_right(points, held_s) != bisect_right(points, newest_s)

    def share_going_on(self, epoch: int, queue_length: int, backlog_s: float) -> float:
        """Share of the samples at ``epoch`` for which the plan says CONTINUE."""
        by_band = self._going_on[epoch][min(queue_length, QUEUE_LEVELS - 1)]
        return by_band[bisect_right(self._edges_s, backlog_s)]

    def around(self, epoch: int, queue_length: int, backlog_s: float) -> tuple[float, float]:
        """Neighbouring break points of ``backlog_s``: ``-inf`` or ``inf`` where there is none."""
        points = self.at(epoch, queue_length)
        above = bisect_right(points, backlog_s)
        return points[above - 1] if above else -math.inf, points[above] if above < len(points) else math.inf


def _evidence_shares(plan: Plan, manifest: Manifest) -> NDArray[np.float64]:
    """Share of samples with each evidence at each epoch: the calibrated prior of the last exit run.  # (K, E)"""
    shares = np.zeros((len(plan.table), manifest.evidence_count))
    current = np.zeros(manifest.evidence_count)
    current[0] = 1.0
    for epoch in range(len(plan.table)):
        exit_index = manifest.exit_after.get(epoch)
        if exit_index is not None and plan.exits_run[exit_index]:
            current = np.zeros(manifest.evidence_count)
            first = 1 + exit_index * manifest.bin_count
            current[first : first + manifest.bin_count] = manifest.exits[exit_index].prior
        shares[epoch] = current
    return shares


class SortedIntervals:
    """Intervals [low, high) by device, so that a value finds those that do not hold it without a look at the others."""

    def __init__(self) -> None:
        self._lows: list[tuple[float, str]] = []
        self._highs: list[tuple[float, str]] = []
        self._by_device: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def put(self, device_id: str, low: float, high: float) -> None:
        """Set the interval of ``device_id``; an unbounded side is not kept."""
        self.discard(device_id)
        if low == -math.inf and high == math.inf:
            return
        self._by_device[device_id] = (low, high)
        if low > -math.inf:
            insort(self._lows, (low, device_id))
        if high < math.inf:
            insort(self._highs, (high, device_id))

    def discard(self, device_id: str) -> None:
        """Forget the interval of ``device_id``, if there is one."""
        interval = self._by_device.pop(device_id, None)
        if interval is None:
            return
        low, high = interval
        if low > -math.inf:
            del self._lows[bisect_left(self._lows, (low, device_id))]
        if high < math.inf:
            del self._highs[bisect_left(self._highs, (high, device_id))]

    def left_by(self, value: float) -> list[str]:
        """Devices whose interval does not hold ``value``."""
        below = [device_id for _, device_id in self._lows[bisect_right(self._lows, (value, "\uffff")) :]]
        above = [device_id for _, device_id in self._highs[: bisect_right(self._highs, (value, "\uffff"))]]
        return below + above
