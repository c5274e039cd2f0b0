"""When certificates end, read by a handshake in memory: the standard library alone reads no certificate otherwise, and
devices and edges have no other library for them.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import TlsError
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.tls import Stamp, TlsFiles, load_pair, log_not_taken

_log = EventLog("tls")
_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)
"""X509_V_FLAG_PARTIAL_CHAIN: any certificate may be trusted itself, not only an authority's."""
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME: one that has ended is to be read all the same."""
_MOST_FLIGHTS = 5
METRIC = "twinsplit_certificate_expires_timestamp_seconds"


class CertificateEnds:
    """When a service's own certificate and its authority end: read at the start, and anew when the files change."""

    def __init__(self, files: TlsFiles, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or SystemClock()
        self._stamp: Stamp | None = None
        self._ends: dict[str, float] = {}
        self._look()

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """One for each file that is in force."""
        self._look()
        for file, end_unix_s in self._ends.items():
            yield METRIC, {"file": file}, end_unix_s

    def _look(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._files.check()
        except TlsError as error:
            # What the files held before is in force, and so are its ends.
            log_not_taken(error)
            return
        self._ends = self._read()
        for file, end_unix_s in self._ends.items():
            if end_unix_s < 1e-9 * self._clock.unix_ns():
                _log.warning(
                    "certificate-has-ended",
                    file=str(getattr(self._files, file)),
                    ended=datetime.fromtimestamp(end_unix_s, timezone.utc).isoformat(),
                    cure="see this machine's clock, or renew it: until then whoever connects is refused",
                )

    def _read(self) -> dict[str, float]:
        ends: dict[str, float] = {}
        if self._files.ca is not None:
            with contextlib.suppress(OSError, ValueError):
                ends["ca"] = authority_end_unix_s(self._files.ca)
        if self._files.cert is not None and self._files.key is not None:
            with contextlib.suppress(TlsError, OSError, ValueError):
                ends["cert"] = unix_s(read_certificate(self._files.cert, self._files.key)["notAfter"])
        return ends


def authority_end_unix_s(path: Path) -> float:
    """Unix time at which the first of the authorities in a file ends.

    Raises:
        OSError: it cannot be read (``ssl.SSLError`` is one).
        ValueError: it holds none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return min(unix_s(str(each["notAfter"])) for each in context.get_ca_certs())


def read_certificate(cert: Path, key: Path) -> dict[str, Any]:
    """What :meth:`ssl.SSLSocket.getpeercert` says of a certificate whose key is at hand.

    Raises:
        TlsError: a file that cannot be read, or no certificate and its unencrypted key.
        ssl.SSLError: OpenSSL takes neither side of a handshake with it.
    """
    try:
        return _seen(cert, key, is_server=True)
    except ssl.SSLError:
        # One that may only be shown to servers is none that a server may show.
        return _seen(cert, key, is_server=False)


def unix_s(text: str) -> float:
    """Unix time of an instant as :mod:`ssl` writes it."""
    return float(ssl.cert_time_to_seconds(text))


def _seen(cert: Path, key: Path, *, is_server: bool) -> dict[str, Any]:
    """``cert`` as the other side of a handshake sees it; ``is_server``: it is the server's."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shows, sees = (server, client) if is_server else (client, server)
    client.check_hostname = False
    load_pair(server, cert, key)
    load_pair(shows, cert, key)
    for context in (client, server):
        context.load_verify_locations(cert)
        context.verify_flags |= _PARTIAL_CHAIN | _NO_CHECK_TIME
    client.verify_mode = ssl.CERT_REQUIRED if is_server else ssl.CERT_NONE
    server.verify_mode = ssl.CERT_NONE if is_server else ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_side=False),
        server.wrap_bio(there, back, server_side=True),
    ]
    waiting = list(sides)
    for _ in range(_MOST_FLIGHTS):
        for side in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.remove(side)
    assert not waiting, "a handshake has fewer flights"
    seen = sides[0 if sees is client else 1].getpeercert()
    assert seen, "a certificate that was required was shown"
    return seen
