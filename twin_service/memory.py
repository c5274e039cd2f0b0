"""What the twin service remembers across restarts, as its core asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twin_service.documents import Document


class Memory(Protocol):
    """Plan ids, manifests and documents. The next issue adds replay and weights here."""

    def next_plan_id(self) -> int:
        """A plan id above every earlier one, also those given out before a restart."""
        ...

    def plan_id_seen(self, plan_id: int) -> None:
        """A device has seen ``plan_id``: later ones are above it, even if our own count was lost."""
        ...

    def manifest(self, digest: str) -> bytes | None:
        """Bytes of the manifest with this digest; ``None``: not known."""
        ...

    def keep_manifest(self, digest: str, data: bytes) -> None:
        """Remember a manifest."""
        ...

    def documents(self) -> list[Document]:
        """All documents kept."""
        ...

    def keep_documents(self, documents: Iterable[Document]) -> None:
        """Remember documents as they are now."""
        ...


class VolatileMemory:
    """A memory that is gone with the process (tests, simulator)."""

    def __init__(self) -> None:
        self._plan_id = 0
        self._manifests: dict[str, bytes] = {}
        self._documents: dict[str, str] = {}

    def next_plan_id(self) -> int:
        self._plan_id += 1
        return self._plan_id

    def plan_id_seen(self, plan_id: int) -> None:
        self._plan_id = max(self._plan_id, plan_id)

    def manifest(self, digest: str) -> bytes | None:
        return self._manifests.get(digest)

    def keep_manifest(self, digest: str, data: bytes) -> None:
        self._manifests[digest] = data

    def documents(self) -> list[Document]:
        return [Document.from_json(text) for text in self._documents.values()]

    def keep_documents(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self._documents[document.device_id] = document.to_json()
