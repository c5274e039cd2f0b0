"""Calibrated statistics of a manifest as arrays over the flat evidence states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from twinsplit.model.manifest import Manifest
from twinsplit.types import NO_EVIDENCE

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Evidence states: 0 is ``none``, then every (exit, bin) as :func:`twinsplit.types.evidence_state` numbers them."""

    segment_count: int
    bin_count: int
    exit_epochs: tuple[int, ...]
    """Decision epoch of every exit."""
    p_exit_right: Array  # (evidence,)
    p_whole_right: Array  # (evidence,)
    transitions: tuple[Array, ...]  # per exit (evidence before, evidence after), rows sum to 1

    @property
    def evidence_count(self) -> int:
        return len(self.p_exit_right)

    @cached_property
    def whole_losses(self) -> tuple[Array, ...]:
        """Per exit and evidence before it, what P(whole right) seems to lose in the mean when the exit is run.

        Evidence tells of a sample and makes no network better or worse, so the mean would have to stay. But evidence is
        that of the last exit alone, and its P(whole right) is counted whatever the exits before had shown: with two
        exits the mean moves by a point or so, worth tens of milliseconds.  # (exits)(evidence,)
        """
        return tuple(self.p_whole_right - matrix @ self.p_whole_right for matrix in self.transitions)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Which evidence states can exist at each epoch: ``none`` and exits at or before it.  # (epochs, evidence)"""
        exits = np.repeat(np.array(self.exit_epochs, dtype=np.int64), self.bin_count)
        epochs = np.arange(self.segment_count + 1)
        return np.concatenate((np.ones((len(epochs), 1), dtype=bool), exits <= epochs[:, None]), axis=1)

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """The same without ``none``: what an exit can have shown by then."""
        shown: NDArray[np.bool_] = self.seen & (np.arange(self.evidence_count) != NO_EVIDENCE)
        return shown


@lru_cache(maxsize=64)
def statistics_of(manifest: Manifest) -> Statistics:
    """Full statistics of a manifest."""
    bins = manifest.bin_count
    count = manifest.evidence_count
    transitions = []
    for after in manifest.exits:
        columns = slice(1 + after.index * bins, 1 + (after.index + 1) * bins)
        matrix = np.eye(count)
        matrix[0] = 0.0
        matrix[0, columns] = after.prior
        for before in manifest.exits[: after.index]:
            rows = slice(1 + before.index * bins, 1 + (before.index + 1) * bins)
            matrix[rows] = 0.0
            matrix[rows, columns] = before.transitions[after.index]
        transitions.append(matrix)
    evidence = range(count)
    return Statistics(
        manifest.segment_count,
        bins,
        tuple(e.after_segment for e in manifest.exits),
        np.array([manifest.p_exit_right(e) for e in evidence]),
        np.array([manifest.p_whole_right(e) for e in evidence]),
        tuple(transitions),
    )


@lru_cache(maxsize=64)
def statistics_without_evidence(manifest: Manifest) -> Statistics:
    """The same model seen through mean accuracies: one bin per exit, so that an exit tells nothing about the sample."""
    exits = manifest.exits
    count = 1 + len(exits)
    transitions = []
    for after in exits:
        matrix = np.eye(count)
        matrix[: after.index + 1] = 0.0
        matrix[: after.index + 1, after.index + 1] = 1.0
        transitions.append(matrix)
    whole = manifest.p_whole_right(0)
    return Statistics(
        manifest.segment_count,
        1,
        tuple(e.after_segment for e in exits),
        np.array([0.0] + [e.mean_p_right for e in exits]),
        np.full(count, whole),
        tuple(transitions),
    )
