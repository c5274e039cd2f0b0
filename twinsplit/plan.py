"""A standing plan: what the twin knows, folded into a table over what only the device sees (design section 7).

The table has one byte (a :class:`~twinsplit.types.Decision`) per (epoch, evidence, queue length, backlog band) and,
with a deadline, per band of the task's age. The device looks its decision up at every epoch and asks nobody. Plans
never carry code.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import BadMessageError
from twinsplit.model.manifest import Manifest
from twinsplit.plausible import LARGEST_SECONDS
from twinsplit.types import NO_EVIDENCE, Decision

QUEUE_LEVELS = 4
"""Queue lengths 0, 1, 2 and 3 or more."""
MAX_BANDS = 64
MAX_AGE_BANDS = 32
NO_REPRESENTATION = -1


class Observation(str, Enum):
    """When the device reads its own queue and the backlog for the look-up."""

    EACH_EPOCH = "each-epoch"
    SERVICE_START = "service-start"
    """Once, kept for the whole task: rules that decide at service start."""


@dataclass(frozen=True, slots=True)
class Contingency:
    """What holds when the lease has ended: leave at an exit whose calibrated P(right) reaches its threshold, offload at
    ``cut`` while the edge is known to answer, else go on."""

    exit_thresholds: tuple[float, ...]
    """One per exit; above 1: never leave there."""
    cut: int | None = None
    """``None``: never offload without a plan."""


@dataclass(frozen=True, slots=True)
class BusyUplink:
    """What a plan says while earlier payloads keep the uplink busy. The time until it is free moves within a second and
    only the device knows it; the rest of the plan is made for a free one."""

    from_s: float
    """Expected time until the uplink is free from which this holds, seconds; above 0."""
    band_edges_s: tuple[float, ...]
    """As of the plan."""
    table: NDArray[np.uint8]
    """As of a plan without a deadline."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One standing plan. ``table`` has shape (epochs 0..held segments, evidence, QUEUE_LEVELS, bands), uint8; with a
    deadline (``age_edges_s``) a last axis of age bands.

    CONTINUE in the last row means that nothing is left to do: the whole network has answered, or, where the device
    holds only the head, its best exit answers, marked degraded (without any exit the task fails).
    """

    plan_id: int
    """Only grows; a device ignores one that is not newer than its own."""
    model_digest: str
    rule: str
    edge_id: str | None
    """``None``: no edge holds the model; the table then never offloads."""
    edge_address: str | None
    exits_run: tuple[bool, ...]
    """One per exit of the manifest."""
    band_edges_s: tuple[float, ...]
    """Ascending break points of backlog, seconds; band b holds backlogs from edge b-1 up to edge b."""
    table: NDArray[np.uint8]
    tensor_representations: tuple[int, ...]
    """Per epoch: position in the cut's representations, or NO_REPRESENTATION."""
    input_representations: tuple[int, ...]
    """Per epoch: position in cut 0's representations, or NO_REPRESENTATION."""
    lease_s: float
    contingency: Contingency
    observation: Observation = Observation.EACH_EPOCH
    age_edges_s: tuple[float, ...] = ()
    """Ascending ages since generation, seconds, as ``band_edges_s``; empty: no deadline, and no axis of ages."""
    attachment_epoch: int = 0
    """Number of the attachment for which it was made (:mod:`twinsplit.replicas.attachment`); 0: none."""
    busy_uplink: BusyUplink | None = None
    """``None``: the table holds for any uplink; always so with a deadline."""

    def decision(
        self,
        epoch: int,
        evidence: int,
        queue_length: int,
        backlog_s: float,
        age_s: float = 0.0,
        uplink_busy_s: float = 0.0,
    ) -> Decision:
        """Table look-up; queue lengths of 3 and more share a row. ``age_s``: generation to now, or to service start
        where queue, backlog and uplink are those of the service start, too."""
        queue = min(queue_length, QUEUE_LEVELS - 1)
        busy = self.busy_uplink
        if busy is not None and uplink_busy_s >= busy.from_s:
            return Decision(busy.table[epoch, evidence, queue, bisect_right(busy.band_edges_s, backlog_s)])
        band = bisect_right(self.band_edges_s, backlog_s)
        if self.age_edges_s:
            return Decision(self.table[epoch, evidence, queue, band, bisect_right(self.age_edges_s, age_s)])
        return Decision(self.table[epoch, evidence, queue, band])


def check_plan(plan: Plan, manifest: Manifest) -> None:
    """See that a device with ``manifest`` can obey ``plan`` in every cell.

    Raises:
        BadMessageError: a dimension, an index or a decision does not fit; the text names it.
    """
    if len(plan.age_edges_s) >= MAX_AGE_BANDS:
        raise BadMessageError(f"plan: {len(plan.age_edges_s)} break points of age, at most {MAX_AGE_BANDS - 1}")
    if not _do_ascend(plan.age_edges_s):
        raise BadMessageError(f"plan: break points of age must ascend, up to {LARGEST_SECONDS:g} s")
    _check_table(
        plan, plan.table, plan.band_edges_s, (len(plan.age_edges_s) + 1,) if plan.age_edges_s else (), manifest
    )
    if (busy := plan.busy_uplink) is not None:
        if plan.age_edges_s or not 0.0 < busy.from_s <= LARGEST_SECONDS:
            raise BadMessageError("plan: a busy uplink counts from a time above 0, and only without a deadline")
        _check_table(plan, busy.table, busy.band_edges_s, (), manifest)
    if len(plan.exits_run) != len(manifest.exits) or len(plan.contingency.exit_thresholds) != len(manifest.exits):
        raise BadMessageError(f"plan: this model has {len(manifest.exits)} exits")
    if not 0.0 < plan.lease_s <= LARGEST_SECONDS:
        raise BadMessageError(f"plan: the lease must be a positive number of seconds, up to {LARGEST_SECONDS:g}")
    if not all(threshold >= 0.0 for threshold in plan.contingency.exit_thresholds):
        raise BadMessageError("plan: a threshold of an exit must be a confidence, or above 1 where it is never taken")
    if plan.contingency.cut is not None and not 0 <= plan.contingency.cut <= manifest.held_segments:
        raise BadMessageError("plan: the contingency's cut is not one of this model")


def _check_table(
    plan: Plan, table: NDArray[np.uint8], band_edges_s: Sequence[float], more: tuple[int, ...], manifest: Manifest
) -> None:
    """See that ``table``, with ``more`` axes behind those of every plan, is one for ``manifest``."""
    if len(band_edges_s) >= MAX_BANDS:
        raise BadMessageError(f"plan: {len(band_edges_s)} break points, at most {MAX_BANDS - 1} are allowed")
    if not _do_ascend(band_edges_s):
        raise BadMessageError(f"plan: break points of backlog must ascend, up to {LARGEST_SECONDS:g} s")
    shape = (manifest.held_segments + 1, manifest.evidence_count, QUEUE_LEVELS, len(band_edges_s) + 1, *more)
    if table.shape != shape:
        raise BadMessageError(f"plan: table has shape {table.shape}, this model needs {shape}")
    if table.size and int(table.max()) > max(Decision):
        raise BadMessageError("plan: a decision that this version does not know")
    if bool((table[:, NO_EVIDENCE] == Decision.EXIT).any()):
        raise BadMessageError("plan: EXIT without evidence")
    _check_payloads(table, Decision.OFFLOAD_TENSOR, plan.tensor_representations, manifest, own_cut=True)
    _check_payloads(table, Decision.OFFLOAD_INPUT, plan.input_representations, manifest, own_cut=False)


def _do_ascend(edges_s: Sequence[float]) -> bool:
    return all(abs(edge_s) <= LARGEST_SECONDS for edge_s in edges_s) and list(edges_s) == sorted(edges_s)


def _check_payloads(
    table: NDArray[np.uint8], decision: Decision, chosen: Sequence[int], manifest: Manifest, *, own_cut: bool
) -> None:
    if len(chosen) != len(table):
        raise BadMessageError(f"plan: needs one representation per epoch, has {len(chosen)} for {len(table)}")
    for epoch, position in enumerate(chosen):
        count = len(manifest.cuts[epoch if own_cut else 0].representations)
        if not NO_REPRESENTATION <= position < count:
            raise BadMessageError(f"plan: epoch {epoch} names representation {position}, its cut has {count}")
        if position == NO_REPRESENTATION and bool((table[epoch] == decision).any()):
            raise BadMessageError(f"plan: epoch {epoch} offloads without a representation")
