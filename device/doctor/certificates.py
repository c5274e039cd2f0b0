"""The device's own TLS files: readable, fitting, in time, private, and made out to this device."""

from __future__ import annotations

import re
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from device.doctor.finding import Check, Finding, bad, from_error, ok, skipped
from device.settings import DeviceSettings
from twinsplit.errors import TlsError
from twinsplit.transport.certificate_ends import read_certificate, unix_s
from twinsplit.transport.tls import TlsFiles

_DAY_S = 86_400.0
_NEAR_SHARE = 0.1
"""A certificate with less of its time left is about to end."""
_URI = re.compile(r"twinsplit://([a-z]+)/(.+)")
_ISSUE = "twinsplit certs issue device {name} --out DIR, where the authority is"


def certificate_findings(settings: DeviceSettings, now_unix_s: float | None = None) -> Iterator[Finding]:
    """Authority, certificate, key, names; ``now_unix_s``: ``None``: now."""
    now_unix_s = time.time() if now_unix_s is None else now_unix_s
    if settings.tls_ca is not None:
        yield _authority(settings.tls_ca, now_unix_s)
    elif settings.twin is not None or settings.edge is not None:
        yield skipped(Check.TLS_AUTHORITY, "no TLS towards edge and twin: --tls-ca is not set")
    try:
        tls = settings.tls
    except TlsError as error:
        yield from_error(Check.TLS_CERTIFICATE, error)
        return
    if tls.cert is None or tls.key is None:
        yield skipped(Check.TLS_CERTIFICATE, "none: this device shows no certificate to edge and twin")
        return
    try:
        TlsFiles(None, tls.cert, tls.key).server_credentials()
    except TlsError as error:
        yield from_error(Check.TLS_CERTIFICATE, error)
        return
    certificate = read_certificate(tls.cert, tls.key)
    yield _certificate(tls.cert, certificate, settings.id, now_unix_s)
    yield _key(tls.key)
    yield _names(certificate, settings.id)


def _authority(path: Path, now_unix_s: float) -> Finding:
    try:
        TlsFiles(path).channel_credentials()
    except TlsError as error:
        return from_error(Check.TLS_AUTHORITY, error)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    ends = [(unix_s(str(each["notAfter"])), each) for each in context.get_ca_certs()]
    if not ends:
        return bad(Check.TLS_AUTHORITY, f"{path} holds no authority", "name the file of the authority, often ca.pem")
    end_unix_s, _ = min(ends, key=lambda end: end[0])
    if end_unix_s < now_unix_s:
        return bad(
            Check.TLS_AUTHORITY, f"{path} ended {_day(end_unix_s)}", "make a new authority: twinsplit certs init"
        )
    return ok(Check.TLS_AUTHORITY, f"{path}, until {_day(end_unix_s)}")


def _certificate(path: Path, certificate: dict[str, Any], name: str, now_unix_s: float) -> Finding:
    begin_unix_s, end_unix_s = unix_s(certificate["notBefore"]), unix_s(certificate["notAfter"])
    issue = _ISSUE.format(name=name)
    if now_unix_s < begin_unix_s:
        return bad(
            Check.TLS_CERTIFICATE,
            f"{path} is valid only from {_day(begin_unix_s)} on",
            f"set this machine's clock, or {issue}",
        )
    if now_unix_s > end_unix_s:
        return bad(Check.TLS_CERTIFICATE, f"{path} ended {_day(end_unix_s)}", issue)
    left_s = end_unix_s - now_unix_s
    if left_s < _NEAR_SHARE * (end_unix_s - begin_unix_s):
        return bad(Check.TLS_CERTIFICATE, f"{path} ends {_day(end_unix_s)}, in {left_s / _DAY_S:.1f} days", issue)
    return ok(Check.TLS_CERTIFICATE, f"{path} fits its key, until {_day(end_unix_s)} ({left_s / _DAY_S:.0f} days)")


def _key(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return bad(Check.TLS_KEY, f"{path} is open to others (mode {mode:04o})", f"chmod 600 {path}")
    return ok(Check.TLS_KEY, f"{path}, mode {mode:04o}")


def _names(certificate: dict[str, Any], device_id: str) -> Finding:
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind != "URI"]
    text = f"for {', '.join(names)}" if names else "for no host: nobody can reach this device by TLS"
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    subjects = [found for uri in uris if (found := _URI.fullmatch(uri)) is not None]
    for subject in subjects:
        role, name = subject[1], subject[2]
        if role != "device":
            return bad(Check.TLS_NAMES, f"issued to {role} {name}, which is no device", _ISSUE.format(name=device_id))
        if name != device_id:
            return bad(
                Check.TLS_NAMES,
                f"issued to device {name}, but this one is called {device_id}",
                f"start it with --id {name}, or {_ISSUE.format(name=device_id)}",
            )
        text = f"issued to device {name}; {text}"
    if not subjects:
        text = f"names no role, so twin and edge let it in only with --tls-without-role everything; {text}"
    return ok(Check.TLS_NAMES, text)


def _day(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
