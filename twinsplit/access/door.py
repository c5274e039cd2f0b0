"""The door of a gRPC server: every call passes here before its handler sees it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import grpc
import grpc.aio

from twinsplit.access.peer_limits import PAUSE_S, PeerLimits
from twinsplit.access.rights import ANYONE, RIGHTS, Caller, Scope, WithoutRole, caller_of, identity_of
from twinsplit.certificates.subject import Role
from twinsplit.errors import PeerLimitError
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.address import Address

_log = EventLog("access")

REPEATED_LINE_S = 10.0
_URI_PROPERTY = "peer_uri"
"""Under which gRPC gives the URIs of a verified certificate, apart from its host names."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the door knows of the call under way."""

    caller: Caller = ANYONE
    _peer: str = ""
    _limits: PeerLimits | None = field(default=None, repr=False)

    def excess(self) -> PeerLimitError | None:
        """Count one message of a stream. Sent too fast: the refusal; then :func:`pause` before reading on."""
        if self._limits is None:
            return None
        try:
            self._limits.count(self._peer)
        except PeerLimitError as error:
            return error
        return None


_ANY_CALL = Call()
_CALL: ContextVar[Call] = ContextVar("twinsplit-call", default=_ANY_CALL)


def this_call() -> Call:
    """The call that the running handler serves; outside of one: a call by anyone, without limits."""
    return _CALL.get()


async def pause() -> None:
    """Let a peer that sends too fast wait."""
    await asyncio.sleep(PAUSE_S)


class Door:
    """Lets calls in by right and within limits.

    Args:
        is_mutual: Whether the server verifies certificates; else every caller is anyone.
        without_role: What a certificate without a role may do.
        limits: Per peer; ``None``: none. Programs on this machine that show no certificate are not limited: they cannot
            be told apart.
        rights: Who may call what.
    """

    def __init__(
        self,
        *,
        is_mutual: bool,
        without_role: WithoutRole = WithoutRole.HEALTH,
        limits: PeerLimits | None = None,
        rights: Mapping[str, Mapping[Role, Scope]] = RIGHTS,
    ) -> None:
        self._is_mutual = is_mutual
        self._without_role = without_role
        self._rights = rights
        self._limits = limits

    def around(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """``handler`` of ``method`` (``/package.Service/Method``), behind this door."""
        kind = _kind(handler)
        inner = getattr(handler, kind)
        guard = self._generator if inspect.isasyncgenfunction(inner) else self._coroutine
        guarded: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(
            guard(method, inner), handler.request_deserializer, handler.response_serializer
        )
        return guarded

    def _coroutine(self, method: str, inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._let_in(method, context):
                return await inner(request, context)

        return guarded

    def _generator(self, method: str, inner: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._let_in(method, context):
                async for answer in inner(request, context):
                    yield answer

        return guarded

    @contextlib.contextmanager
    def _let_in(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        """
        Raises:
            NotAllowedError, PeerLimitError: the call is refused.
        """
        caller = ANYONE
        try:
            if self._is_mutual:
                caller = caller_of(method, _identity(context), self._without_role, self._rights)
            peer = f"{caller.role.value}/{caller.name}" if caller.role is not None else _host_of(context.peer())
            limits = self._limits if peer else None
            if limits is not None:
                limits.begin(peer)
        except Exception as error:
            _log.warning(
                "call-refused", method=method.rpartition("/")[2], peer=context.peer(), cause=str(error),
                limit_s=REPEATED_LINE_S,
            )  # fmt: skip
            raise
        # A call has its context to itself: what is set here ends with it.
        _CALL.set(Call(caller, peer, limits))
        try:
            yield
        finally:
            if limits is not None:
                limits.end(peer)


def _kind(handler: Any) -> str:
    asks = "stream" if handler.request_streaming else "unary"
    return f"{asks}_{'stream' if handler.response_streaming else 'unary'}"


def _identity(context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    properties: Any = context.auth_context()
    return identity_of(uri.decode("utf-8", "replace") for uri in properties.get(_URI_PROPERTY, ()))


@lru_cache(maxsize=1024)
def _host_of(peer: str) -> str:
    """The other machine's address in gRPC's name of a peer (``ipv4:10.0.0.5:1234``); empty: it is on this machine."""
    kind, _, place = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = place.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]").removeprefix("[").removesuffix("]")
    # Where IPv6 and IPv4 share a socket, an IPv4 peer has an IPv6 address.
    host = host.removeprefix("::ffff:")
    return "" if Address(host, 0).is_loopback else host
