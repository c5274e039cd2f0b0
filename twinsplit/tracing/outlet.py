"""Where spans leave a service: a bounded queue, and a thread that sends them to a collector by OTLP.

A collector that is slow, gone or wrong costs spans and a line of log, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlsplit

from twinsplit.errors import SettingsError
from twinsplit.tracing.span import Span


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
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingsError(
            f"--otlp-endpoint {endpoint!r} is not a URL of OTLP over HTTP; write http://HOST:4318 or https://HOST"
        )
    return f"{endpoint.rstrip('/')}/v1/traces"
