"""Limits that hold for each peer by itself, so that one that floods leaves room for the others. No input, no output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinsplit.errors import PeerLimitError

BURST_S = 1.0
"""So many seconds' worth of messages may come at once."""
PAUSE_S = 0.1
"""A stream that sends too fast is not read from for this long; what it sends meanwhile waits at the sender."""
_MOST_IDLE = 4096
"""Peers without an open call that are remembered; beyond them the books are tidied."""


@dataclass(slots=True)
class _Peer:
    calls: int
    tokens: float
    counted_at_s: float


class PeerLimits:
    """Counts open calls and messages per peer.

    Args:
        max_calls: that one peer may have open at once.
        max_messages_per_s: over longer than a moment; so many may also come at once.
        now_s: monotonic clock.
    """

    def __init__(self, max_calls: int, max_messages_per_s: float, now_s: Callable[[], float]) -> None:
        self.max_calls = max_calls
        self.max_messages_per_s = max_messages_per_s
        self._now_s = now_s
        self._peers: dict[str, _Peer] = {}

    def begin(self, peer: str) -> None:
        """``peer`` begins a call; it counts as a message, too.

        Raises:
            PeerLimitError: it has too many open, or calls too often; nothing is counted as open.
        """
        if self._peer(peer).calls >= self.max_calls:
            raise PeerLimitError(f"{self.max_calls} calls of this peer are open; end one before the next")
        self.count(peer)
        self._peers[peer].calls += 1

    def end(self, peer: str) -> None:
        """A call that began has ended."""
        self._peers[peer].calls -= 1

    def count(self, peer: str) -> None:
        """``peer`` has sent a message.

        Raises:
            PeerLimitError: it sends too fast.
        """
        held = self._peer(peer)
        if held.tokens < 1.0:
            raise PeerLimitError(
                f"this peer sends more than {self.max_messages_per_s:g} messages a second; send them more slowly"
            )
        held.tokens -= 1.0

    def __len__(self) -> int:
        return len(self._peers)

    def _peer(self, peer: str) -> _Peer:
        now_s = self._now_s()
        full = self.max_messages_per_s * BURST_S
        held = self._peers.get(peer)
        if held is None:
            if len(self._peers) >= _MOST_IDLE:
                self._forget_idle(now_s)
            held = self._peers[peer] = _Peer(0, full, now_s)
        held.tokens = min(full, held.tokens + (now_s - held.counted_at_s) * self.max_messages_per_s)
        held.counted_at_s = now_s
        return held

    def _forget_idle(self, now_s: float) -> None:
        """Forget whom the limits would treat as a new peer anyway."""
        idle = [name for name, held in self._peers.items() if not held.calls and held.counted_at_s + BURST_S <= now_s]
        for name in idle:
            del self._peers[name]
