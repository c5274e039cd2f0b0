"""Made-up peers behind a real server of gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import grpc.aio

from twinsplit.transport.server import start_server


class Peer(Protocol):
    """Somebody who answers calls."""

    address: str

    def register(self, server: grpc.aio.Server) -> None: ...


AnyPeer = TypeVar("AnyPeer", bound=Peer)


@asynccontextmanager
async def served(peer: AnyPeer) -> AsyncIterator[AnyPeer]:
    """``peer``, which can be called at its address for as long as the block lasts."""
    server = await start_server(peer.register, "127.0.0.1:0")
    peer.address = server.address
    try:
        yield peer
    finally:
        await server.stop()
