"""SIGTERM and SIGHUP treated as Ctrl-C is, so that a run that is told to end stops its services first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """Turns these signals into KeyboardInterrupt while it is installed (in the main thread; elsewhere it does
    nothing)."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """From now on."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}

    def remove(self) -> None:
        """As before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
