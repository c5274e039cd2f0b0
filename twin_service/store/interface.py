"""What every store is: the memory of the core (:class:`twin_service.memory.Memory`) with bounds, a size and an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twin_service.memory import Memory

MAX_MANIFESTS = 256
MAX_WEIGHTS = 200
"""Versions of weights kept of one model, beside the one that serves."""
SERVING = "serving"
"""State of the weights that are never forgotten."""
RESERVED_PLAN_IDS = 1000
"""Plan ids reserved by one write; those left over at a restart are skipped, so that ids only grow."""
FORGOTTEN_SHARE = 0.1
"""Share of replay and traces that goes at once when the state is full, so that it is not full again at once."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store keeps at most; manifests and weights are bounded by number, too."""

    max_documents: int = 20_000
    """Documents kept; the longest unchanged go first."""
    max_age_s: float = 30 * 86_400.0
    """Age beyond which replay and traces go."""
    max_bytes: float = 500e6
    """Size of the state beyond which the oldest of them go earlier."""


class Store(Memory, Protocol):
    """A memory that survives the process."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the state on disk; ``None``: not known."""
        ...

    @property
    def errors(self) -> int:
        """Writes and reads that failed so far."""
        ...

    @property
    def is_degraded(self) -> bool:
        """Whether the newest attempt to keep something failed."""
        ...

    def close(self) -> None:
        """Let go of it; what was handed over before is kept."""
        ...
