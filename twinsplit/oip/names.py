"""Names of models on the wire: the network as in its manifest, and each of its tails."""

from __future__ import annotations

_TAIL = ".from_cut_"


def tail_name(name: str, cut: int) -> str:
    """Name of the tail after ``cut`` of the network ``name``; after cut 0 it is the network itself."""
    return f"{name}{_TAIL}{cut}" if cut else name


def cut_of(name: str, network: str) -> int | None:
    """Cut of the tail of ``network`` with this name; ``None``: it is none of its tails."""
    if name == network:
        return 0
    digits = name[len(network) + len(_TAIL) :]
    is_tail = name.startswith(network + _TAIL) and digits.isascii() and digits.isdigit() and len(digits) <= 4
    return int(digits) if is_tail else None
