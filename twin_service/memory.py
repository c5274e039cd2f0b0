"""What the twin service remembers across restarts, as its core asks for it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, NamedTuple, Protocol

from pydantic import Field, TypeAdapter

from twin_service.documents import Document
from twin_service.workload.replayed import Replayed
from twinsplit.telemetry.logs import EventLog

REFUSED = "refused"
"""State of weights that never served."""
MAX_REFUSED = 200
"""Refused versions kept of one model, the newest, some 7 kB each; whatever has served is kept for good."""
_LAST_UNIX_S = 9.2e9
"""In the year 2261: nanoseconds of later instants are more than the wire takes."""
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.memory")


@dataclass(frozen=True, slots=True)
class WeightsRow:
    """One version of a model's learned weights."""

    model_digest: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]
    """Hex."""
    version: Annotated[int, Field(gt=0, lt=1 << 63)]
    state: str
    """Such as ``serving``; the learner's words."""
    created_unix_s: Annotated[float, Field(ge=0.0, le=_LAST_UNIX_S)]
    scores_json: str
    data: bytes


_READER = TypeAdapter(WeightsRow)
_FIELDS = [each.name for each in fields(WeightsRow)]


def readable_weights(rows: Iterable[Sequence[object]]) -> list[WeightsRow]:
    """Those that can be read of what a store kept, in the order of the fields of :class:`WeightsRow`."""
    return [each for row in rows if (each := _readable(row)) is not None]


def _readable(row: Sequence[object]) -> WeightsRow | None:
    try:
        return _READER.validate_python(dict(zip(_FIELDS, row, strict=True)))
    except ValueError:
        _log.error("weights-left-out", cause="a version cannot be read", limit_s=_REPEATED_LINE_S)
        return None


def keep_version(kept: dict[int, WeightsRow], row: WeightsRow) -> None:
    """Put ``row`` among the versions ``kept`` of its model, and let the oldest refused ones go."""
    kept[row.version] = row
    refused = sorted(version for version, each in kept.items() if each.state == REFUSED)
    for version in refused[:-MAX_REFUSED]:
        del kept[version]


class Claim(NamedTuple):
    """What was kept of a device that attaches."""

    epoch: int
    """Of this attachment; what is written under an earlier one is refused."""
    document: Document | None
    """With the epoch of the attachment before; ``None``: none was kept."""


class Memory(Protocol):
    """Plan ids, manifests and documents; replayed tasks, weights and calibration."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes use it, too. Then a document is read when its device attaches, only one of the
        processes learns, and reading replay and traces waits for a network."""
        ...

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
        """Remember documents as they are now; one of an earlier epoch than the kept one's is out of date and left."""
        ...

    def keep_replay(self, tasks: Sequence[Replayed]) -> None:
        """Remember replayed tasks; the oldest go when there are too many."""
        ...

    def replay(self, model_digest: str, limit: int) -> list[Replayed]:
        """The newest ``limit`` replayed tasks of a model, oldest first; damaged ones are left out."""
        ...

    def replay_records(self, model_digest: str, limit: int) -> Iterator[bytes]:
        """The same as they are kept, damaged ones too, read one by one."""
        ...

    def keep_weights(self, row: WeightsRow) -> None:
        """Remember a version of weights, in place of an earlier row of the same model and version; of refused ones
        the newest ``MAX_REFUSED`` stay."""
        ...

    def weights(self, model_digest: str | None = None) -> list[WeightsRow]:
        """All versions kept of a model's weights (``None``: of all models), oldest first."""
        ...

    def keep_calibration(self, model_digest: str, text: str) -> None:
        """Remember what was learnt of a model's exits."""
        ...

    def calibration(self, model_digest: str) -> str | None:
        """What was kept of a model's exits; ``None``: nothing."""
        ...

    def keep_trace(self, lines: bytes) -> None:
        """Remember a batch of trace records, compressed (see docs/traces.md)."""
        ...

    def traces(self) -> Iterator[bytes]:
        """All batches of trace records, oldest first."""
        ...


_KEPT_REPLAY = 50_000
"""Replayed tasks of one model that a volatile memory keeps."""


_KEPT_TRACES = 1000
"""Batches of trace records that it keeps."""


class VolatileMemory:
    """A memory that is gone with the process (tests, simulator)."""

    is_shared = False

    def __init__(self) -> None:
        self._plan_id = 0
        self._manifests: dict[str, bytes] = {}
        self._documents: dict[str, tuple[str, int]] = {}
        self._replay: defaultdict[str, deque[Replayed]] = defaultdict(lambda: deque(maxlen=_KEPT_REPLAY))
        self._weights: defaultdict[str, dict[int, WeightsRow]] = defaultdict(dict)
        self._calibration: dict[str, str] = {}
        self._traces: deque[bytes] = deque(maxlen=_KEPT_TRACES)

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
        return [Document.from_json(text, epoch) for text, epoch in self._documents.values()]

    def keep_documents(self, documents: Iterable[Document]) -> None:
        for document in documents:
            _, kept_epoch = self._documents.get(document.device_id, ("", 0))
            if document.epoch >= kept_epoch:
                self._documents.pop(document.device_id, None)
                self._documents[document.device_id] = (document.to_json(), document.epoch)

    def keep_replay(self, tasks: Sequence[Replayed]) -> None:
        for task in tasks:
            self._replay[task.model_digest].append(task)

    def replay(self, model_digest: str, limit: int) -> list[Replayed]:
        kept = self._replay.get(model_digest, ())
        return list(kept)[max(0, len(kept) - limit) :]

    def replay_records(self, model_digest: str, limit: int) -> Iterator[bytes]:
        return (task.to_bytes() for task in self.replay(model_digest, limit))

    def keep_weights(self, row: WeightsRow) -> None:
        keep_version(self._weights[row.model_digest], row)

    def weights(self, model_digest: str | None = None) -> list[WeightsRow]:
        digests = sorted(self._weights) if model_digest is None else [model_digest]
        kept = (self._weights.get(digest, {}) for digest in digests)
        return [versions[version] for versions in kept for version in sorted(versions)]

    def keep_calibration(self, model_digest: str, text: str) -> None:
        self._calibration[model_digest] = text

    def calibration(self, model_digest: str) -> str | None:
        return self._calibration.get(model_digest)

    def keep_trace(self, lines: bytes) -> None:
        self._traces.append(lines)

    def traces(self) -> Iterator[bytes]:
        return iter(tuple(self._traces))
