"""What every store is: the memory of the core (:class:`twin_service.memory.Memory`) with bounds, a size and an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twin_service.memory import Claim, Memory, WeightsRow
from twin_service.workload.replayed import Replayed

MAX_MANIFESTS = 256
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


class SharedStore(Store, Protocol):
    """A store of several replicas: each device is at one of them, and one of them learns."""

    @property
    def is_elected(self) -> bool:
        """Whether this replica is the one that learns."""
        ...

    @property
    def elections(self) -> int:
        """How often this replica was elected; others may have been in between."""
        ...

    def on_news(self, told: Callable[[], None]) -> None:
        """``told`` is called, in another thread, whenever one of the following may have something new."""
        ...

    def take_published(self) -> dict[str, list[WeightsRow]]:
        """All versions of every model whose weights are others than before."""
        ...

    def take_others(self, limit: int) -> list[Replayed]:
        """Replayed tasks that other replicas have kept since this one was elected; damaged ones are left out."""
        ...

    def take_moved(self) -> list[tuple[str, int]]:
        """Devices that have attached to another replica, and the epochs of that."""
        ...

    def known_models(self) -> list[str]:
        """Digests of all models whose manifest is kept."""
        ...

    async def claimed(self, device_id: str, model_digest: str, epoch: int) -> Claim | None:
        """A device attaches here under an ``epoch`` that it announces (0: none): what was kept of it. What other
        replicas still write of it is refused from now on.

        Returns:
            ``None``: the database does not answer now. The device is served all the same.
        """
        ...

    async def kept(self, device_ids: Sequence[str]) -> dict[str, Claim] | None:
        """What is kept of devices, without claiming them: each with the epoch that it is kept under.

        Returns:
            ``None``: the database does not answer now.
        """
        ...

    async def reclaimed(self, device_ids: Sequence[str]) -> dict[str, Claim] | None:
        """Claim devices that are attached here, whatever they are kept under; they do not wait for it.

        Returns:
            ``None``: the database does not answer now.
        """
        ...
