"""Manifests that devices announce by digest and send once."""

from __future__ import annotations

from twin_service.memory import Memory
from twinsplit.errors import BadMessageError, ManifestError, WrongDigestError
from twinsplit.model.manifest import Manifest, manifest_digest, parse_manifest

MAX_HELD = 256
"""Manifests held ready; a device that attaches with one that was let go sends it again."""


class Manifests:
    """Manifests by digest, read from memory when they are needed."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held: dict[str, Manifest] = {}
        self._unsaved: dict[str, bytes] = {}

    def get(self, digest: str) -> Manifest | None:
        """The manifest with this digest; ``None``: not known."""
        manifest = self._held.get(digest)
        if manifest is None and (data := self._memory.manifest(digest)) is not None:
            manifest = parse_manifest(data)
            self._hold(digest, manifest)
        return manifest

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
        self._hold(digest, manifest)
        self._unsaved[digest] = data
        return manifest

    def save(self) -> None:
        """Keep what was received.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        for digest in list(self._unsaved):
            self._memory.keep_manifest(digest, self._unsaved[digest])
            del self._unsaved[digest]

    def _hold(self, digest: str, manifest: Manifest) -> None:
        self._held[digest] = manifest
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]
