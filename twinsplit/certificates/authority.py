"""The authority: made once, signs the certificate of every service, device and operator. In memory, no files.

Keys are P-256. A certificate is valid from a day before it is made, since a small board without a clock of its own may
start in the past.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinsplit.certificates.subject import Subject, address_of, subject_of_uri
from twinsplit.errors import TlsError

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
"""Longest validity that TLS libraries of today take from a server."""
RENEWAL_DAYS = 30
"""A certificate that is valid for less than this is due."""
BACKDATED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates. ``certificate`` and ``key`` are PEM."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """
        Raises:
            TlsError: they are no authority's certificate and its key.
        """
        self.certificate = certificate
        self.key = key
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError):
            raise TlsError("the authority's files are not a certificate and an unencrypted key in PEM form") from None
        if (
            not isinstance(private, ec.EllipticCurvePrivateKey)
            or private.public_key() != self._certificate.public_key()
        ):
            raise TlsError("the authority's key is not that of its certificate")
        self._private = private

    @classmethod
    def made(cls, days: int = AUTHORITY_DAYS, now: datetime | None = None) -> Authority:
        """A new authority with a new key, valid for so many days from ``now`` (UTC)."""
        now = now or datetime.now(timezone.utc)
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinsplit authority")])
        certificate = (
            _builder(name, name, private.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .sign(private, hashes.SHA256())
        )
        return cls(_pem(certificate), _key_pem(private))

    @property
    def ends(self) -> datetime:
        """Last instant at which the authority is valid (UTC)."""
        return _utc(self._certificate.not_valid_after_utc)

    def issue(self, subject: Subject, days: int = CERTIFICATE_DAYS, now: datetime | None = None) -> Issued:
        """A certificate for ``subject`` with a new key; it never outlives the authority.

        Raises:
            TlsError: the authority has ended.
        """
        now = now or datetime.now(timezone.utc)
        if self.ends <= now:
            raise TlsError(
                f"the authority has ended on {self.ends:%Y-%m-%d}; make a new one in another folder (twinsplit certs "
                "init DIR), and new certificates for all from it"
            )
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.role.serves:
            usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        own = x509.SubjectKeyIdentifier.from_public_key(self._private.public_key())
        certificate = (
            _builder(name, self._certificate.subject, private.public_key(), now, days, latest=self.ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(_names(subject)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
            .sign(self._private, hashes.SHA256())
        )
        return Issued(_pem(certificate), _key_pem(private))

    def flaw_of(self, issued: Issued, subject: Subject, now: datetime | None = None) -> str | None:
        """Why a certificate does not do for ``subject`` (any more); ``None``: it does."""
        now = now or datetime.now(timezone.utc)
        try:
            certificate = x509.load_pem_x509_certificate(issued.certificate)
            private = serialization.load_pem_private_key(issued.key, password=None)
        except (ValueError, TypeError):
            return "unreadable"
        if private.public_key() != certificate.public_key():
            return "the key is another one's"
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return "signed by another authority"
        if subject_in(certificate) != (subject.role, subject.name):
            return "for somebody else"
        if set(hosts_in(certificate)) != set(subject.all_hosts):
            return "for other hosts"
        ends = _utc(certificate.not_valid_after_utc)
        # One that ends with its authority is not made longer by being made anew.
        if ends < now + timedelta(days=RENEWAL_DAYS) and ends < self.ends:
            return "about to end"
        return None

    def is_due(self, now: datetime | None = None) -> bool:
        """Whether the authority itself is about to end."""
        return self.ends < (now or datetime.now(timezone.utc)) + timedelta(days=RENEWAL_DAYS)


def subject_in(certificate: x509.Certificate) -> tuple[object, str] | None:
    """Role and name that a certificate tells; ``None``: it is not one of ours."""
    found = (subject_of_uri(uri) for uri in _alternative(certificate, x509.UniformResourceIdentifier))
    return next((subject for subject in found if subject is not None), None)


def holder_of(certificate: bytes) -> tuple[object, str] | None:
    """Role and name that a certificate (PEM) tells; ``None``: it is none, or not one of ours."""
    try:
        return subject_in(x509.load_pem_x509_certificate(certificate))
    except ValueError:
        return None


def hosts_in(certificate: x509.Certificate) -> list[str]:
    """Names and addresses that a certificate is valid for."""
    return _alternative(certificate, x509.DNSName) + _alternative(certificate, x509.IPAddress)


def end_of(certificate: bytes) -> datetime:
    """Last instant at which a certificate (PEM) is valid (UTC)."""
    return _utc(x509.load_pem_x509_certificate(certificate).not_valid_after_utc)


def _alternative(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, kind)]


def _names(subject: Subject) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri)]
    for host in subject.all_hosts:
        address = address_of(host)
        names.append(x509.DNSName(host) if address is None else x509.IPAddress(address))
    return names


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    ends = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends if latest is None else min(ends, latest))
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=timezone.utc)
