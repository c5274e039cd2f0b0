"""All documents: bounded in number, saved when they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from twin_service.documents import Document
from twin_service.memory import Claim, Memory
from twinsplit.errors import UnknownTwinError


class Archive:
    """Documents by device, and which of them are not saved yet.

    Args:
        memory: Where they survive a restart.
        limit: At most so many are kept; then the device that came first and is not attached is forgotten.
        is_attached: Whether a device's stream is open.
        forgotten: Told of every device whose document is kept here no longer.
    """

    def __init__(
        self,
        memory: Memory,
        limit: int,
        is_attached: Callable[[str], bool],
        forgotten: Callable[[str], None] = lambda device_id: None,
    ) -> None:
        self._memory = memory
        self._limit = limit
        self._is_attached = is_attached
        self._forgotten = forgotten
        self._is_shared = memory.is_shared
        # A device is at one of those who share a memory, and its document is read when it comes.
        kept = () if memory.is_shared else memory.documents()
        self._documents = {document.device_id: document for document in kept}
        self._unsaved: dict[str, None] = {}
        """Changed since they were last saved, those first that have waited longest."""
        self._due: list[str] = []
        """Of these, by name, what is left of the current round of saving."""
        self.inherited: dict[str, Counter[str]] = {"outcomes": Counter(), "plan_revisions": Counter()}
        """What of the counts in all documents did not happen here: sums over documents less this only grow."""
        self.bases: dict[str, Document] = {}
        """Devices of which it is not known what others have kept, with what was known here when they attached."""

    def __iter__(self) -> Iterator[Document]:
        """All documents by name of the device."""
        return iter([self._documents[device_id] for device_id in sorted(self._documents)])

    def __len__(self) -> int:
        return len(self._documents)

    def document(self, device_id: str) -> Document:
        """The document of a device.

        Raises:
            UnknownTwinError: there is none of that name.
        """
        document = self._documents.get(device_id)
        if document is None:
            here = " at this replica" if self._is_shared else ""
            raise UnknownTwinError(
                f"no device is called {device_id!r}{here}; `twinsplit twin list` shows those there are"
            )
        return document

    def find(self, device_id: str) -> Document | None:
        """The document of a device; ``None``: there is none of that name."""
        return self._documents.get(device_id)

    def opened(self, device_id: str) -> Document:
        """The document of a device, a new one if there was none."""
        document = self._documents.get(device_id)
        if document is None:
            if len(self._documents) >= self._limit:
                self._forget_one()
            document = self._documents[device_id] = Document(device_id)
        return document

    def claimed(self, device_id: str, claim: Claim) -> None:
        """A device is about to attach that others may have held since."""
        held = self.opened(device_id)
        if device_id in self.bases:
            self._put_together(device_id, claim.document)
        elif claim.document is not None and held.epoch < claim.document.epoch:
            self.forget(device_id)
            self._inherit(claim.document, 1)
            self._documents[device_id] = held = claim.document
        held.epoch = max(held.epoch, claim.epoch - 1)

    def unknown(self, device_id: str) -> None:
        """A device is about to attach, and what others have kept of it cannot be asked now: its document is not saved
        over theirs until :meth:`learnt` or :meth:`reclaimed`."""
        held = self.opened(device_id)
        self.bases.setdefault(device_id, Document.from_json(held.to_json(), held.epoch))

    def is_behind(self, device_id: str, claim: Claim) -> bool:
        """Whether a device is attached here under an earlier epoch than it is kept under."""
        held = self._documents.get(device_id)
        return held is not None and held.epoch < claim.epoch and self._is_attached(device_id)

    def learnt(self, device_id: str, claim: Claim | None) -> None:
        """What was kept of a device of which it was not known; ``None``: nothing."""
        held = self._documents.get(device_id)
        # With a later epoch than here the device is elsewhere by now, and what is known of it here counts no more.
        if held is not None and claim is not None and claim.epoch <= held.epoch:
            self._put_together(device_id, claim.document)
        self.bases.pop(device_id, None)

    def reclaimed(self, device_id: str, claim: Claim) -> None:
        """A device that was behind was claimed while it was attached."""
        if device_id in self.bases:  # else it has attached anew
            held = self._documents[device_id]
            held.epoch = max(held.epoch, claim.epoch)
            self._put_together(device_id, claim.document)

    def forget(self, device_id: str) -> None:
        """A device is elsewhere now, where its document is kept up."""
        document = self._documents.pop(device_id, None)
        if document is not None:
            self._inherit(document, -1)
        self._unsaved.pop(device_id, None)
        self.bases.pop(device_id, None)
        self._forgotten(device_id)

    def note_message(self, device_id: str, kind: str) -> None:
        """A message of ``kind`` passed between a device and the twin."""
        document = self._documents.get(device_id)
        if document is not None:
            document.messages[kind] += 1

    def note_change(self, device_id: str) -> None:
        """The document of a device is to be saved."""
        if device_id in self._documents:
            self._unsaved[device_id] = None

    def fall_due(self) -> None:
        """What has changed up to now is due to be saved; what changes from now on has time until the next round."""
        self._due = list(self._unsaved)

    def save(self, limit: int | None = None) -> bool:
        """Keep documents that are due, at most ``limit`` of them; without a limit all that changed.

        Returns:
            Whether more are due.

        Raises:
            StorageError: they cannot be kept; they stay due.
        """
        if limit is None:
            self.fall_due()
        part = self._due[:limit]
        chosen = [device_id for device_id in part if device_id in self._unsaved and device_id not in self.bases]
        if chosen:
            self._memory.keep_documents(self._documents[device_id] for device_id in chosen)
        for device_id in chosen:
            del self._unsaved[device_id]
        del self._due[: len(part)]
        return bool(self._due)

    def _forget_one(self) -> None:
        gone = next((device_id for device_id in self._documents if not self._is_attached(device_id)), None)
        if gone is not None:
            self.forget(gone)

    def _put_together(self, device_id: str, kept: Document | None) -> None:
        """What is known of a device here, and what others have kept of it since."""
        base, held = self.bases.pop(device_id, None), self._documents[device_id]
        if base is not None and kept is not None and base.epoch < kept.epoch:
            self._inherit(base, -1)
            self._inherit(kept, 1)
            held.add(kept, base)
            self._unsaved[device_id] = None

    def _inherit(self, document: Document, sign: int) -> None:
        for name, counts in self.inherited.items():
            for key, count in getattr(document, name).items():
                counts[key] += sign * count
