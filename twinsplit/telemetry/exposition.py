"""Plain HTTP ``/metrics``, ``/healthz`` and ``/readyz``: no task data, nothing that changes state.

Values are read from state at scrape. With ``loop`` they are read on the service's own event loop, which then needs no
locks, and a loop that hangs shows as an unhealthy service.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from twinsplit.errors import ListenError
from twinsplit.telemetry.catalogue import CATALOGUE, MetricKind, MetricSpec
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.process import ProcessReading
from twinsplit.transport.address import Address, check_listen
from twinsplit.transport.certificate_ends import CertificateEnds
from twinsplit.transport.tls import TlsFiles

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Sample = tuple[str, Mapping[str, str], "float | Histogram | None"]
"""(Name in the catalogue, labels, value). ``None``: not known now, no series."""
T = TypeVar("T")
_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

MAX_CONNECTIONS = 64
"""More at once are closed unanswered."""
CONNECTION_S = 15.0
"""A connection is ended after so long; every answer closes it anyway."""
LOOP_PATIENCE_S = 2.0
"""An event loop that does not answer for this long is unhealthy."""

_log = EventLog("telemetry")


class StateCollector(Collector):
    """Turns samples into Prometheus families, and refuses what the catalogue does not have for this service."""

    def __init__(self, service: str, read: Callable[[], Iterable[Sample]]) -> None:
        self._service = service
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """Families of all samples read now.

        Raises:
            ValueError: a sample that is not in the catalogue for this service, or with other labels.
        """
        families: dict[str, _Family] = {}
        for name, labels, value in self._read():
            if value is None:
                continue
            spec = self._spec(name, labels)
            family = families.get(name)
            if family is None:
                family = families[name] = _family(spec)
            values = [labels[label] for label in spec.labels]
            if isinstance(value, Histogram) and isinstance(family, HistogramMetricFamily):
                buckets, total = value.cumulative()
                family.add_metric(values, buckets=buckets, sum_value=total)
            elif not isinstance(value, Histogram) and not isinstance(family, HistogramMetricFamily):
                family.add_metric(values, value)
            else:
                raise ValueError(f"{name} is a {spec.kind.value}")
        yield from families.values()

    def _spec(self, name: str, labels: Mapping[str, str]) -> MetricSpec:
        spec = CATALOGUE.get(name)
        if spec is None or self._service not in spec.services:
            raise ValueError(f"{name} is not in the catalogue for {self._service}")
        if set(labels) != set(spec.labels):
            raise ValueError(f"{name} has labels {sorted(labels)}, the catalogue says {sorted(spec.labels)}")
        return spec


class Exposition:
    """The HTTP server; it answers from a thread of its own until :meth:`stop`."""

    def __init__(self, server: WSGIServer, address: str) -> None:
        self.address = address
        """HOST:PORT with the port in use, never 0."""
        self._server = server
        self._is_stopping = False
        self._thread = threading.Thread(target=self._serve, name="exposition", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait for the thread."""
        self._is_stopping = True
        # The thread sleeps until someone connects; serve_forever would wake it twice a second for a flag instead.
        with contextlib.suppress(OSError):
            socket.create_connection((str(self._server.server_address[0]), self._server.server_port), 1.0).close()
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self._is_stopping:
            self._server.handle_request()


def start_exposition(
    service: str,
    listen: str,
    read: Callable[[], Iterable[Sample]],
    *,
    unready_reason: Callable[[], str | None] = lambda: None,
    loop: asyncio.AbstractEventLoop | None = None,
    tls: TlsFiles | None = None,
) -> Exposition:
    """Serve a service's metrics and health on ``HOST:PORT`` (port 0: any free one). Process metrics are added here.

    Args:
        service: ``device``, ``edge`` or ``twin``.
        listen: where.
        read: samples of the service's state, called at each scrape.
        unready_reason: why the service cannot do its work now; ``None``: it can.
        tls: whose ends are shown; ``None``: none.
        loop: where ``read`` and ``unready_reason`` are called; ``None``: in the server's thread.

    Raises:
        SettingsError: ``listen`` is not HOST:PORT.
        ListenError: the port is in use, or the address is not this machine's.
    """
    address = Address.parse(listen)
    check_listen(address, "--http-listen")
    process = ProcessReading(service)

    ends = CertificateEnds(tls or TlsFiles())

    def read_all() -> list[Sample]:
        return [*process.samples(), *ends.samples(), *_on(loop, lambda: list(read()))]

    registry = CollectorRegistry()
    registry.register(StateCollector(service, read_all))
    app = _Application(make_wsgi_app(registry), lambda: _on(loop, unready_reason))
    server_class = _Server6 if ":" in address.host else _Server
    try:
        server = server_class((address.host, address.port), _QuietHandler)
    except OSError as error:
        raise ListenError(f"cannot listen on {listen}: {error.strerror}; choose another --http-listen") from None
    server.set_app(app)
    return Exposition(server, str(Address(address.host, server.server_port)))


def _on(loop: asyncio.AbstractEventLoop | None, function: Callable[[], T]) -> T:
    if loop is None:
        return function()
    if not loop.is_running():
        raise FutureTimeoutError
    answer: Future[T] = Future()

    def call() -> None:
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(function())
            except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
                answer.set_exception(error)

    loop.call_soon_threadsafe(call)
    try:
        return answer.result(LOOP_PATIENCE_S)
    finally:
        answer.cancel()


def _family(spec: MetricSpec) -> _Family:
    if spec.kind is MetricKind.COUNTER:
        return CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
    if spec.kind is MetricKind.GAUGE:
        return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
    return HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)


class _Application:
    def __init__(self, metrics: Callable[..., Iterable[bytes]], unready_reason: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._unready_reason = unready_reason

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = self._answer(environ, start_response)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else body

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _text(start_response, "405 Method Not Allowed", "only GET and HEAD")
        if path not in ("/metrics", "/healthz", "/readyz"):
            return _text(start_response, "404 Not Found", "there are /metrics, /healthz and /readyz")
        try:
            if path == "/metrics":
                return self._metrics({**environ, "REQUEST_METHOD": "GET"}, start_response)
            reason = self._unready_reason()
        except FutureTimeoutError:
            return _text(start_response, "503 Service Unavailable", "the service's event loop does not answer")
        except Exception as error:  # noqa: BLE001 - a defect of one reading must be logged, not end the thread
            _log.exception("state-unreadable", error)
            return _text(start_response, "500 Internal Server Error", "the service's log says why")
        if path == "/readyz" and reason is not None:
            return _text(start_response, "503 Service Unavailable", reason)
        return _text(start_response, "200 OK", "ok")


def _text(start_response: StartResponse, status: str, body: str) -> list[bytes]:
    data = (body + "\n").encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(data)))])
    return [data]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # The handler's own timeout is for each read alone: whoever sends a byte now and then would stay for ever.
        end = threading.Timer(CONNECTION_S, _shut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._room.release()

    def server_bind(self) -> None:
        # The base class would look the host's name up, which may take seconds without a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("http-connection-lost")


class _Server6(_Server):
    address_family = socket.AF_INET6


def _shut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _QuietHandler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        return
