"""Streams of random numbers: one per source, so that a change of one source leaves the others as they were."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, *names: str | int) -> int:
    """Seed of the stream of that name in a run of ``seed``."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
