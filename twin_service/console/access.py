"""Who may do what at the console (docs/console.md). Pure: headers in, refusal out."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from enum import Enum

from twin_service.console.request_errors import RequestError, RequestErrorCode

_LOOPBACK_NAMES = frozenset({"localhost", "localhost."})


class Need(Enum):
    """What a request is about."""

    PAGE = "page"
    """What the page is made of; it holds no data."""
    READ = "read"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one console."""

    token: str
    is_loopback: bool
    """Whether it listens on loopback only."""
    is_encrypted: bool
    has_anonymous_reads: bool
    hosts: frozenset[str] = frozenset()
    """Names in lower case that the Host header may have beside addresses; loopback's are always among them."""

    @property
    def is_token_needed_to_read(self) -> bool:
        """Whether reading needs the token."""
        return not (self.is_loopback or self.has_anonymous_reads)

    def check(
        self, need: Need, *, host: str | None, authorization: str | None = None, fetch_site: str | None = None
    ) -> None:
        """See that a request with these headers may go on.

        Raises:
            RequestError: it may not.
        """
        if not self.is_encrypted and not self._is_host_allowed(host):
            raise RequestError(
                RequestErrorCode.HOST_NOT_ALLOWED,
                "this console does not answer under that name; use its address, or name it in --console-hosts",
            )
        if need is Need.PAGE:
            return
        if fetch_site not in (None, "same-origin", "none"):
            raise RequestError(
                RequestErrorCode.CROSS_SITE, "another site may not use this console; open it by its own address"
            )
        if need is Need.CHANGE or self.is_token_needed_to_read:
            self._check_token(authorization)

    def _check_token(self, authorization: str | None) -> None:
        scheme, _, given = (authorization or "").strip().partition(" ")
        if not given.strip():
            raise RequestError(
                RequestErrorCode.TOKEN_MISSING,
                "a token is needed: send Authorization: Bearer TOKEN with the line of --console-token-file",
            )
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise RequestError(
                RequestErrorCode.TOKEN_WRONG, "this is not the console's token; it is the line of --console-token-file"
            )

    def _is_host_allowed(self, header: str | None) -> bool:
        name = host_name(header or "")
        if name in _LOOPBACK_NAMES or name in self.hosts:
            return True
        try:
            # A foreign page reaches us under a name that it made point here, never under an address.
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_loopback


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
