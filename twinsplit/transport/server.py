"""Servers with health, TLS, limits and one way of refusing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health  # type: ignore[attr-defined] # not in the stubs

from twinsplit.access.door import Door
from twinsplit.access.peer_limits import PeerLimits
from twinsplit.access.rights import RIGHTS, Scope, WithoutRole
from twinsplit.certificates.subject import Role
from twinsplit.errors import ListenError
from twinsplit.transport.address import Address, check_is_safe, check_listen
from twinsplit.transport.calls import CallCount, CallWatch
from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES, server_options
from twinsplit.transport.tls import TlsFiles

if TYPE_CHECKING:
    _GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:
    _GenericHandler = grpc.GenericRpcHandler


class _Health(aio_health.HealthServicer):  # type: ignore[misc] # not in the stubs
    async def List(self, _request: object, context: Any) -> health_pb2.HealthListResponse:  # noqa: N802 - gRPC's name
        """All there is: the service as a whole. The base class leaves this call out."""
        overall = await self.Check(health_pb2.HealthCheckRequest(), context)
        return health_pb2.HealthListResponse(statuses={"": overall})


@dataclass(slots=True)
class RunningServer:
    """A server that listens. It serves ``grpc.health.v1``; the overall health starts as SERVING."""

    address: str
    """HOST:PORT with the port in use, never 0."""
    calls: CallCount
    """Calls started and handled, for the metrics."""
    _server: grpc.aio.Server
    _health: aio_health.HealthServicer

    async def set_serving(self, is_serving: bool) -> None:
        """Tell health checks whether this service is ready."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if is_serving else status.NOT_SERVING)

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, wait ``grace_s`` for those under way (``None``: not at all), then end them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def wait_stopped(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


Around = Callable[[str, Any], "grpc.RpcMethodHandler[Any, Any]"]
"""Full name of a method and its handler to what is to be called in its place."""


class _Entrance:
    """The server as those see it who add their services: every handler is put behind watch and door, once.

    As interceptors the two would make every call pass through coroutines and handlers made anew.
    """

    def __init__(self, server: grpc.aio.Server, around: Around) -> None:
        self._server = server
        self._around = around

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        self._server.add_generic_rpc_handlers(tuple(_Behind(handler, self._around) for handler in handlers))

    def add_registered_method_handlers(self, *_: object) -> None:
        """The same handlers by name, which asyncio servers do not look at."""


class _Behind(_GenericHandler):
    """A service behind watch and door."""

    def __init__(self, service: grpc.GenericRpcHandler[Any, Any], around: Around) -> None:
        self._service = service
        self._around = around
        self._made: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = details.method
        made = self._made.get(method)
        if made is None:
            handler = self._service.service(details)
            if handler is None:
                return None
            made = self._made[method] = self._around(method, handler)
        return made


async def start_server(
    register: Callable[[grpc.aio.Server], None],
    listen: str,
    tls: TlsFiles | None = None,
    *,
    is_insecure: bool = False,
    max_message_bytes: int = CONTROL_MESSAGE_BYTES,
    without_role: WithoutRole = WithoutRole.HEALTH,
    limits: PeerLimits | None = None,
    rights: Mapping[str, Mapping[Role, Scope]] = RIGHTS,
) -> RunningServer:
    """Listen on ``HOST:PORT`` (port 0: any free one) and serve what ``register(server)`` adds.

    With an authority among the TLS files callers are known by their certificates, and may call what
    ``rights`` grant; ``without_role``: what a certificate may that names no role. ``limits``: per peer; ``None``: none.

    An error raised by a handler ends its call with the status and the public text of
    :mod:`twinsplit.transport.status`, and is logged here.

    Raises:
        SettingsError: ``listen`` is not HOST:PORT.
        InsecureBindError: beyond loopback, without TLS and without ``is_insecure``.
        TlsError: the TLS files cannot be used.
        ListenError: the port is in use, or the address is not this machine's.
    """
    address = Address.parse(listen)
    has_tls = tls is not None and tls.is_set
    check_is_safe(address, has_tls=has_tls, is_insecure=is_insecure)
    credentials = tls.server_credentials() if tls is not None and has_tls else None
    check_listen(address, "--listen")
    calls = CallCount()
    is_mutual = tls is not None and tls.is_mutual
    door = Door(is_mutual=is_mutual, without_role=without_role, limits=limits, rights=rights)
    watch = CallWatch(calls)
    server = grpc.aio.server(options=server_options(max_message_bytes))
    entrance = _Entrance(server, lambda method, handler: watch.around(method, door.around(method, handler)))
    health = _Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, entrance)
    register(cast(grpc.aio.Server, entrance))
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ListenError(
            f"cannot listen on {listen}: the port is in use; stop the other program or choose another --listen"
        )
    await server.start()
    running = RunningServer(str(Address(address.host, port)), calls, server, health)
    await running.set_serving(True)
    return running
