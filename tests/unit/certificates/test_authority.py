"""Certificates: whom they name, where they are valid, and when they are due."""

import ipaddress
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from twinsplit.certificates.authority import Authority, Issued, end_of, hosts_in, subject_in
from twinsplit.certificates.subject import Role, Subject, subject_named, subject_of_uri
from twinsplit.errors import SettingsError, TlsError

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)
TWIN = Subject(Role.TWIN, "twin", ("192.168.1.10", "fe80::1", "twin.lan"))


def _authority() -> Authority:
    return Authority.made(now=NOW)


def _certificate(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


def _policy(authority: Authority, at: datetime = NOW) -> PolicyBuilder:
    return PolicyBuilder().store(Store([x509.load_pem_x509_certificate(authority.certificate)])).time(at)


@pytest.mark.parametrize("host", ["twin", "twin.lan", "localhost", "127.0.0.1", "::1", "192.168.1.10", "fe80::1"])
def test_a_server_is_valid_under_its_name_its_hosts_and_on_its_own_machine(host: str) -> None:
    authority = _authority()
    certificate = _certificate(authority.issue(TWIN, now=NOW))
    try:
        name: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    assert _policy(authority).build_server_verifier(name).verify(certificate, [])


@pytest.mark.parametrize("host", ["edge", "twin.elsewhere"])
def test_a_server_is_valid_nowhere_else(host: str) -> None:
    authority = _authority()
    certificate = _certificate(authority.issue(TWIN, now=NOW))
    with pytest.raises(VerificationError):
        _policy(authority).build_server_verifier(x509.DNSName(host)).verify(certificate, [])


@pytest.mark.parametrize("role", Role)
def test_role_and_name_stand_in_the_certificate_and_everyone_may_be_a_client(role: Role) -> None:
    authority = _authority()
    certificate = _certificate(authority.issue(Subject(role, "one"), now=NOW))
    assert subject_in(certificate) == (role, "one")
    verified = _policy(authority).build_client_verifier().verify(certificate, [])
    assert verified.subjects is not None
    assert f"twinsplit://{role.value}/one" in [name.value for name in verified.subjects]


def test_an_operator_serves_nothing() -> None:
    authority = _authority()
    certificate = _certificate(authority.issue(Subject(Role.OPERATOR, "anna"), now=NOW))
    assert hosts_in(certificate) == []
    with pytest.raises(VerificationError):
        _policy(authority).build_server_verifier(x509.DNSName("anna")).verify(certificate, [])


def test_another_authority_does_not_vouch() -> None:
    certificate = _certificate(_authority().issue(TWIN, now=NOW))
    with pytest.raises(VerificationError):
        _policy(_authority()).build_server_verifier(x509.DNSName("twin")).verify(certificate, [])


def test_a_certificate_signs_no_other() -> None:
    authority = _authority()
    device = authority.issue(Subject(Role.DEVICE, "cam"), now=NOW)
    forged = Authority(device.certificate, device.key).issue(TWIN, now=NOW)
    with pytest.raises(VerificationError):
        _policy(authority).build_server_verifier(x509.DNSName("twin")).verify(
            _certificate(forged), [_certificate(device)]
        )


def test_a_machine_whose_clock_is_some_hours_late_is_let_in_and_no_certificate_outlives_its_authority() -> None:
    authority = Authority.made(100, NOW)
    issued = authority.issue(TWIN, now=NOW)
    verifier = _policy(authority, NOW - timedelta(hours=20)).build_server_verifier(x509.DNSName("twin"))
    assert verifier.verify(_certificate(issued), [])
    assert end_of(issued.certificate) == authority.ends == NOW + timedelta(days=100)


def test_a_certificate_is_due_before_it_ends_or_when_something_else_is_wanted() -> None:
    authority, other = _authority(), _authority()
    issued = authority.issue(TWIN, 90, NOW)

    def flaw(subject: Subject = TWIN, held: Issued = issued, days: float = 0.0) -> str | None:
        return authority.flaw_of(held, subject, NOW + timedelta(days=days))

    assert flaw() is None
    assert flaw(days=59.9) is None
    assert flaw(days=60.1) == "about to end"
    assert flaw(Subject(Role.TWIN, "twin")) == "for other hosts"
    assert flaw(Subject(Role.EDGE, "twin", TWIN.hosts)) == "for somebody else"
    assert flaw(held=other.issue(TWIN, now=NOW)) == "signed by another authority"
    assert flaw(held=Issued(issued.certificate, other.issue(TWIN, now=NOW).key)) == "the key is another one's"
    assert flaw(held=Issued(b"nothing", issued.key)) == "unreadable"


def test_an_authority_needs_its_own_key() -> None:
    one, other = _authority(), _authority()
    with pytest.raises(TlsError, match="not that of its certificate"):
        Authority(one.certificate, other.key)
    with pytest.raises(TlsError, match="PEM"):
        Authority(b"", one.key)


def test_subjects_are_read_as_they_are_written_on_the_command_line() -> None:
    assert subject_named("edge:e-1@192.168.1.10,[fe80::1],,edge.lan").hosts == ("192.168.1.10", "fe80::1", "edge.lan")
    assert subject_named("device:cam.1@") == Subject(Role.DEVICE, "cam.1")


@pytest.mark.parametrize(
    "text",
    ["twin", "server:x", "twin:", "twin:..", "twin:a/b", "twin:.hidden", f"twin:{'a' * 64}", "twin:a@no host",
     "twin:a@host:7000", "operator:anna@host"],
)  # fmt: skip
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        subject_named(text)


def test_only_our_uris_name_a_role() -> None:
    assert subject_of_uri("twinsplit://device/cam-1") == (Role.DEVICE, "cam-1")
    for uri in ("twinsplit://nobody/cam", "https://device/cam", "twinsplit://device/", "twinsplit://device/a/b"):
        assert subject_of_uri(uri) is None


def test_an_authority_that_has_ended_issues_nothing() -> None:
    authority = Authority.made(days=10, now=NOW)
    with pytest.raises(TlsError, match="has ended on 2026-05-11"):
        authority.issue(TWIN, now=NOW + timedelta(days=11))
