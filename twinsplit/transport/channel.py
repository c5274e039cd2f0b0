"""Channels to an edge or the twin."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from twinsplit.errors import PeerError
from twinsplit.transport.address import Address
from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES, channel_options
from twinsplit.transport.tls import TlsFiles


def open_channel(
    address: str,
    tls: TlsFiles | None = None,
    *,
    max_message_bytes: int = CONTROL_MESSAGE_BYTES,
    connect_s: float | None = None,
) -> grpc.aio.Channel:
    """A channel to ``HOST:PORT``; it connects when first used and reconnects by itself, with growing pauses.

    Args:
        connect_s: how long one try to connect may take; who makes a single call gives it all the time of that call.
            ``None``: as long as one that is tried again and again may take.

    Raises:
        SettingsError: ``address`` is not HOST:PORT.
        TlsError: the TLS files cannot be used.
    """
    target = str(Address.parse(address))
    options = channel_options(max_message_bytes, connect_s)
    if tls is None or not tls.is_set:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, tls.channel_credentials(), options=options)


async def await_reachable(channel: grpc.aio.Channel, address: str, *, timeout_s: float) -> None:
    """Wait until ``channel`` is connected.

    Raises:
        PeerError: nobody answers at ``address`` within ``timeout_s``.
    """
    try:
        await asyncio.wait_for(channel.channel_ready(), timeout_s)
    except asyncio.TimeoutError:
        raise PeerError(
            f"{address} cannot be reached within {timeout_s:g} s; see that the service runs there, that no firewall is "
            "in between, and that both sides use TLS or neither does"
        ) from None
