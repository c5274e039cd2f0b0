"""HOST:PORT as people write it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from twinsplit.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4 or IPv6 without brackets) and a port; port 0 lets the system choose when listening."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``; IPv6 in brackets, ``[::1]:7000``.

        Raises:
            SettingsError: not of that form.
        """
        host, separator, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"{text!r} is not an address; write HOST:PORT, such as 127.0.0.1:7000 or [::1]:7000")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
