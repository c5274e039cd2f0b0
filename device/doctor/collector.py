"""The collector of traces, where there is to be one: does it take them?"""

from __future__ import annotations

import http.client
import importlib.util
from urllib.parse import urlsplit

from device.doctor.finding import Check, Finding, bad, from_error, ok
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError
from twinsplit.tracing.outlet import traces_url


def collector_finding(endpoint: str, timeout_s: float) -> Finding:
    """Whether the collector at ``endpoint`` takes traces: a request without any is sent to it."""
    try:
        url = urlsplit(traces_url(endpoint))
    except SettingsError as error:
        return from_error(Check.COLLECTOR, error)
    if importlib.util.find_spec("opentelemetry") is None:
        return bad(Check.COLLECTOR, "OpenTelemetry is not installed", "python -m pip install 'twinsplit[tracing]'")
    shown = without_password(endpoint)
    make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = make(url.hostname or "", url.port, timeout=timeout_s)
    try:
        # An export request without spans is no byte at all.
        connection.request("POST", url.path, b"", {"Content-Type": "application/x-protobuf"})
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        return bad(Check.COLLECTOR, f"{shown}: {str(cause).lower()}", "start it there, or correct --otlp-endpoint")
    finally:
        connection.close()
    if status >= 300:
        return bad(
            Check.COLLECTOR,
            f"{shown} answers {status} to {url.path}",
            "see that it takes OTLP over HTTP (port 4318, not 4317), and what it wants in OTEL_EXPORTER_OTLP_HEADERS",
        )
    return ok(Check.COLLECTOR, f"{shown} takes traces")
