"""Whom a certificate is for: a role and a name, as the URI ``twinsplit://ROLE/NAME``, and the hosts it serves under."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from twinsplit.errors import SettingsError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What devices and edges may be called, as far as it can be a folder and a host, too."""
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_-]{1,63})*")
_URI = re.compile(rf"twinsplit://([a-z]+)/({NAME.pattern})")

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Every service may be reached under these by programs beside it."""


class Role(str, Enum):
    """What the holder of a certificate is."""

    DEVICE = "device"
    EDGE = "edge"
    TWIN = "twin"
    OPERATOR = "operator"
    """A person or a program that reads and commands, and serves nothing."""

    @property
    def serves(self) -> bool:
        """Whether others connect to the holder."""
        return self is not Role.OPERATOR


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for.

    Raises:
        SettingsError: a name or a host that is none.
    """

    role: Role
    name: str
    hosts: tuple[str, ...] = ()
    """Names and addresses under which others reach the holder, besides its name and this machine's own."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise SettingsError(
                f"{self.name!r} is no name for a certificate; use a letter or digit, then letters, digits, '.', '_' "
                "and '-', at most 63 in all"
            )
        if self.hosts and not self.role.serves:
            raise SettingsError(f"an {self.role.value} serves nothing; leave --host out")
        for host in self.hosts:
            # A name whose last part is a number would be taken for an address (RFC 1123, 2.1).
            is_name = _HOST_NAME.fullmatch(host) and not host.rpartition(".")[2].isdigit()
            if address_of(host) is None and not is_name:
                raise SettingsError(f"{host!r} is no host; name one such as edge.local or 192.168.1.10, without a port")

    @property
    def uri(self) -> str:
        """The URI that names role and name in the certificate."""
        return f"twinsplit://{self.role.value}/{self.name}"

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Every host the certificate is valid for, each once."""
        return tuple(dict.fromkeys((self.name, *THIS_MACHINE, *self.hosts))) if self.role.serves else ()


def subject_of_uri(uri: str) -> tuple[Role, str] | None:
    """Role and name in a certificate's URI; ``None``: it is not one of ours."""
    found = _URI.fullmatch(uri)
    if found is None or found[1] not in {role.value for role in Role}:
        return None
    return Role(found[1]), found[2]


def subject_named(text: str) -> Subject:
    """Read ``ROLE:NAME`` or ``ROLE:NAME@HOST,HOST``.

    Raises:
        SettingsError: not of that form.
    """
    holder, _, hosts = text.partition("@")
    role, separator, name = holder.partition(":")
    if not separator or role not in {each.value for each in Role}:
        roles = ", ".join(each.value for each in Role)
        raise SettingsError(f"{text!r} names nobody; write ROLE:NAME or ROLE:NAME@HOST,HOST, with a role of {roles}")
    return Subject(Role(role), name, hosts_named(hosts.split(",")))


def hosts_named(hosts: Sequence[str]) -> tuple[str, ...]:
    """Hosts as they are written in a certificate, empty ones left out; an IPv6 address may stand in brackets."""
    stripped = (host.strip().removeprefix("[").removesuffix("]") for host in hosts)
    return tuple(str(address_of(host) or host) for host in stripped if host)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that ``host`` is; ``None``: it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
