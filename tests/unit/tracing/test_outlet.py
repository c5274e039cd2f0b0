"""A collector's URL: read or refused by name, and never shown with its password."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from device.doctor.collector import collector_finding
from device.doctor.finding import Verdict
from twinsplit.errors import SettingsError
from twinsplit.tracing import export
from twinsplit.tracing.outlet import open_outlet, traces_url

NOBODY = "http://user:s3cret@127.0.0.1:9"


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:4318", "https://collector.lan/", "http://[::1]:4318/base", NOBODY]
)
def test_a_url_is_taken(endpoint: str) -> None:
    assert traces_url(endpoint) == f"{endpoint.rstrip('/')}/v1/traces"


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "127.0.0.1:4318", "ftp://host", "http://", "http://127.0.0.1:notaport", "http://[::1", "http://h:99999"),
        *("http://h:0", "http://a..b:4318", "http://h\x1b:4318", f"http://{'l' * 64}.lan"),
    ],
)
def test_what_is_no_url_is_refused_by_service_and_doctor_alike(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="write http://HOST:4318"):
        open_outlet(endpoint, "device", "cam")
    assert "write http://HOST:4318" in str(collector_finding(endpoint, 0.1).cure)


def test_a_path_that_cannot_be_asked_for_is_a_bad_line() -> None:
    assert collector_finding("http://127.0.0.1:9/é", 0.1).verdict is Verdict.BAD


@pytest.mark.parametrize("endpoint", [NOBODY, "http://user:s3cret@127.0.0.1:x", "ftp://user:s3cret@host"])
def test_the_doctor_shows_no_password(endpoint: str) -> None:
    found = collector_finding(endpoint, 0.1)
    assert found.verdict is Verdict.BAD
    assert "s3cret" not in f"{found.text} {found.cure}"
    assert "user:***@" in found.text


def test_no_log_line_of_lost_spans_shows_a_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "_log", export.EventLog("tracing"))
    exporter = export._Exporter(f"{NOBODY}/v1/traces")
    monkeypatch.setattr(exporter._exporter, "export", lambda _: SpanExportResult.FAILURE)
    exporter.export([])
    exporter.shutdown()
    (record,) = caplog.records
    assert vars(record)["fields"]["collector"] == "http://user:***@127.0.0.1:9/v1/traces"
