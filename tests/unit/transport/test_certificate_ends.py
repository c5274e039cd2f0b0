"""The ends of what is in force are known whatever is on disk, and it is said when they differ."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from twinsplit.certificates.authority import Authority
from twinsplit.certificates.folder import CA, CERT, KEY, keep_issued
from twinsplit.certificates.subject import Role, Subject
from twinsplit.clock import ManualClock
from twinsplit.transport import tls
from twinsplit.transport.certificate_ends import CertificateEnds
from twinsplit.transport.tls import TlsFiles

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)
TWIN = Subject(Role.TWIN, "twin")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.made(now=NOW)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    return _issued(authority, tmp_path)


@pytest.fixture(autouse=True)
def log_from_before_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_log", tls.EventLog("tls"))


def _issued(authority: Authority, folder: Path, days: int = 30) -> TlsFiles:
    keep_issued(authority.issue(TWIN, days, NOW), authority, folder)
    return TlsFiles(folder / CA, folder / CERT, folder / KEY)


def _ends(files: TlsFiles, at: datetime = NOW) -> CertificateEnds:
    return CertificateEnds(files, ManualClock(at.timestamp()))


def _values(ends: CertificateEnds) -> dict[str, float]:
    return {labels["file"]: end_unix_s for _, labels, end_unix_s in ends.samples()}


@pytest.mark.parametrize("name", [CA, CERT, KEY])
def test_files_that_do_not_fit_leave_the_ends_of_those_in_force_and_it_is_said_once(
    files: TlsFiles, authority: Authority, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ends = _ends(files)
    before = _values(ends)
    assert set(before) == {"ca", "cert"}
    renewed = authority.issue(TWIN, 60, NOW)
    (tmp_path / name).write_bytes({CA: b"junk", CERT: renewed.certificate, KEY: renewed.key}[name])
    assert [_values(ends), _values(ends)] == [before] * 2
    assert [record.getMessage() for record in caplog.records] == ["certificate-not-taken"]
    _issued(authority, tmp_path, 90)
    assert _values(ends)["cert"] > before["cert"]


def test_what_has_ended_is_said_at_the_start_and_what_has_not_is_not(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    _ends(files)
    assert caplog.records == []
    _ends(files, NOW + timedelta(days=31))
    (record,) = caplog.records
    assert record.getMessage() == "certificate-has-ended"
    assert vars(record)["fields"]["file"] == str(files.cert)


def test_without_tls_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    assert _values(CertificateEnds(TlsFiles())) == {}
    assert caplog.records == []
