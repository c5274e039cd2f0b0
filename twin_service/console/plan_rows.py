"""Plans as rows of words: a row per epoch and run of evidence states decided alike, a cell per backlog band."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION, QUEUE_LEVELS
from twinsplit.types import NO_EVIDENCE, Decision

WORDS = {
    Decision.CONTINUE: "continue",
    Decision.EXIT: "exit",
    Decision.OFFLOAD_TENSOR: "tensor",
    Decision.OFFLOAD_INPUT: "input",
}
UNREACHABLE = 255
"""In a cell: the exits that are run cannot show that evidence there."""

Cells = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What a plan and a rule's table have in common. See :class:`twinsplit.plan.Plan` for the fields."""

    table: NDArray[np.uint8]  # (K, E, Q, bands), with a deadline (K, E, Q, bands, age bands)
    band_edges_s: tuple[float, ...]
    exits_run: tuple[bool, ...]
    tensor_representations: tuple[int, ...]
    input_representations: tuple[int, ...]
    age_edges_s: tuple[float, ...] = ()

    def cells(self, manifest: Manifest, queue_level: int, age_s: float | None, edges_s: Sequence[float]) -> Cells:
        """Decisions at a queue level and age, on the bands between ``edges_s``, which hold all of the table's own;
        ``UNREACHABLE`` where no task comes.  # (K, E, bands)"""
        found = self.table[:, :, queue_level]
        if self.age_edges_s:
            found = found[..., bisect_right(self.age_edges_s, age_s or 0.0)]
        inside = [0.0, *edges_s]  # each band is decided as at its lower end
        own = np.searchsorted(self.band_edges_s, inside, side="right") if self.band_edges_s else [0] * len(inside)
        cells = found[:, :, own].copy()
        cells[~reachable(manifest, self.exits_run)] = UNREACHABLE
        return cells


def table_of(plan: Any) -> Table:
    """The table of a :class:`twinsplit.plan.Plan` or a :class:`twin_service.decision.tables.PlanTable`."""
    return Table(
        plan.table,
        plan.band_edges_s,
        plan.exits_run,
        plan.tensor_representations,
        plan.input_representations,
        plan.age_edges_s,
    )


def reachable(manifest: Manifest, exits_run: Sequence[bool]) -> NDArray[np.bool_]:
    """(Epoch, evidence) pairs that a task meets with these exits: its evidence is the last exit that ran.  # (K, E)"""
    found = np.zeros((manifest.held_segments + 1, manifest.evidence_count), dtype=bool)
    states = slice(NO_EVIDENCE, NO_EVIDENCE + 1)
    for epoch in range(len(found)):
        index = manifest.exit_after.get(epoch)
        if index is not None and exits_run[index]:
            first = 1 + index * manifest.bin_count
            states = slice(first, first + manifest.bin_count)
        found[epoch, states] = True
    return found


def bands_that_differ(cells: Cells, edges_s: Sequence[float]) -> tuple[Cells, list[float]]:
    """``cells`` (..., bands) without the edges at which none of them changes: those of other queue levels, say."""
    if not len(edges_s):
        return cells, []
    changes = (cells[..., 1:] != cells[..., :-1]).reshape(-1, len(edges_s)).any(axis=0)
    return cells[..., np.concatenate(([True], changes))], np.array(edges_s)[changes].tolist()


def runs(cells: Cells) -> list[tuple[int, int, int]]:
    """(Epoch, first state, last state) of neighbouring evidence states with the same cells; ``cells`` (K, E, ...).
    States that are unreachable in every cell are left out."""
    found: list[tuple[int, int, int]] = []
    flat = cells.reshape(*cells.shape[:2], -1)
    for epoch, by_evidence in enumerate(flat):
        previous = -2
        for state in np.nonzero((by_evidence != UNREACHABLE).any(axis=1))[0].tolist():
            if state == previous + 1 and (by_evidence[state] == by_evidence[previous]).all():
                found[-1] = (epoch, found[-1][1], state)
            else:
                found.append((epoch, state, state))
            previous = state
    return found


def row(table: Table, manifest: Manifest, cells: Cells, run: tuple[int, int, int]) -> dict[str, Any]:
    """One row; ``cells`` as of :meth:`Table.cells`, ``run`` as of :func:`runs`."""
    epoch, first, last = run
    decided = cells[epoch, first].tolist()
    return {
        "epoch": epoch,
        "evidence": first,
        "evidence_last": last,
        "evidence_text": evidence_text(manifest, first, last),
        "cells": [word(cell) for cell in decided],
        "payload": _payload_text(table, manifest, epoch, set(decided)),
    }


def word(cell: int) -> str | None:
    """A decision in a word; ``None``: no task comes there."""
    return None if cell == UNREACHABLE else WORDS[Decision(cell)]


def queue_level(queue_length: float) -> int:
    """Level of the table for a predicted queue length."""
    return min(max(round(queue_length), 0), QUEUE_LEVELS - 1)


def evidence_text(manifest: Manifest, first: int, last: int | None = None) -> str:
    """Evidence states for people: which exit ran, and how often it is right in these bins of its confidence."""
    if first == NO_EVIDENCE:
        return "no exit yet"
    exit_index = (first - 1) // manifest.bin_count
    shares = [manifest.p_exit_right(state) for state in range(first, (first if last is None else last) + 1)]
    low, high = round(100 * min(shares)), round(100 * max(shares))
    right = f"{low} %" if low == high else f"{low} to {high} %"
    return f"exit after segment {manifest.exits[exit_index].after_segment}, right in {right}"


def _payload_text(table: Table, manifest: Manifest, epoch: int, decided: set[int]) -> str | None:
    sent = []
    for decision, cut, positions in (
        (Decision.OFFLOAD_TENSOR, epoch, table.tensor_representations),
        (Decision.OFFLOAD_INPUT, 0, table.input_representations),
    ):
        position = positions[epoch]
        if decision in decided and position != NO_REPRESENTATION:
            entry = manifest.cuts[cut].representations[position]
            name = "input" if cut == 0 else f"cut {cut}"
            sent.append(f"{name} as {entry.name}, {entry.mean_bytes:.0f} bytes")
    return "; ".join(sent) or None
