"""Payoffs of stopping and prices of going on, vectorised over devices (design section 5).

Axes, always in this order: D devices, P pairs (present epoch, epoch), Q queue levels, G backlogs, E evidence states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array, Statistics
from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION

NEVER = -1e9
"""Payoff of what cannot be done; far below any real payoff and finite, so that sums stay numbers."""


@dataclass(frozen=True, slots=True)
class PayloadTerms:
    """What sending a payload costs at every epoch, (D, K) of one or (2, D, K) of both, the boundary tensor first; where
    one cannot be sent ``is_available`` is False."""

    representation: NDArray[np.int64]
    """Position in the cut's representations."""
    encode_s: Array
    """c."""
    upload_s: Array
    """s / R."""
    tail_s: Array
    """z."""
    loss: Array
    """Accuracy lost by the representation."""
    is_available: NDArray[np.bool_]

    def one(self, payload: int) -> PayloadTerms:
        """Of both, those of one."""
        return PayloadTerms(*(getattr(self, each.name)[payload] for each in fields(self)))

    def rows(self, places: NDArray[np.int64]) -> PayloadTerms:
        """The devices at ``places``."""
        return PayloadTerms(*(getattr(self, each.name)[..., places, :] for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Batch:
    """Situations of devices that hold the same manifest, each with the exits that it runs, as arrays."""

    statistics: Statistics
    exits_run: NDArray[np.bool_]  # (D, X)
    step_s: Array  # (D, h) epoch l to l + 1: segment l and, where it is run, the exit behind it
    reached_s: Array  # (D, h + 1) service start to epoch l
    factor: Array  # (D,) price of caused waiting
    task_rate: Array  # (D,)
    alpha: Array  # (D,)
    energy_compute: Array  # (D,) beta * P_c
    energy_transmit: Array  # (D,) beta * P_tx
    overhead_s: Array  # (D,)
    uplink_busy_s: Array  # (D,)
    backlog_mean_s: Array  # (D,)
    backlog_time_constant_s: Array  # (D,)
    payloads: PayloadTerms  # (2, D, K)
    is_whole: bool
    """Whether the device holds the whole network."""

    @property
    def tensor(self) -> PayloadTerms:
        """Terms of the boundary tensor."""
        return self.payloads.one(0)

    @property
    def input(self) -> PayloadTerms:
        """Terms of the input."""
        return self.payloads.one(1)

    @property
    def size(self) -> int:
        return len(self.factor)

    def rows(self, places: NDArray[np.int64]) -> Batch:
        """The devices at ``places``."""
        found = {name: getattr(self, name)[places] for name in _BY_DEVICE}
        return replace(self, **found, payloads=self.payloads.rows(places))

    def after_exits_at(self, epoch: int, value: Array, does_count: NDArray[np.bool_] | bool = True) -> Array:
        """Expectation of ``value`` (D, ..., E) over what the exits run at ``epoch`` will show, by evidence before.

        What P(whole right) seems to gain or lose by it is taken out (:attr:`Statistics.whole_losses`), where accuracy
        ``does_count`` (broadcast to ``value``).
        """
        by_device = (-1, *[1] * (value.ndim - 1))
        for index, at in enumerate(self.statistics.exit_epochs):
            if at == epoch and self.exits_run[:, index].any():
                states = value.shape[-1]
                # As one product of two matrices: of many small ones each has its own overhead.
                expected = (value.reshape(-1, states) @ self.statistics.transitions[index].T).reshape(value.shape)
                expected += self.alpha.reshape(by_device) * self.statistics.whole_losses[index] * does_count
                run = self.exits_run[:, index]
                value = expected if run.all() else np.where(run.reshape(by_device), expected, value)
        return value

    def is_exit_run_at(self, epochs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether an exit is run at each of ``epochs`` (P,).  # (D, P)"""
        there = np.array(self.statistics.exit_epochs)[None, :] == epochs[:, None]  # (P, X)
        is_run: NDArray[np.bool_] = (self.exits_run[:, None, :] & there[None, :, :]).any(axis=2)
        return is_run

    def exit_payoffs(self) -> Array:
        """alpha * P(right) of the last exit that ran; NEVER without one.  # (D, K, E)"""
        is_exit = self.statistics.shown[: self.last_epoch + 1]
        return np.where(is_exit, (self.alpha[:, None] * self.statistics.p_exit_right)[:, None, :], NEVER)

    @property
    def last_epoch(self) -> int:
        """h."""
        return int(self.step_s.shape[1])

    def price(self, duration_s: Array, queue: Array) -> Array:
        """What ``duration_s`` of device time costs while ``queue`` tasks wait (both (D, ...), broadcast), seconds:
        the time itself, the waiting it causes, its energy."""
        return duration_s + self.side_price(duration_s, queue)

    def side_price(self, duration_s: Array, queue: Array) -> Array:
        """The same without the time itself."""
        shape = (-1, *[1] * (queue.ndim - 1))
        priced = queue + self.task_rate.reshape(shape) * duration_s / 2.0
        return duration_s * (self.energy_compute.reshape(shape) + self.factor.reshape(shape) * priced)


_BY_DEVICE = tuple(each.name for each in fields(Batch) if each.name not in ("statistics", "payloads", "is_whole"))


@dataclass(frozen=True, slots=True)
class Course:
    """Queue and backlog at the later epoch of each pair (present epoch, epoch), as dead reckoning expects them.

    Axis P runs over the pairs; no epoch lies before its present.
    """

    present_backlog_s: Array  # (D, G)
    starts: NDArray[np.int64]  # (P,)
    epochs: NDArray[np.int64]  # (P,)
    elapsed_s: Array  # (D, P) present to epoch
    queue: Array  # (D, P, Q)
    backlog_s: Array  # (D, P, G)


def course(
    batch: Batch, queue: Array, backlog_s: Array, starts: NDArray[np.int64], epochs: NDArray[np.int64]
) -> Course:
    """Course over the pairs from present ``queue`` (Q,), ``backlog_s`` (D, G), as :mod:`twinsplit.reckoning` has it."""
    elapsed = batch.reached_s[:, epochs] - batch.reached_s[:, starts]
    mean = batch.backlog_mean_s[:, None, None]
    now = backlog_s[:, None, :]
    kept = np.exp(-elapsed / batch.backlog_time_constant_s[:, None])[..., None]
    backlog = np.maximum(np.maximum(now - elapsed[..., None], mean + (now - mean) * kept), 0.0)
    return Course(backlog_s, starts, epochs, elapsed, queue + (batch.task_rate[:, None] * elapsed)[..., None], backlog)


def arrival_s(batch: Batch, payload: PayloadTerms, at: Course) -> Array:
    """u: from the epoch to the last byte at the edge, seconds.  # (..., D, P)"""
    busy = np.maximum(batch.uplink_busy_s[:, None] - at.elapsed_s, 0.0)
    way: Array = payload.encode_s[..., at.epochs] + busy + payload.upload_s[..., at.epochs] + batch.overhead_s[:, None]
    return way


def offload(batch: Batch, payload: PayloadTerms, at: Course) -> Array:
    """P0 less ``alpha * P(whole right)``, which alone depends on evidence.  # (..., D, P, Q, G)"""
    waited = np.maximum(arrival_s(batch, payload, at)[..., None], at.backlog_s)  # u + max(W - u, 0)
    fixed = payload.tail_s + batch.energy_transmit[:, None] * payload.upload_s + batch.alpha[:, None] * payload.loss
    encoding = batch.side_price(payload.encode_s[..., at.epochs, None], at.queue)
    paid = fixed[..., at.epochs, None] + encoding
    payoff: Array = waited[..., None, :] + paid[..., None]
    np.negative(payoff, out=payoff)
    payoff[~payload.is_available[..., at.epochs]] = NEVER
    return payoff


@dataclass(frozen=True, slots=True)
class Representations:
    """Positions of the representations that are sent at every epoch, of the boundary tensor and of the input."""

    tensor: tuple[int, ...]
    input: tuple[int, ...]


def batch_of(
    situations: Sequence[Situation],
    statistics: Statistics,
    exits_run: NDArray[np.bool_] | tuple[bool, ...],
    representations: Sequence[Representations] | None = None,
) -> Batch:
    """Arrays of ``situations``, which all hold the same manifest; ``exits_run`` (D, X), or (X,) for all alike.

    ``representations``: those to reckon with, one per situation; ``None``: the cheapest at every epoch.

    Only what differs between devices is looped over; everything after it is numpy.
    """
    manifest = situations[0].manifest
    held = manifest.held_segments
    segment = np.array([s.segment_s for s in situations])
    step = segment[:, :held].copy()
    run = np.array(exits_run, dtype=bool)
    if run.ndim == 1:
        run = np.tile(run, (len(situations), 1))
    for index, epoch in enumerate(statistics.exit_epochs):
        if epoch <= held:
            step[:, epoch - 1] += run[:, index] * [s.exit_s[index] for s in situations]
    reached = np.zeros((len(situations), held + 1))
    np.cumsum(step, axis=1, out=reached[:, 1:])
    weights = [s.weights for s in situations]
    beta = np.array([w.beta_s_per_joule for w in weights])
    return Batch(
        statistics,
        run,
        step,
        reached,
        np.array([s.waiting_factor for s in situations]),
        np.array([s.task_rate_per_s for s in situations]),
        np.array([w.alpha_s for w in weights]),
        beta * [w.compute_watts for w in weights],
        beta * [w.transmit_watts for w in weights],
        np.array([s.overhead_s for s in situations]),
        np.array([s.uplink_busy_s for s in situations]),
        np.array([s.backlog_mean_s for s in situations]),
        np.array([max(s.backlog_time_constant_s, 1e-3) for s in situations]),
        _payload_terms(situations, manifest, representations),
        held == manifest.segment_count,
    )


def _payload_terms(
    situations: Sequence[Situation], manifest: Manifest, chosen: Sequence[Representations] | None
) -> PayloadTerms:
    """Terms of the boundary tensor (epochs 1..h, not the output) and of the input, for every device.

    A situation that comes several times, since various exits are tried in it, is reckoned once.
    """
    sent: Sequence[Representations | None] = chosen or [None] * len(situations)
    place: dict[tuple[int, Representations | None], int] = {}
    rows: list[tuple[list[_Row], list[_Row]]] = []
    for s, only in zip(situations, sent, strict=True):
        if (id(s), only) not in place:
            place[id(s), only] = len(rows)
            rows.append(_payload_rows(s, manifest, only))
    table = np.array(rows)  # (rows, 2, K, 5)
    if len(rows) < len(situations):
        table = table[[place[id(s), only] for s, only in zip(situations, sent, strict=True)]]
    representation, encode_s, upload_s, tail_s, loss = table.transpose(3, 1, 0, 2)  # (2, D, K) each
    positions = representation.astype(np.int64)
    return PayloadTerms(positions, encode_s, upload_s, tail_s, loss, positions >= 0)


_Row = tuple[int, float, float, float, float]
_NOTHING: _Row = (NO_REPRESENTATION, 0.0, 0.0, 0.0, 0.0)


def _payload_rows(s: Situation, manifest: Manifest, chosen: Representations | None) -> tuple[list[_Row], list[_Row]]:
    """By epoch, of the boundary tensor and of the input."""
    epochs = manifest.held_segments + 1
    tensor, sent_input = [_NOTHING] * epochs, [_NOTHING] * epochs
    first_cut = manifest.first_sent_cut(is_tensors_only=s.is_tensors_only)
    for k in range(max(first_cut, 1), min(epochs, manifest.segment_count)):
        tensor[k] = _cheapest(s, k, None if chosen is None else chosen.tensor[k])
    if first_cut == 0:
        last_input = epochs if manifest.held_segments < manifest.segment_count else epochs - 1
        known = {only: _cheapest(s, 0, only) for only in ({None} if chosen is None else set(chosen.input[:last_input]))}
        for k in range(last_input):
            sent_input[k] = known[None if chosen is None else chosen.input[k]]
    return tensor, sent_input


def _cheapest(s: Situation, cut: int, only: int | None) -> _Row:
    """The representation of ``cut`` that costs least on an idle edge: (position, encode_s, upload_s, tail_s, loss).

    ``only``: the position to take; ``None``: any that is offered.
    """
    if s.tail_s is None:
        return _NOTHING
    w, goodput, measured_s = s.weights, s.goodput_bytes_per_s, s.encode_s
    encoding_price = 1.0 + w.beta_s_per_joule * w.compute_watts
    upload_price = 1.0 + w.beta_s_per_joule * w.transmit_watts
    best_cost, best = float("inf"), _NOTHING
    for position, mean_bytes, encode_s, loss in _offers(s.manifest)[cut]:
        if only is not None and position != only:
            continue
        encode_s = measured_s.get((cut, position), encode_s)
        upload_s = mean_bytes / goodput
        cost = w.alpha_s * loss + encode_s * encoding_price + upload_s * upload_price
        if cost < best_cost:
            best_cost = cost
            best = (position, encode_s, upload_s, s.tail_s[cut], loss)
    return best


@lru_cache(maxsize=64)
def _offers(manifest: Manifest) -> tuple[tuple[tuple[int, float, float, float], ...], ...]:
    """By cut: (position, mean bytes, encoding time in seconds, loss) of every representation offered."""
    return tuple(
        tuple((i, e.mean_bytes, e.encode_s, e.loss) for i, e in enumerate(cut.representations) if e.is_offered)
        for cut in manifest.cuts
    )
