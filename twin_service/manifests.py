"""Manifests that devices announce by digest and send once."""

from __future__ import annotations

from twin_service.memory import Memory
from twin_service.workload.recalibration import Recalibrated, Recalibration
from twinsplit.errors import BadMessageError, ManifestError, WrongDigestError
from twinsplit.model.manifest import Manifest, manifest_digest, parse_manifest
from twinsplit.types import TaskRecord

MAX_HELD = 256
"""Manifests held ready; a device that attaches with one that was let go sends it again."""


class Manifests:
    """Manifests by digest, read from memory when they are needed."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held: dict[str, Manifest] = {}
        self._unsaved: dict[str, bytes] = {}
        self._digests: dict[int, tuple[Manifest, str]] = {}
        self.recalibration = Recalibration(memory)

    def get(self, digest: str) -> Manifest | None:
        """The manifest with this digest; ``None``: not known."""
        manifest = self._held.get(digest)
        if manifest is None and (data := self._memory.manifest(digest)) is not None:
            manifest = self._hold(digest, self.recalibration.known(digest, parse_manifest(data)))
        return manifest

    def digest_of(self, manifest: Manifest) -> str | None:
        """Digest of a manifest that :meth:`get` or :meth:`received` gave, recalibrated or not; ``None``: of no such."""
        found = self._digests.get(id(manifest))
        return None if found is None else found[1]

    def task_ended(self, digest: str, task: TaskRecord) -> Recalibrated | None:
        """A task of a model has ended; with news from here on plans are made with the new probabilities."""
        found = self.recalibration.task_ended(digest, task)
        if found is not None:
            self._hold(digest, found.manifest)
        return found

    def received(self, digest: str, data: bytes) -> Manifest:
        """A device sends the manifest that it announced as ``digest``.

        Raises:
            WrongDigestError: it is another one.
            BadMessageError: it is no manifest that this version reads.
        """
        found = manifest_digest(data)
        if found != digest:
            raise WrongDigestError(
                f"manifest: its digest is {found[:12]}..., the hello announced {digest[:12]}...; attach again with the "
                "manifest in use"
            )
        try:
            manifest = parse_manifest(data)
        except ManifestError as error:
            raise BadMessageError(str(error)) from None
        self._unsaved[digest] = data
        return self._hold(digest, self.recalibration.known(digest, manifest))

    def save(self) -> None:
        """Keep what was received, and what was learnt of exits.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        for digest in list(self._unsaved):
            self._memory.keep_manifest(digest, self._unsaved[digest])
            del self._unsaved[digest]
        self.recalibration.save()

    def _hold(self, digest: str, manifest: Manifest) -> Manifest:
        self._held[digest] = manifest
        self._digests[id(manifest)] = (manifest, digest)
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]
        if len(self._digests) > 2 * MAX_HELD:
            del self._digests[next(iter(self._digests))]
        return manifest
