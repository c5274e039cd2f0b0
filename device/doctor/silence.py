"""Why does nobody answer? gRPC says only UNAVAILABLE; a connection made by hand says more."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

from twinsplit.transport.address import Address
from twinsplit.transport.tls import TlsFiles, load_pair

_HOST_CODES = frozenset({62, 64})
_ENDED, _NOT_YET = 10, 9
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH, CERT_HAS_EXPIRED, CERT_NOT_YET_VALID."""
_ANSWER_S = 1.0
"""A service greets, or ends the connection, well within this time."""


class Silence(NamedTuple):
    """Why an address does not answer."""

    cause: str
    cure: str


def silence(address: Address, tls: TlsFiles, service: str, timeout_s: float) -> Silence:
    """Why the ``service`` (``edge``, ``twin``) at ``address`` gives no answer to gRPC. Blocks for a few times
    ``timeout_s`` at most."""
    try:
        connection = socket.create_connection((address.host, address.port), timeout_s)
    except socket.gaierror:
        return Silence(f"the host {address.host} is unknown", f"correct --{service}, or name an IP address")
    except ConnectionRefusedError:
        return Silence("nobody listens there", f"start the {service} there, or correct the port in --{service}")
    except TimeoutError:
        return Silence(f"no answer within {timeout_s:g} s", "see that the machine is on and no firewall is in between")
    except OSError as error:
        return Silence(str(error.strerror or error).lower(), "see that this machine is on the right network")
    with connection:
        connection.settimeout(min(timeout_s, _ANSWER_S))
        return _behind_tls(connection, address, tls) if tls.is_set else _without_tls(connection, address, timeout_s)


def _without_tls(connection: socket.socket, address: Address, timeout_s: float) -> Silence:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection, server_hostname=address.host):
            return Silence("it speaks TLS only", "give --tls-ca, --tls-cert and --tls-key")
    except (OSError, ValueError):
        return Silence(
            "something listens there that is no twinsplit service",
            "name the port of gRPC (--listen there), not that of HTTP",
        )


def _behind_tls(connection: socket.socket, address: Address, tls: TlsFiles) -> Silence:
    # As gRPC does it: the authority that was named counts and no other, and no stricter rules than the standard's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tls.ca)
    if tls.cert is not None and tls.key is not None:
        load_pair(context, tls.cert, tls.key)
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection, server_hostname=address.host) as secured:
            # A server that refuses the certificate it was shown says so only now.
            return _refused(secured, tls)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, address)
    except (ssl.SSLError, ConnectionError, TimeoutError) as error:
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return _by_alert(error.reason or "", tls)
        return Silence(
            "it does not speak TLS", "leave out --tls-ca, or start it with --tls-cert and --tls-key like this device"
        )


def _untrusted(error: ssl.SSLCertVerificationError, address: Address) -> Silence:
    if error.verify_code in _HOST_CODES:
        return Silence(
            f"its certificate is not made out to {address.host}",
            f"reach it under a name of its certificate, or issue one with --host {address.host}",
        )
    if error.verify_code == _ENDED:
        return Silence("its certificate has ended", "issue it a new one, or set this machine's clock")
    if error.verify_code == _NOT_YET:
        return Silence("its certificate is not valid yet", "set this machine's clock")
    return Silence(
        f"its certificate is not signed by the authority in --tls-ca ({error.verify_message})",
        "give both sides certificates of one authority",
    )


def _refused(secured: ssl.SSLSocket, tls: TlsFiles) -> Silence:
    try:
        is_closed = not secured.recv(1)
    except TimeoutError:
        is_closed = False
    except ssl.SSLError as error:
        return _by_alert(error.reason or "", tls)
    except OSError:
        is_closed = True
    if is_closed:
        return _by_alert("", tls)
    return Silence("TLS works, but gRPC does not answer in time", "see that service's log, and how busy it is")


def _by_alert(alert: str, tls: TlsFiles) -> Silence:
    if tls.cert is None:
        return Silence("it wants a certificate of this device", "give --tls-cert and --tls-key")
    told = f" ({alert.lower().replace('_', ' ')})" if alert else ""
    return Silence(
        f"it does not accept this device's certificate{told}",
        "give this device a certificate of the authority that the other side has in --tls-ca, one that has not ended",
    )
