"""Edges that a device may use, as the twin lists them (design section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from twinsplit.reckoning import BacklogState

MOST_LISTED = 4
"""Edges in a device's list at most: it keeps a connection to each."""


@dataclass(frozen=True, slots=True)
class ListedEdge:
    """One edge that holds the device's model."""

    edge_id: str
    address: str
    tail_s: tuple[float, ...]
    """Service time of the tail after cut 0, 1, ... m-1, seconds."""
    backlog: BacklogState


@dataclass(frozen=True, slots=True)
class EdgeLink:
    """The way from a device to one edge, as the device tracks it."""

    edge_id: str
    goodput_bytes_per_s: float | None
    """``None``: nothing was sent there yet."""
    round_trip_s: float | None
    """Without payload; ``None``: unknown."""
    is_reachable: bool
    """False: the breaker of this way is open."""
