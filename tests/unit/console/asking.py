"""A console without a port: its application called as a server would call it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.unit.twin_service.made_up_twins import World
from twin_service.console.access import Access
from twin_service.console.app import Api, console_app
from twin_service.console.budget import Budget
from twin_service.console.event_stream import Broadcast
from twin_service.console.feed import TaskFeed
from twin_service.console.snapshots import Snapshots
from twin_service.exchange import Exchange
from twinsplit.clock import ManualClock
from twinsplit.telemetry.signalling import SignallingCount

TOKEN = "t" * 24
HOST = "127.0.0.1:8080"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    parts: list[bytes] = field(default_factory=list)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


class Console:
    """A console over a made-up world, fed by it."""

    def __init__(self, world: World, *, max_streams: int = 4, interval_s: float = 0.01, **access: Any) -> None:
        self.world = world
        self.clock = ManualClock(world.now_s)
        self.feed = TaskFeed(world.now_s)
        world.core.ended_tasks.told.append(self.feed.take)
        self.exchange = Exchange(world.core, self.clock)
        self.access = Access(
            TOKEN, **{"is_loopback": True, "is_encrypted": False, "has_anonymous_reads": False, **access}
        )
        self.snapshots = Snapshots(
            self.exchange,
            self.feed,
            SignallingCount(),
            self.clock,
            is_token_needed=self.access.is_token_needed_to_read,
        )
        self.broadcast = Broadcast(self.snapshots, interval_s=interval_s, max_streams=max_streams, patience_s=0.05)
        self.app = console_app(
            Api(self.exchange, self.feed, self.snapshots, self.broadcast, Budget(self.clock.monotonic_s)), self.access
        )

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        token: str | None = None,
        host: str | None = HOST,
        body: Any = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer."""
        sent = {} if host is None else {"host": host}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        if body is not None or raw is not None:
            sent["content-type"] = "application/json"
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        messages = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()
            raise AssertionError("never")

        answer = Answer(0, {})

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            elif message.get("body"):
                answer.parts.append(message["body"])

        path, _, query = path.partition("?")
        await self.app(scope(method, path, query, {**sent, **(headers or {})}), receive, send)
        answer.body = b"".join(answer.parts)
        return answer


def scope(method: str, path: str, query: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50_000),
    }
