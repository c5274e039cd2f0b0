"""A process that halts in the middle of saving the twin's documents, says so, and waits to be killed.

python -m tests.faults.half_saved FOLDER
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from twin_service.documents import Document
from twin_service.store.sqlite import SqliteStore

DEVICES = 2000
_BULK = "." * 2000
"""All documents together are twice what sqlite holds in memory, so that it writes before a transaction is over."""


def documents(saving: int) -> list[Document]:
    """All documents as they are saved the ``saving``-th time; no two savings have one in common."""
    text = f"{saving} {_BULK}"
    return [Document(f"cam-{k:04}", announced=text, outcomes=Counter(edge=saving)) for k in range(DEVICES)]


def _halting(saving: int) -> Iterator[Document]:
    yield from documents(saving)[:-1]
    print("half saved", flush=True)
    signal.pause()


if __name__ == "__main__":
    SqliteStore(Path(sys.argv[1])).keep_documents(_halting(2))
