"""TLS of channels and servers. With a certificate authority on both sides it is mutual."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from twinsplit.errors import TlsError


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

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server.

        Raises:
            TlsError: no certificate, or a file that cannot be read or does not fit.
        """
        if self.cert is None or self.key is None:
            raise TlsError("a server with TLS needs --tls-cert and --tls-key")
        pair = self._pair(self.cert, self.key)
        ca = None if self.ca is None else self._authority(self.ca)
        return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)

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
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
        except (ssl.SSLError, ValueError):
            raise TlsError(
                f"{cert} and {key} are not a certificate and its unencrypted key in PEM form; name a pair that fits"
            ) from None
        return private, chain


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal and a service would hang there.
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}; name a file that this user can read") from None
