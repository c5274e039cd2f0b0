"""A twin that can say any bytes to devices or edges, and keeps what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import grpc.aio

from tests.fuzz.served import served
from twinsplit.rpc.v1 import twin_pb2

PATIENCE_S = 20.0
REQUESTS: dict[str, Any] = {"AttachDevice": twin_pb2.AttachDeviceRequest, "AttachEdge": twin_pb2.AttachEdgeRequest}


class RawTwin:
    """Says ``welcomes`` to every hello, and after that what is put into ``to_say``."""

    def __init__(self, method: str, welcomes: Sequence[bytes]) -> None:
        self.hellos = 0
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.to_say: asyncio.Queue[bytes] = asyncio.Queue()
        self.address = ""
        self._method = method
        self._welcomes = welcomes

    def register(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            self._attach, request_deserializer=REQUESTS[self._method].FromString
        )
        handlers = grpc.method_handlers_generic_handler("twinsplit.rpc.v1.TwinService", {self._method: handler})
        server.add_generic_rpc_handlers((handlers,))

    async def hears(self, kind: str, name: str = "") -> Any:
        """The next message of ``kind``; others before it are passed over."""
        while True:
            try:
                message = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            except asyncio.TimeoutError:
                raise AssertionError(f"{name}: no {kind} came") from None
            if message.WhichOneof("kind") == kind:
                return getattr(message, kind)

    async def _attach(self, _requests: Any, context: Any) -> None:
        # Each stream has its own, or the speaker of one that has just ended would take what is meant for the next.
        self.to_say = asyncio.Queue()
        speaker = asyncio.ensure_future(self._speak(context, self.to_say))
        try:
            while isinstance(message := await context.read(), REQUESTS[self._method]):
                if message.WhichOneof("kind") == "hello":
                    for welcome in self._welcomes:
                        await self.to_say.put(welcome)
                    self.hellos += 1
                await self.heard.put(message)
        finally:
            speaker.cancel()

    async def _speak(self, context: Any, to_say: asyncio.Queue[bytes]) -> None:
        while True:
            await context.write(await to_say.get())


def raw_twin(method: str, *welcomes: bytes) -> AbstractAsyncContextManager[RawTwin]:
    """One that serves ``method`` alone, for as long as the block lasts."""
    return served(RawTwin(method, welcomes))
