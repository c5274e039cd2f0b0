"""Clock readings on messages that are sent anyway: what the twin makes offsets of (ClockEcho in twin.proto)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twinsplit.rpc.v1 import twin_pb2


class _Stamped(Protocol):
    @property
    def clock(self) -> twin_pb2.ClockEcho: ...


class ClockEcho:
    """The sender's side of one stream. Instants are on its own monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._sent_s = 0.0
        self._received_s = 0.0

    def reset(self) -> None:
        """A new stream: nothing has been received on it."""
        self._sent_s = self._received_s = 0.0

    def stamp(self, message: _Stamped) -> None:
        """Write the readings into a message about to be sent."""
        message.clock.sent_s = self._now_s()
        message.clock.echo_sent_s = self._sent_s
        message.clock.echo_received_s = self._received_s

    def received(self, message: _Stamped) -> None:
        """Keep what the newest message says, to be echoed."""
        self._sent_s = message.clock.sent_s
        self._received_s = self._now_s()
