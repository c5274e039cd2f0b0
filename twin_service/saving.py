"""When a twin service saves its state: documents in rounds, the rest as it comes, all in parts. Sans-IO."""

from __future__ import annotations

import math

from twin_service.core import TwinCore

_AT_ONCE = 200
"""Documents, and replayed tasks, written in one go; more would keep the event loop."""
_BETWEEN_PARTS_S = 0.05


class SavingRounds:
    """Saves the state of ``core`` bit by bit. A document that changes all the time is written once in ``round_s``; of
    what ended tasks leave behind some is due nearly always."""

    def __init__(self, core: TwinCore, round_s: float) -> None:
        self.next_s = -math.inf
        """Instant of the next :meth:`save`."""
        self._core = core
        self._round_s = round_s
        self._next_round_s = -math.inf

    def save(self, now_s: float) -> None:
        """Save a part of what is due.

        Raises:
            StorageError: it cannot be kept; it stays due, and is tried again in the next round.
        """
        if now_s >= self._next_round_s:
            self._next_round_s = now_s + self._round_s
            self._core.archive.fall_due()
        self.next_s = self._next_round_s
        if self._core.save(_AT_ONCE):
            self.next_s = now_s + _BETWEEN_PARTS_S
