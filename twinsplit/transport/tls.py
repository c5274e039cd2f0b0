"""TLS of channels and servers. With a certificate authority on both sides it is mutual.

A renewed certificate needs no restart: a server looks at its files at every new connection, and whoever connects reads
its own anew each time. Connections that stand go on with what they began with.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from twinsplit.errors import TlsError
from twinsplit.telemetry.logs import EventLog

_log = EventLog("tls")

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Tells whether files have changed: inode, size and time of change of each."""
_REPEATED_LINE_S = 60.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side. A server needs ``cert`` and ``key``; with ``ca`` it asks the other side for a certificate.
    A channel needs ``ca``; with ``cert`` and ``key`` it shows its own. ``None`` everywhere: no TLS."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            missing, present = ("--tls-key", "--tls-cert") if self.key is None else ("--tls-cert", "--tls-key")
            raise TlsError(f"{present} is given without {missing}; a certificate and its key go together")

    @property
    def is_set(self) -> bool:
        """Whether anything is configured."""
        return self.ca is not None or self.cert is not None

    @property
    def is_mutual(self) -> bool:
        """Whether a server with these asks the other side for a certificate."""
        return self.ca is not None and self.cert is not None

    def check(self) -> None:
        """See that each file that is set can be used.

        Raises:
            TlsError: one that cannot be read or does not fit.
        """
        if self.ca is not None:
            self._authority(self.ca)
        if self.cert is not None and self.key is not None:
            self._pair(self.cert, self.key)

    def stamp(self) -> Stamp:
        """Changes when a file is replaced, removed or written."""
        return tuple(_stamp(path) for path in (self.ca, self.cert, self.key))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server; files that are replaced are in force from the next connection on.

        Raises:
            TlsError: no certificate, or a file that cannot be read or does not fit.
        """
        current = _CurrentFiles(self)
        changed: Any = current.changed  # the stubs do not know of None, no change
        return grpc.dynamic_ssl_server_credentials(
            current.configuration, changed, require_client_authentication=self.ca is not None
        )

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold now.

        Raises:
            TlsError: no certificate, or a file that cannot be read or does not fit.
        """
        if self.cert is None or self.key is None:
            raise TlsError("a server with TLS needs --tls-cert and --tls-key")
        pair = self._pair(self.cert, self.key)
        ca = None if self.ca is None else self._authority(self.ca)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=ca)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a channel.

        Raises:
            TlsError: no authority, or a file that cannot be read or does not fit.
        """
        if self.ca is None:
            raise TlsError("a channel with TLS needs --tls-ca, the authority that signed the other side's certificate")
        ca = self._authority(self.ca)
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(root_certificates=ca)
        key, chain = self._pair(self.cert, self.key)
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=chain)

    @staticmethod
    def _authority(path: Path) -> bytes:
        data = _read(path)
        try:
            ssl.create_default_context(cadata=data.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise TlsError(
                f"{path}: holds no certificate authority in PEM form; name the file of the authority"
            ) from None
        return data

    @staticmethod
    def _pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
        chain, private = _read(cert), _read(key)
        # gRPC itself takes anything here and then fails every handshake without saying why.
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
        return private, chain


def load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Have ``context`` show the certificate in ``cert``.

    Raises:
        TlsError: a file that cannot be read, or no certificate and its unencrypted key.
    """
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError):
        raise TlsError(
            f"{cert} and {key} are not a certificate and its unencrypted key in PEM form; name a pair that fits"
        ) from None


class _CurrentFiles:
    """The files as they were when they last fitted together."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = files.stamp()
        self.configuration = files.server_configuration()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold since they changed; ``None``: nothing new that fits. gRPC asks at every connection."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return None
        try:
            configuration = self._files.server_configuration()
        except TlsError as error:
            # Half of a pair may have been replaced: the next connection looks again.
            log_not_taken(error)
            return None
        if self._files.stamp() != stamp:
            return None
        self._stamp = stamp
        _log.info("certificate-renewed", file=str(self._files.cert))
        return configuration


def log_not_taken(error: TlsError) -> None:
    """Say that replaced files are not in force, those from before are."""
    _log.warning("certificate-not-taken", cause=str(error), limit_s=_REPEATED_LINE_S)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal and a service would hang there.
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}; name a file that this user can read") from None
