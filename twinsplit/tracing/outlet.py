"""Where spans leave a service: a bounded queue, and a thread that sends them to a collector by OTLP.

A collector that is slow, gone or wrong costs spans and a line of log, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlsplit

from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError
from twinsplit.tracing.span import Span
from twinsplit.transport.address import is_host


class SpanOutlet(Protocol):
    """Takes ended spans."""

    def put(self, spans: Iterable[Span]) -> None:
        """Send ``spans`` some time soon; never waits, and drops the oldest of too many."""

    def close(self) -> None:
        """Send what is left, for a bounded time; blocks."""


def open_outlet(endpoint: str, service: str, instance: str) -> SpanOutlet:
    """An outlet to the collector at the URL ``endpoint``, without the path of traces, as OTLP has it.

    Args:
        service: ``device`` or ``edge``.
        instance: name of this one.

    Raises:
        SettingsError: no URL, or OpenTelemetry is not installed.
    """
    url = traces_url(endpoint)
    try:
        from twinsplit.tracing.export import OtlpOutlet
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--otlp-endpoint needs the package {error.name}, which is not installed; pip install 'twinsplit[tracing]'"
        ) from None
    return OtlpOutlet(url, service, instance)


def traces_url(endpoint: str) -> str:
    """Where traces go, of a collector's base URL.

    Raises:
        SettingsError: no URL.
    """
    try:
        url = urlsplit(endpoint)
        is_url = url.scheme in ("http", "https") and is_host(url.hostname or "") and url.port != 0
    except ValueError:  # no port, or half a bracket
        is_url = False
    if not is_url:
        raise SettingsError(
            f"--otlp-endpoint {without_password(endpoint)!r} is not a URL of OTLP over HTTP; write http://HOST:4318 or "
            "https://HOST"
        )
    return f"{endpoint.rstrip('/')}/v1/traces"
