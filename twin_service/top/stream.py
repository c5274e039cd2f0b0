"""Snapshots of a console, with the standard library alone: one, or one after the other for as long as it takes."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from twinsplit.errors import PeerError, SettingsError, TlsError

SILENCE_S = 10.0
"""A console that says nothing for so long is gone."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0
_LONGEST_LINE = 64 << 20
_REFUSED = (400, 401, 403, 404)
"""Answers that are the same however often one asks."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection."""

    cause: str
    next_try_s: float
    """In so many seconds."""


class Console:
    """A console by its URL.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        token: What reading needs beyond loopback; ``None``: nothing.
        device: This device alone; ``None``: all.
        authority: PEM file of the authority of an HTTPS console's certificate; ``None``: those of the system.

    Raises:
        SettingsError: the URL is none of HTTP.
        TlsError: the authority cannot be read.
    """

    def __init__(
        self, url: str, *, token: str | None = None, device: str | None = None, authority: Path | None = None
    ) -> None:
        self.url = url.rstrip("/")
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise SettingsError(f"{url!r} is no URL of a console; write it as http://127.0.0.1:8080")
        self._query = f"?{urlencode({'device': device})}" if device is not None else ""
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = _context(authority) if parts.scheme == "https" else None
        # A proxy of the environment would only be in the way.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def snapshot(self) -> dict[str, Any]:
        """One snapshot.

        Raises:
            PeerError: the console cannot be reached, or refuses; the text says why.
        """
        try:
            with self._open("/api/snapshot") as answer:
                return _document(answer.read(_LONGEST_LINE))
        except (OSError, HTTPException, ValueError) as error:
            raise PeerError(f"{self.url}: {_cause(error)}") from None

    def follow(self, sleep: Callable[[float], None] = time.sleep) -> Iterator[dict[str, Any] | Lost]:
        """Snapshots as they come; a connection that is lost is said, and made again.

        Raises:
            PeerError: the console refuses, and will not do otherwise.
        """
        wait_s = FIRST_WAIT_S
        while True:
            cause = "the console has ended the stream"
            try:
                with self._open("/api/events") as answer:
                    for data in events(answer):
                        yield _document(data)
                        wait_s = FIRST_WAIT_S
            except urllib.error.HTTPError as error:
                cause = _cause(error)
                if error.code in _REFUSED:
                    raise PeerError(f"{self.url}: {cause}") from None
            except (OSError, HTTPException, ValueError) as error:
                cause = _cause(error)
            yield Lost(cause, wait_s)
            sleep(wait_s)
            wait_s = min(2.0 * wait_s, LONGEST_WAIT_S)

    def _open(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}{path}{self._query}", headers=self._headers)
        return self._opener.open(request, timeout=SILENCE_S)


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Data of the events ``snapshot`` in a stream of lines (the format of server-sent events)."""
    name, data = b"", b""
    for line in lines:
        line = line.rstrip(b"\r\n")
        if not line:
            if name == b"snapshot" and data:
                yield data
            name = data = b""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data = data + b"\n" + value if data else value


def _document(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict) or "devices" not in document:
        raise ValueError("this is no console of twinsplit")
    return document


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        try:
            return str(json.loads(error.read(_LONGEST_LINE))["error"]["text"])
        except (ValueError, KeyError, TypeError, OSError):
            return f"answers with status {error.code}; name the address of --console-listen"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens there (does the twin service have a --console-listen?)"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted ({reason.verify_message}); name its authority in --tls-ca"
    if isinstance(reason, TimeoutError):
        return f"no answer within {SILENCE_S:g} s"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason) or type(reason).__name__
    return "this is no console of twinsplit" if isinstance(reason, (ValueError, BadStatusLine)) else str(reason)


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # also what OpenSSL finds in the file
        raise TlsError(
            f"{authority}: holds no certificate authority in PEM form ({error.strerror or error}); name the file of "
            "the authority in --tls-ca"
        ) from None
