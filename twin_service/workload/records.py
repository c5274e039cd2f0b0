"""Replayed tasks in batches, as they are kept: for who reads them from a running twin service or from its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from twin_service.documents import Document
from twin_service.manifests import Manifests
from twin_service.memory import Memory

MAX_REPLAYED = 1_000_000
"""Stands for all."""
_BATCH = 50
"""Read in one go: so many take about a millisecond, in which nobody else is served."""


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """Some recorded tasks of one model."""

    model_digest: str
    """Hex."""
    manifest_json: bytes
    """The manifest, with the probabilities that plans are made with now; empty in all batches of a model but one."""
    records: tuple[bytes, ...]
    """As :class:`~twin_service.workload.replayed.Replayed` writes them, oldest first."""


def replay_batches(
    memory: Memory, documents: Iterable[Document], manifests: Manifests, model: str, limit: int
) -> Iterator[ReplayBatch]:
    """The newest ``limit`` replayed tasks of every model that one of ``documents`` names and whose digest begins with
    ``model``; a first batch has its manifest and no tasks. A model without a manifest is left out.

    Raises:
        StorageError: they cannot be read.
    """
    digests = sorted({document.model_digest for document in documents if document.model_digest})
    found = {digest: manifests.get(digest) for digest in digests if digest.startswith(model)}
    for digest, manifest in found.items():
        if manifest is None:
            continue
        yield ReplayBatch(digest, manifest.model_dump_json().encode(), ())
        records = memory.replay_records(digest, limit)
        while batch := tuple(islice(records, _BATCH)):
            yield ReplayBatch(digest, b"", batch)
