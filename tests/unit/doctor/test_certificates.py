"""A device's own TLS files: every way in which they do not do."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from device.doctor.certificates import certificate_findings
from device.doctor.finding import Check, Finding, Verdict
from device.doctor.settings import DoctorSettings
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.subject import Role, Subject

NOW = datetime.now(timezone.utc)
DAY_S = 86_400.0


def _write(folder: Path, authority: Authority, subject: Subject, **issue: Any) -> dict[str, Any]:
    issued = authority.issue(subject, **issue)
    paths = {"tls_ca": folder / "ca.pem", "tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
    for path, data in zip(paths.values(), (authority.certificate, issued.certificate, issued.key), strict=True):
        path.write_bytes(data)
    os.chmod(paths["tls_key"], 0o600)
    return paths


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.made(now=NOW)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> dict[str, Any]:
    return _write(tmp_path, authority, Subject(Role.DEVICE, "cam-7", ("10.0.0.7",)), now=NOW)


def _findings(files: dict[str, Any], now_s: float | None = None, **changes: Any) -> dict[Check, Finding]:
    settings = DoctorSettings(**{"id": "cam-7", **files, **changes})
    return {finding.check: finding for finding in certificate_findings(settings, now_s)}


def _bad(findings: dict[Check, Finding]) -> dict[Check, Finding]:
    return {check: finding for check, finding in findings.items() if finding.verdict is Verdict.BAD}


def test_files_that_are_in_order(files: dict[str, Any]) -> None:
    findings = _findings(files)
    assert {check.value: finding.verdict for check, finding in findings.items()} == dict.fromkeys(
        ("tls-authority", "tls-certificate", "tls-key", "tls-names"), Verdict.OK
    )
    assert "fits its key" in findings[Check.TLS_CERTIFICATE].text
    assert findings[Check.TLS_KEY].text.endswith("mode 0600")
    assert "issued to device cam-7; for cam-7, localhost" in findings[Check.TLS_NAMES].text
    assert "10.0.0.7" in findings[Check.TLS_NAMES].text


def test_no_tls_is_nothing_bad() -> None:
    assert {f.verdict for f in _findings({}).values()} == {Verdict.SKIPPED}
    findings = _findings({}, edge="10.0.0.1:7100")
    assert "--tls-ca is not set" in findings[Check.TLS_AUTHORITY].text


def test_a_certificate_of_another_authority_says_whom_it_is_for(tmp_path: Path) -> None:
    other = trustme.CA().issue_cert("cam.local")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    other.cert_chain_pems[0].write_to_path(str(cert))
    other.private_key_pem.write_to_path(str(key))
    os.chmod(key, 0o640)
    findings = _findings({"tls_cert": cert, "tls_key": key})
    assert _bad(findings) == {}
    assert findings[Check.TLS_NAMES].text == (
        "names no role, so twin and edge let it in only with --tls-without-role everything; for cam.local"
    )


def test_a_file_that_is_missing(files: dict[str, Any], tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    assert "No such file" in _findings(files | {"tls_ca": none})[Check.TLS_AUTHORITY].text
    finding = _findings(files | {"tls_cert": none})[Check.TLS_CERTIFICATE]
    assert (finding.verdict, finding.cure) == (Verdict.BAD, "name a file that this user can read")


def test_half_a_pair(files: dict[str, Any]) -> None:
    finding = _findings(files | {"tls_key": None})[Check.TLS_CERTIFICATE]
    assert finding.verdict is Verdict.BAD
    assert "without --tls-key" in finding.text


def test_a_key_of_another_certificate(files: dict[str, Any], authority: Authority) -> None:
    files["tls_key"].write_bytes(authority.issue(Subject(Role.DEVICE, "other")).key)
    bad = _bad(_findings(files))
    assert list(bad) == [Check.TLS_CERTIFICATE]
    assert "a pair that fits" in str(bad[Check.TLS_CERTIFICATE].cure)


def test_a_certificate_in_the_authoritys_place(files: dict[str, Any]) -> None:
    bad = _bad(_findings(files | {"tls_ca": files["tls_cert"]}))
    assert list(bad) == [Check.TLS_AUTHORITY]


def test_an_authority_that_has_ended(files: dict[str, Any]) -> None:
    bad = _bad(_findings(files, now_s=time.time() + 40 * 365 * DAY_S))
    assert "twinsplit certs init" in str(bad[Check.TLS_AUTHORITY].cure)


def test_a_certificate_that_has_ended_is_about_to_or_is_not_valid_yet(authority: Authority, tmp_path: Path) -> None:
    files = _write(tmp_path, authority, Subject(Role.DEVICE, "cam-7"), days=100, now=NOW)
    for days, says in ((101.0, "ended"), (95.0, "in 5.0 days"), (-30.0, "valid only from")):
        bad = _bad(_findings(files, now_s=(NOW + timedelta(days=days)).timestamp()))
        assert list(bad) == [Check.TLS_CERTIFICATE]
        assert says in bad[Check.TLS_CERTIFICATE].text
        assert "twinsplit certs issue device cam-7" in str(bad[Check.TLS_CERTIFICATE].cure)
    assert _bad(_findings(files, now_s=(NOW + timedelta(days=50)).timestamp())) == {}


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_key_that_others_may_read_or_write(files: dict[str, Any], mode: int) -> None:
    os.chmod(files["tls_key"], mode)
    bad = _bad(_findings(files))
    assert list(bad) == [Check.TLS_KEY]
    assert bad[Check.TLS_KEY].cure == f"chmod 600 {files['tls_key']}"


def test_a_certificate_of_another_device(files: dict[str, Any]) -> None:
    bad = _bad(_findings(files, id="cam-8"))
    assert list(bad) == [Check.TLS_NAMES]
    assert "start it with --id cam-7" in str(bad[Check.TLS_NAMES].cure)


@pytest.mark.parametrize("role", [Role.EDGE, Role.OPERATOR])
def test_a_certificate_of_another_role(authority: Authority, tmp_path: Path, role: Role) -> None:
    """An operator's may only be shown to servers: it is read all the same."""
    bad = _bad(_findings(_write(tmp_path, authority, Subject(role, "cam-7"))))
    assert list(bad) == [Check.TLS_NAMES]
    assert f"issued to {role.value} cam-7" in bad[Check.TLS_NAMES].text
