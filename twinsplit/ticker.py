"""A thread that does one thing again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable

_PATIENCE_S = 0.5


class Ticker:
    """Calls ``work`` at once and then every ``interval_s`` seconds after the last call ended, until closed."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._work = work
        self._closed = threading.Event()
        # A daemon: work that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; a call that is under way is waited for, but not long."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._work()
            self._closed.wait(self._interval_s)
