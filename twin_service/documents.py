"""Documents: what of a device outlives its stream and the service, with a version that guards writes.

The version counts what somebody decided: what is desired of the device, and what it announced about itself. Measured
numbers move with every task and carry their own age instead; otherwise no write could ever be in time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields

from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter

from twinsplit.errors import BadMessageError, StaleWriteError, StorageError
from twinsplit.plausible import LARGEST_WEIGHT
from twinsplit.replicas.attachment import MOST_EPOCH
from twinsplit.telemetry.logs import EventLog
from twinsplit.types import TaskRecord

_log = EventLog("twin.documents")
_REPEATED_LINE_S = 10.0
_SHOWN = 80
_SAME_LATENCY_S = 1e-6
"""Times come as ages and are rounded; two lives of a device, in both of which tasks count from 1, differ by more."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What is asked of one device; ``None``: as for all."""

    alpha_s: float | None = None
    beta_s_per_joule: float | None = None
    deadline_s: float | None = None
    """0: no deadline."""

    def by_field(self) -> dict[str, float]:
        """What is set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class Document:
    """One device's document."""

    device_id: str
    version: NonNegativeInt = 0
    epoch: NonNegativeInt = 0
    """Number of the device's newest attachment at any replica of the twin service. What an earlier one still holds of
    the device is out of date."""
    desired: Desired = Desired()
    model_digest: str = ""
    announced: str = ""
    """What the device last announced of itself, as text to compare with."""
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    plan_revisions: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    """Messages with this device in either direction, by kind."""
    last_ended: tuple[NonNegativeInt, FiniteFloat] | None = None
    """Number and latency, seconds, of the ended task that was counted last."""

    @property
    def ended(self) -> int:
        """Tasks that ended."""
        return self.outcomes.total()

    def take_ended(self, told: Sequence[TaskRecord]) -> tuple[TaskRecord, ...]:
        """Those of ended tasks that are not counted yet.

        A device tells them in one order, and after a broken stream begins with those of which it does not know that
        they were heard.
        """
        repeated = next((place for place, task in enumerate(told, 1) if self._is_last(task)), 0)
        if told:
            self.last_ended = told[-1].task_id, told[-1].latency_s
        return tuple(told[repeated:])

    def _is_last(self, task: TaskRecord) -> bool:
        if self.last_ended is None or task.task_id != self.last_ended[0]:
            return False
        return abs(task.latency_s - self.last_ended[1]) < _SAME_LATENCY_S

    def attached(self, epoch_seen: int = 0) -> None:
        """The device attaches; of the epochs in the plans that it has seen, ``epoch_seen`` is the highest."""
        self.epoch = min(max(self.epoch, epoch_seen) + 1, MOST_EPOCH)

    def announce(self, model_digest: str, announced: str) -> None:
        """The device says what it is; only news make a new version."""
        if (model_digest, announced) != (self.model_digest, self.announced):
            self.model_digest, self.announced = model_digest, announced
            self.version += 1

    def desire(self, desired: Desired, version: int) -> None:
        """Write what is desired; a part that is ``None`` stays as it is.

        Raises:
            StaleWriteError: ``version`` is not the document's.
            BadMessageError: a weight that is negative, or larger than any may be.
        """
        if version != self.version:
            raise StaleWriteError(
                f"{self.device_id}: its document has version {self.version}, the write was made for {version}; "
                "read it again and repeat the write"
            )
        for name, value in desired.by_field().items():
            if not _is_weight(value):
                raise BadMessageError(f"{name}: {value} is impossible; give a number from 0 to {LARGEST_WEIGHT:g}")
        self.desired = Desired(**{**asdict(self.desired), **desired.by_field()})
        self.version += 1

    def add(self, kept: Document, base: Document) -> None:
        """This document was begun from ``base`` while ``kept`` was not known, which goes on from there, too."""
        for name in _COUNTS:
            counts: Counter[str] = getattr(self, name)
            counts.update(getattr(kept, name))
            counts.subtract(getattr(base, name))
            setattr(self, name, +counts)
        if self.desired == base.desired:
            self.desired = kept.desired
        self.version = max(self.version, kept.version) + 1

    def to_json(self) -> str:
        """The document as the store keeps it, beside its epoch."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "epoch"}
        return json.dumps({**values, "desired": asdict(self.desired)})

    @classmethod
    def from_json(cls, text: str, epoch: int = 0) -> Document:
        """The document that the store kept.

        Raises:
            StorageError: the text is not one.
        """
        try:
            document = _READER.validate_python({**json.loads(text), "epoch": epoch})
        except (ValueError, TypeError, RecursionError):
            raise StorageError(
                "a document in the state database cannot be read; move the --state folder away"
            ) from None
        # Earlier versions took weights that no plan can be made with.
        desired = {name: value for name, value in document.desired.by_field().items() if _is_weight(value)}
        document.desired = Desired(**desired)
        return document


_READER = TypeAdapter(Document)


def readable_document(text: str, epoch: int) -> Document | None:
    """The document that a store kept; ``None``: it cannot be read, and its device begins anew."""
    try:
        return Document.from_json(text, epoch)
    except StorageError:
        beginning = str(text)[:_SHOWN]
        _log.error("document-left-out", beginning=beginning, cause="it cannot be read", limit_s=_REPEATED_LINE_S)
        return None


def readable_documents(rows: Iterable[tuple[str, int]]) -> list[Document]:
    """Those that can be read of what a store kept, text and epoch."""
    return [each for text, epoch in rows if (each := readable_document(text, epoch)) is not None]


def _is_weight(value: float) -> bool:
    return 0.0 <= value <= LARGEST_WEIGHT


_COUNTS = ("outcomes", "reasons", "plan_revisions", "messages")
