"""Servers of the test's own process end with their test: one that outlives its event loop fails other tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar


class Stoppable(Protocol):
    """A server of this process; to stop it twice does no harm."""

    async def stop(self) -> None: ...


Server = TypeVar("Server", bound=Stoppable)


@asynccontextmanager
async def stopped_after(server: Server) -> AsyncIterator[Server]:
    """The server for as long as the block lasts."""
    try:
        yield server
    finally:
        await server.stop()
