"""The console put together and served by uvicorn within the service's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from twin_service.console.access import Access
from twin_service.console.app import Api, console_app
from twin_service.console.budget import Budget
from twin_service.console.event_stream import CONNECTION, Broadcast
from twin_service.console.feed import TaskFeed
from twin_service.console.snapshots import Snapshots
from twin_service.console.token import FILE_NAME, token_of
from twin_service.exchange import Exchange
from twin_service.settings import TwinSettings
from twinsplit.clock import Clock
from twinsplit.errors import InsecureBindError, ListenError, TlsError
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.address import Address, check_listen
from twinsplit.transport.tls import TlsFiles, load_pair, log_not_taken

MAX_CONNECTIONS = 128
REQUEST_TIMEOUT_S = 10.0
"""A request that is not whole after so long is not waited for."""
_KEEP_ALIVE_S = 15
_LAST_ANSWERS_S = 1
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Place:
    """Where a console listens and how."""

    address: Address
    is_encrypted: bool

    @classmethod
    def of(cls, settings: TwinSettings, listen: str) -> Place:
        """As ``settings`` want it.

        Raises:
            SettingsError: ``listen`` is not HOST:PORT.
            InsecureBindError: beyond loopback without TLS and without --console-insecure.
            TlsError: the certificate cannot be used.
        """
        address = Address.parse(listen)
        if address.is_loopback or settings.console_insecure:
            return cls(address, False)
        if settings.tls.cert is None:
            raise InsecureBindError(
                f"--console-listen {listen} can be reached from other machines and has no TLS; give --tls-cert and "
                "--tls-key, listen on 127.0.0.1, or say --console-insecure"
            )
        settings.tls.server_credentials()  # it says in our words what is wrong with the files
        return cls(address, True)


class Console:
    """A running console; made by :func:`start_console`, ended by :meth:`stop`."""

    def __init__(
        self, server: uvicorn.Server, serving: asyncio.Task[None], broadcast: Broadcast, url: str, token_path: Path
    ) -> None:
        self.url = url
        """Where a browser on this machine finds it."""
        self.token_path = token_path
        """The file with the token."""
        self.broadcast = broadcast
        self._server = server
        self._serving = serving
        self._ticking = asyncio.ensure_future(broadcast.run())

    async def stop(self) -> None:
        """End the streams, let other answers be finished for a moment, close."""
        self.broadcast.close()
        self._ticking.cancel()
        self._server.should_exit = True
        await asyncio.gather(self._serving, self._ticking, return_exceptions=True)


async def start_console(
    settings: TwinSettings, listen: str, exchange: Exchange, feed: TaskFeed, signalling: SignallingCount, clock: Clock
) -> Console:
    """Serve the console at ``listen``.

    Raises:
        SettingsError, InsecureBindError, TlsError: see :meth:`Place.of`; or the token's file holds none.
        StorageError: the token's file can be neither read nor made.
        ListenError: the port is in use, or the address is not this machine's.
    """
    place = Place.of(settings, listen)
    token_path = settings.console_token_file or settings.state / FILE_NAME
    access = Access(
        token_of(token_path),
        is_loopback=place.address.is_loopback,
        is_encrypted=place.is_encrypted,
        has_anonymous_reads=settings.console_anonymous_reads,
        hosts=frozenset(name.lower() for name in (*settings.console_hosts, *_own_names(place.address))),
    )
    snapshots = Snapshots(exchange, feed, signalling, clock, is_token_needed=access.is_token_needed_to_read)
    broadcast = Broadcast(snapshots)
    api = Api(exchange, feed, snapshots, broadcast, Budget(clock.monotonic_s))
    listener = _listening(place.address)
    config = uvicorn.Config(
        console_app(api, access),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what strangers send is not ours to warn of
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )
    config.load()
    if place.is_encrypted:
        config.ssl = _tls_context(settings.tls)
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    await asyncio.wait({serving, asyncio.ensure_future(server.is_up.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        listener.close()
        await serving
        raise ListenError(f"cannot listen on {place.address}; choose another --console-listen")
    return Console(server, serving, broadcast, _url(place, listener.getsockname()[1]), token_path)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()
        self.servers: list[asyncio.Server] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn has it, but for the time that a handshake is waited for: a minute by asyncio's own measure."""
        config, loop = self.config, asyncio.get_running_loop()
        patience_s = None if config.ssl is None else REQUEST_TIMEOUT_S
        for listener in sockets or []:
            server = await loop.create_server(
                self._protocol, sock=listener, backlog=_BACKLOG, ssl=config.ssl, ssl_handshake_timeout=patience_s
            )
            self.servers.append(server)
        self.started = True
        self.is_up.set()

    def _protocol(self) -> H11Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the service."""
        yield


class _Protocol(H11Protocol):
    """uvicorn waits without end for the rest of a request; here a connection has so long for it."""

    _unfinished: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._unfinished = self.loop.call_later(REQUEST_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        # The answer's task is made in here, and takes this context with it.
        CONNECTION.set(self.transport)
        super().data_received(data)
        is_finished = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if is_finished and self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
        elif not is_finished and self._unfinished is None:
            self._unfinished = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
        super().connection_lost(exc)


def _listening(address: Address) -> socket.socket:
    check_listen(address, "--console-listen")
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {address}: {error.strerror}; choose another --console-listen") from None
    return listener


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    """What the files hold; a pair that is replaced is in force from the next connection on."""
    context, stamp = _loaded(files), files.stamp()
    current = context

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current, stamp
        now = files.stamp()
        if now != stamp:
            try:
                current, stamp = _loaded(files), now
            except TlsError as error:
                # Half a pair: the old one serves, and the next connection looks again.
                log_not_taken(error)
        connection.context = current

    context.sni_callback = renew  # called at every handshake, with or without a name
    return context


def _loaded(files: TlsFiles) -> ssl.SSLContext:
    assert files.cert is not None, "a place is encrypted with a certificate only"
    assert files.key is not None, "a certificate has its key"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_pair(context, files.cert, files.key)
    return context


def _own_names(address: Address) -> list[str]:
    """Names of this machine, by which a console beyond loopback may be asked for."""
    return [] if address.is_loopback else [socket.gethostname(), address.host]


def _url(place: Place, port: int) -> str:
    host = place.address.host
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    shown = Address(wildcards.get(host, host), port)
    return f"{'https' if place.is_encrypted else 'http'}://{shown}/"
