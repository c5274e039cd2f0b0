"""Signalling of a run, read from every service's ``/metrics``: each message is counted once, where it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

MESSAGES = "twinsplit_signalling_messages_total"

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


class SignallingBooks:
    """Adds up counters that begin anew when a service is restarted."""

    def __init__(self) -> None:
        self._sent: Counter[tuple[str, str]] = Counter()
        self._last: dict[tuple[str, str], float] = {}

    def read(self, service: str, samples: Samples | None) -> None:
        """Take one scrape of ``service``; ``None``: it did not answer."""
        for (name, labels), value in (samples or {}).items():
            if name == MESSAGES:
                key = (service, dict(labels).get("kind", ""))
                before = self._last.get(key, 0.0)
                self._sent[key] += round(value - before if value >= before else value)
                self._last[key] = value

    def restarted(self, service: str) -> None:
        """The counters of ``service`` begin at 0 again."""
        for key in self._last:
            if key[0] == service:
                self._last[key] = 0.0

    @property
    def messages(self) -> int:
        """All messages between devices, edges and twin so far."""
        return sum(self._sent.values())

    def by_kind(self) -> dict[str, int]:
        """Messages by ``SENDER KIND``."""
        return {f"{service} {kind}": count for (service, kind), count in sorted(self._sent.items())}
