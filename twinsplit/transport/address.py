"""HOST:PORT as people write it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from twinsplit.errors import InsecureBindError, ListenError, SettingsError

_MOST_DIGITS = 5
_MOST_HOST = 253


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
        is_number = port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS
        if not separator or not is_host(host) or not is_number or int(port) > 65535:
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


def is_host(text: str) -> bool:
    """Whether ``text`` can be the name or IP address of a host: what the system takes without an error of Python's."""
    if not 0 < len(text) <= _MOST_HOST or not text.isprintable() or " " in text:
        return False
    try:
        return len(text.encode("idna")) <= _MOST_HOST  # refuses labels that are empty or too long
    except UnicodeError:
        return False


def check_is_safe(address: Address, *, has_tls: bool, is_insecure: bool) -> None:
    """
    Raises:
        InsecureBindError: ``address`` is beyond loopback, without TLS and without ``is_insecure``.
    """
    if not (address.is_loopback or has_tls or is_insecure):
        raise InsecureBindError(
            f"{address} can be reached from other machines and has no TLS; give --tls-cert and --tls-key, listen on "
            "127.0.0.1, or say --insecure"
        )


def check_listen(address: Address, option: str) -> None:
    """See that ``address`` can be listened on, before a library complains about it in its own words.

    Raises:
        ListenError: it cannot; the text says why and names ``option`` as the cure.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ListenError(
            f"cannot listen on {address}: the host is unknown; name an address of this machine in {option}"
        ) from None
    family, kind, protocol, _, place = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen()
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {_cause(error, option)}") from None


def _cause(error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; stop the other program or choose another {option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"the address is not this machine's; name one of its own in {option}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not use that port; choose one above 1023 in {option}"
    return f"{error.strerror}; choose another {option}"
