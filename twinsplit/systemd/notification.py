"""What a running service tells systemd: that it serves, that its event loop turns, that it stops (sd_notify(3)).

Where nobody asked to be told (no ``NOTIFY_SOCKET``) everything here does nothing. Messages never block: what systemd
has no room for is dropped, and the next sign of life comes half an interval later.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

from twinsplit.telemetry.logs import EventLog

_REPEATED_LINE_S = 60.0

_log = EventLog("systemd")


class ServiceManager:
    """The systemd that started this process; :meth:`serving` and :meth:`stopping` are called on the event loop."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        """
        Args:
            address: path of a datagram socket, or ``@NAME`` for an abstract one; ``None``: nobody is told.
            watchdog_s: silence after which the process is killed, seconds; ``None``: never.
        """
        self.watchdog_s = watchdog_s if address is not None else None
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> ServiceManager:
        """The one that ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` name.

        Args:
            environment: variables.
            pid: of this process; ``None``: asked for.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        if not address:
            return cls(None)
        if address[0] not in "/@":
            _log.warning("systemd-not-told", cause=f"NOTIFY_SOCKET={address} is neither a path nor an abstract name")
            return cls(None)
        # The variables of a watchdog are inherited by children, whose silence is not meant.
        if environment.get("WATCHDOG_PID", "") not in ("", str(os.getpid() if pid is None else pid)):
            return cls(address)
        microseconds = environment.get("WATCHDOG_USEC", "")
        return cls(address, int(microseconds) * 1e-6 if microseconds.isdecimal() and int(microseconds) else None)

    def serving(self, status: str) -> None:
        """The service can be used; from now on a sign of life every half watchdog interval, from the event loop."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self.watchdog_s is not None:
            self._beat(asyncio.get_running_loop(), self.watchdog_s / 2.0)

    def stopping(self) -> None:
        """The service drains; signs of life go on until :meth:`close`."""
        self._tell("STOPPING=1\nSTATUS=finishing what was accepted")

    def close(self) -> None:
        """No more signs of life."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def _beat(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._tell("WATCHDOG=1")
        self._timer = loop.call_later(interval_s, self._beat, loop, interval_s)

    def _tell(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            _log.warning("systemd-not-told", cause=str(error), limit_s=_REPEATED_LINE_S)
