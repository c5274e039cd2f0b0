"""Names of models on the wire: the network as in its manifest, and each of its tails."""

from __future__ import annotations


def tail_name(name: str, cut: int) -> str:
    """Name of the tail after ``cut`` of the network ``name``; after cut 0 it is the network itself."""
    return f"{name}.from_cut_{cut}" if cut else name
