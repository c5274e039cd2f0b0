"""Open-loop payoffs of one device at any point: exact queue, backlog and uplink, without a new evaluation each time.

What stopping is worth is a formula; what going on is worth is evaluated once on a grid of queue, backlog and uplink,
and interpolated. Who asks often (replay, learning, the simulator's exact state) has the situation rounded, so that
those which come again share one evaluation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from twin_service.decision.optimising import GRID_POINTS, MAX_BACKLOG_S, OPEN_LOOP
from twin_service.decision.situation import MAX_BUSY_SHARE, Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import PresentPayoffs, present_payoffs
from twin_service.decision.tables import PlanTable
from twin_service.decision.utility import NEVER, Batch, PayloadTerms, batch_of

QUEUE_KNOTS = np.array([0.0, 1.0, 2.0, 3.0, 6.0, 12.0])
"""Queue lengths at which going on is evaluated; beyond the last it goes on along the last piece."""
_UPLINK_SHARES = (0.5, 1.0, 2.0, 6.0)
"""Busy uplinks at which it is evaluated, beside an idle one, in parts of the longest way of a payload."""
_MAX_KEPT = 64
"""Evaluations kept, 100 to 300 kB each: a service that runs for weeks holds so many. One takes 3 ms to make anew."""
_PROFILE_SHARE = 0.2
"""Times of device and edge are rounded so much more finely than rates: they move little, and tasks add them up."""


class Payoffs(NamedTuple):
    """Expected utility to go of every decision, seconds; ``NEVER`` where it cannot be taken."""

    tensor: float
    input: float
    exit: float
    going_on: float

    @property
    def best_offload(self) -> float:
        """P0: the better payload's."""
        return max(self.tensor, self.input)


def quantised(situation: Situation, share: float = 0.05) -> Situation:
    """``situation`` with its numbers rounded to grids whose steps are about ``share`` of the value.

    Small numbers, which change nothing, are rounded to steps of ``share`` of a floor instead. Rounding twice changes
    nothing more.
    """
    fine = share * _PROFILE_SHARE
    factor = 1.0 + _rounded(1.0 / (1.0 - min(max(situation.busy_share, 0.0), MAX_BUSY_SHARE)) - 1.0, 1.0, share)
    return replace(
        situation,
        segment_s=tuple(_rounded(t, 1e-3, fine) for t in situation.segment_s),
        exit_s=tuple(_rounded(t, 1e-3, fine) for t in situation.exit_s),
        encode_s={key: _rounded(t, 1e-3, fine) for key, t in situation.encode_s.items()},
        tail_s=None if situation.tail_s is None else tuple(_rounded(t, 1e-3, fine) for t in situation.tail_s),
        goodput_bytes_per_s=max(_rounded(situation.goodput_bytes_per_s, 100.0, share), 1.0),
        overhead_s=_rounded(situation.overhead_s, 0.01, share),
        task_rate_per_s=_rounded(situation.task_rate_per_s, 0.1, share),
        busy_share=min(1.0 - 1.0 / factor, MAX_BUSY_SHARE),
        uplink_busy_s=_rounded(situation.uplink_busy_s, 0.02, share),
        backlog_mean_s=_rounded(situation.backlog_mean_s, 0.05, share),
        backlog_time_constant_s=max(_rounded(situation.backlog_time_constant_s, 0.1, share), 1e-3),
        arrived_work_s=tuple(_rounded(work_s, 0.05, share) for work_s in situation.arrived_work_s),
    )


def _rounded(value: float, floor: float, share: float) -> float:
    """``value`` >= 0 on the grid ``floor * ((1 + share)**n - 1)``."""
    step = math.log1p(share)
    return floor * math.expm1(step * round(math.log1p(max(value, 0.0) / floor) / step))


def values_of(situation: Situation, exits_run: tuple[bool, ...] | None = None) -> OpenLoopValues:
    """Payoffs of ``situation`` rounded by :func:`quantised`; evaluated once and kept for those like it.

    ``exits_run``: the exits that the device runs; ``None``: those that open-loop would have it run.
    """
    rounded = replace(quantised(situation), arrived_work_s=(0.0, 0.0, 0.0))  # open loop knows nothing of it
    return _kept(_Key(_numbers(rounded), rounded), exits_run)


class OpenLoopValues:
    """Open-loop payoffs of one situation, which is taken as it is.

    Attributes:
        situation: What they hold for.
        exits_run: One per exit of the manifest.
        tensor_representations: Position per epoch of the representation sent, or ``NO_REPRESENTATION``.
        input_representations: Likewise of the input.
    """

    def __init__(self, situation: Situation, exits_run: tuple[bool, ...] | None = None) -> None:
        self.situation = situation
        if exits_run is None:
            exits_run = tuple(bool(run) for run in OPEN_LOOP.exits_run([situation])[0])
        self.exits_run = exits_run
        statistics = statistics_of(situation.manifest)
        batch = batch_of([situation], statistics, exits_run)
        self.p_exit_right = tuple(float(p) for p in statistics.p_exit_right)
        """Calibrated P(right) of the last exit, by evidence."""
        self.p_whole_right = tuple(float(p) for p in statistics.p_whole_right)
        """Likewise of the whole network."""
        self.tensor_representations = tuple(int(r) for r in batch.tensor.representation[0])
        self.input_representations = tuple(int(r) for r in batch.input.representation[0])
        self.last_epoch = batch.last_epoch
        self.is_whole = batch.is_whole
        self.reached_s = tuple(float(t) for t in batch.reached_s[0])
        """Service start to epochs 0..h, seconds."""
        self._tensor = _sendings(batch, batch.tensor)
        self._input = _sendings(batch, batch.input)
        self._energy = float(batch.energy_compute[0])
        self._factor = float(batch.factor[0])
        self._half_rate = float(batch.task_rate[0]) / 2.0
        grid = self._on_grid(batch)
        self.right = tuple(float(p) for p in grid.right[0])
        """alpha * P(whole right | evidence), seconds, by evidence."""
        self._exit = [tuple(float(p) for p in row) for row in grid.exit[0]]
        going_on = np.ascontiguousarray(grid.going_on.transpose(1, 0, 2, 4, 3))  # (K, U, Q, E, G)
        self._going_on = memoryview(going_on.astype(np.float32).tobytes()).cast("f")
        self._evidences, self._points = going_on.shape[3:]

    @cached_property
    def plan_table(self) -> PlanTable:
        """The table of ``open-loop`` with these exits."""
        return OPEN_LOOP.evaluate([self.situation], np.array([self.exits_run], dtype=bool))[0].plan_table

    def at(self, epoch: int, evidence: int, queue: float, backlog_s: float, uplink_busy_s: float) -> Payoffs:
        """Payoffs at one point, seconds; the queue, the backlog and the busy uplink (b) are those there and then."""
        right = self.right[evidence]
        tensor, sent_input = self._tensor[epoch], self._input[epoch]
        return Payoffs(
            NEVER if tensor is None else right - self._paid(tensor, queue, backlog_s, uplink_busy_s),
            NEVER if sent_input is None else right - self._paid(sent_input, queue, backlog_s, uplink_busy_s),
            self._exit[epoch][evidence],
            self._going_on_at(epoch, evidence, queue, backlog_s, uplink_busy_s),
        )

    def _paid(self, sending: _Sending, queue: float, backlog_s: float, uplink_busy_s: float) -> float:
        arrival_s = uplink_busy_s + sending.way_s
        encode_s = sending.encode_s
        paid = (arrival_s if arrival_s > backlog_s else backlog_s) + sending.fixed_s
        return paid + encode_s * (self._energy + self._factor * (queue + self._half_rate * encode_s))

    def _on_grid(self, batch: Batch) -> PresentPayoffs:
        s = self.situation
        used_s = max((sending.way_s for sending in (*self._tensor, *self._input) if sending), default=0.1)
        longest_s = max(used_s, s.uplink_busy_s)
        self._uplink_s = sorted({0.0, s.uplink_busy_s, *(share * longest_s for share in _UPLINK_SHARES)})
        backlog_s = OPEN_LOOP.backlog_grid_s(batch)[0]
        # Above the top of a table's grid nothing is offloaded at once; what drains on the way may be, later.
        beyond = backlog_s[-1] + batch.reached_s[0, -1] * np.array([0.5, 1.0])
        backlog_s = np.concatenate((backlog_s, beyond))
        self._backlog_s = [float(backlog) for backlog in backlog_s]
        # Where the ceiling and not our patience ends the grid, the backlog no longer matters beyond.
        self._furthest = 1.0 if backlog_s[GRID_POINTS - 1] < MAX_BACKLOG_S else math.inf
        self._queue = [float(queue) for queue in QUEUE_KNOTS]
        every = [replace(s, uplink_busy_s=knot) for knot in self._uplink_s]
        there = batch_of(every, batch.statistics, self.exits_run)
        return present_payoffs(there, QUEUE_KNOTS, np.tile(backlog_s, (len(every), 1)), is_reduced=False)

    def _going_on_at(self, epoch: int, evidence: int, queue: float, backlog_s: float, uplink_busy_s: float) -> float:
        points = self._points
        column, backlog_share = _bracket(self._backlog_s, backlog_s)
        backlog_share = min(backlog_share, self._furthest)
        row, queue_share = _bracket(self._queue, queue)
        layer, uplink_share = _bracket(self._uplink_s, uplink_busy_s)
        per_row = self._evidences * points
        per_layer = len(self._queue) * per_row
        first = (epoch * len(self._uplink_s) + layer) * per_layer + row * per_row + evidence * points + column
        found = self._on_plane(first, per_row, backlog_share, queue_share)
        if uplink_share != 0.0:
            beyond = self._on_plane(first + per_layer, per_row, backlog_share, queue_share)
            found += uplink_share * (beyond - found)
        return found

    def _on_plane(self, first: int, per_row: int, backlog_share: float, queue_share: float) -> float:
        values = self._going_on
        found = values[first] + backlog_share * (values[first + 1] - values[first])
        if queue_share != 0.0:
            first += per_row
            found += queue_share * (values[first] + backlog_share * (values[first + 1] - values[first]) - found)
        return found


class _Sending(NamedTuple):
    """Offloading one payload at one epoch."""

    way_s: float
    """Encoding, upload and overhead: to the last byte at the edge on an idle uplink."""
    fixed_s: float
    """Tail, energy of sending and loss of accuracy, seconds."""
    encode_s: float


def _sendings(batch: Batch, payload: PayloadTerms) -> list[_Sending | None]:
    """One per epoch; ``None``: not available there."""
    alpha, energy, overhead_s = float(batch.alpha[0]), float(batch.energy_transmit[0]), float(batch.overhead_s[0])
    found: list[_Sending | None] = []
    for epoch in range(batch.last_epoch + 1):
        encode_s, upload_s = float(payload.encode_s[0, epoch]), float(payload.upload_s[0, epoch])
        fixed_s = float(payload.tail_s[0, epoch]) + energy * upload_s + alpha * float(payload.loss[0, epoch])
        sending = _Sending(encode_s + upload_s + overhead_s, fixed_s, encode_s)
        found.append(sending if payload.is_available[0, epoch] else None)
    return found


def _bracket(knots: Sequence[float], value: float) -> tuple[int, float]:
    """Index of the knot at or below ``value`` and the share of the way to the next; over 1 beyond the last."""
    index = bisect_right(knots, value) - 1
    if index < 0:
        return 0, 0.0
    index = min(index, len(knots) - 2)
    return index, (value - knots[index]) / (knots[index + 1] - knots[index])


@dataclass(frozen=True, slots=True)
class _Key:
    """What an evaluation is kept by. (A situation holds a mapping and has no hash.)"""

    numbers: tuple[object, ...]
    situation: Situation = field(compare=False)


def _numbers(s: Situation) -> tuple[object, ...]:
    return (
        s.manifest,
        s.weights,
        s.segment_s,
        s.exit_s,
        tuple(sorted(s.encode_s.items())),
        s.tail_s,
        s.goodput_bytes_per_s,
        s.overhead_s,
        s.task_rate_per_s,
        s.busy_share,
        s.uplink_busy_s,
        s.is_tensors_only,
        s.backlog_mean_s,
        s.backlog_time_constant_s,
        s.is_caused_waiting_counted,
    )


@lru_cache(maxsize=_MAX_KEPT)
def _kept(key: _Key, exits_run: tuple[bool, ...] | None) -> OpenLoopValues:
    return OpenLoopValues(key.situation, exits_run)
