"""Rendezvous hashing: who goes where, agreed upon by nobody and moved by nothing but who there is.

Every pair of a name and a replica has a score, a hash of both; a name prefers the replica with the highest. Scores of
the others do not change when a replica comes or goes, so only its own names move, and they spread evenly over the rest
(Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

_SCORE_BYTES = 8


def ranked(name: str, replicas: Iterable[str]) -> tuple[str, ...]:
    """``replicas`` by how much ``name`` prefers them, the most preferred first."""
    return tuple(sorted(set(replicas), key=lambda replica: (_score(name, replica), replica), reverse=True))


def _score(name: str, replica: str) -> bytes:
    # The length keeps pairs apart whose texts run into one another.
    return blake2b(f"{len(name)}:{name}{replica}".encode(), digest_size=_SCORE_BYTES).digest()
