"""Signalling is counted where it is sent, so that every message between services is counted once (design section 2)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages and bytes of one kind."""

    messages: int = 0
    bytes: int = 0


class SignallingCount:
    """Messages and bytes sent by kind. Tensors and answers are not signalling. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, Sent] = {}

    def note_sent(self, kind: str, size_bytes: int) -> None:
        """One message of ``kind`` (the name of its field in the proto's ``oneof``, such as ``plan``) went out."""
        with self._lock:
            before = self._sent.get(kind, Sent())
            self._sent[kind] = Sent(before.messages + 1, before.bytes + size_bytes)

    def by_kind(self) -> Mapping[str, Sent]:
        """What was sent so far."""
        with self._lock:
            return dict(self._sent)

    def total(self) -> Sent:
        """All kinds together."""
        sent = self.by_kind().values()
        return Sent(sum(one.messages for one in sent), sum(one.bytes for one in sent))

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """The two counters of the catalogue."""
        for kind, sent in self.by_kind().items():
            yield "twinsplit_signalling_messages_total", {"kind": kind}, sent.messages
            yield "twinsplit_signalling_bytes_total", {"kind": kind}, sent.bytes
