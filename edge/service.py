"""An edge put together: models, queue, compute thread, gRPC, HTTP and the link to the twin."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import grpc.aio

from edge.arrival_log import ArrivalLog
from edge.backlog_reporting import ReportPolicy
from edge.batching import BatchSettings
from edge.computing_process.messages import Start
from edge.computing_process.parent import ComputingProcess
from edge.engine.address import EngineAddress
from edge.engine.interface import TailEngine
from edge.engine.server_metrics import check_page
from edge.execution import TailExecutor
from edge.gpu_energy import GpuEnergy, gpu_energy_of
from edge.inference import EdgeInference
from edge.metrics import EdgeMetrics
from edge.models import HeldModel, load_models
from edge.servicer import ALL_DEVICES, EdgeIdentity, EdgeServicer
from edge.settings import EdgeSettings
from edge.tail_queue import TailQueue
from edge.tail_work import TailWork
from edge.twin_link import Announcement, TwinLink
from edge.twin_links import TwinLinks
from twinsplit.access.peer_limits import PeerLimits
from twinsplit.access.rights import EDGE_RIGHTS
from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import SettingsError
from twinsplit.model.profile import load_profile
from twinsplit.model.runtime import provider_named
from twinsplit.oip.service import register_inference_service
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.settings import flag_name
from twinsplit.stop_signals import stop_signals
from twinsplit.systemd.notification import ServiceManager
from twinsplit.telemetry.exposition import Exposition, start_exposition
from twinsplit.telemetry.logs import EventLog, is_json
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.address import Address, check_listen
from twinsplit.transport.limits import model_message_bytes
from twinsplit.transport.open_files import allow_many_connections
from twinsplit.transport.server import RunningServer, start_server
from twinsplit.transport.tail_stream import register_edge_service

if TYPE_CHECKING:
    from edge.tail_tracing import TailTracing

_log = EventLog("edge.service")

OIP = "oip"
"""What stands for the execution provider where tails run elsewhere."""
_OF_LOCAL = ("provider", "threads", "computing", "profile", "batch_most", "emulate_slowdown")
_OF_OIP = ("engine_in_flight", "engine_metrics")
EVERY_ADDRESS = ("0.0.0.0", "::")  # nosec B104 # compared with, never listened on
LAST_ANSWERS_S = 1.0
"""Time for devices to read the answers of a stopping edge."""
_STREAM_END_S = 0.2


class EdgeService:
    """A running edge; made by :func:`start_edge`, ended by :meth:`stop`."""

    def __init__(
        self,
        settings: EdgeSettings,
        executor: TailEngine,
        servicer: EdgeServicer,
        server: RunningServer,
        exposition: Exposition,
        link: TwinLinks | None,
        signalling: SignallingCount,
        gpu_energy: GpuEnergy | None,
    ) -> None:
        self.executor = executor
        self.servicer = servicer
        self.link = link
        self.signalling = signalling
        self.address = server.address
        """HOST:PORT of gRPC with the port in use."""
        self.http_address = exposition.address
        self._settings = settings
        self._server = server
        self._exposition = exposition
        self._gpu_energy = gpu_energy
        self._link_task = None if link is None else asyncio.ensure_future(link.run())

    async def stop(self) -> None:
        """Stop in order: say so, take nothing more, finish what was accepted, write the answers, end."""
        await self._server.set_serving(False)
        self.executor.stop_admitting()
        if self._link_task is not None:
            # A twin that has lost its edge plans without it while the rest drains.
            self._link_task.cancel()
            await asyncio.gather(self._link_task, return_exceptions=True)
        await asyncio.to_thread(self.executor.close, self._settings.drain_s)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.servicer.wait_for_answers(), LAST_ANSWERS_S)
        if self._gpu_energy is not None:
            await asyncio.to_thread(self._gpu_energy.sampler.close)
        await asyncio.gather(self._server.stop(_STREAM_END_S), asyncio.to_thread(self._exposition.stop))
        if self.servicer.tracing is not None:
            await asyncio.to_thread(self.servicer.tracing.outlet.close)


async def start_edge(
    settings: EdgeSettings,
    *,
    clock: Clock | None = None,
    models: dict[str, HeldModel] | None = None,
    progress: Callable[[str], None] | None = None,
) -> EdgeService:
    """Load and measure the models, listen, and attach to the twin if there is one.

    Args:
        settings: What the edge was told.
        clock: ``None``: the system's.
        models: Already loaded ones by digest, in place of those in ``settings.models``.
        progress: Told a line for people before each model is loaded.

    Raises:
        ModelError, ProviderError: see :func:`edge.models.load_models`.
        SettingsError, InsecureBindError, TlsError, ListenError: see :func:`twinsplit.transport.server.start_server`.
    """
    clock = clock or SystemClock()
    engine = EngineAddress.parse(settings.engine)
    identity = EdgeIdentity(settings.id, provider_named(settings.provider) if engine.is_local else OIP)
    _check_endpoints(settings)
    _check_engine(settings, engine)
    gpu_energy = await asyncio.to_thread(gpu_energy_of, settings.energy, identity.provider, clock)
    models, executor = await _opened_engine(settings, engine, models, clock, progress)
    max_message_bytes = model_message_bytes(m.manifest for m in models.values())
    tracing = _tracing(settings)
    servicer = EdgeServicer(
        executor,
        models,
        identity,
        clock,
        max_message_bytes=max_message_bytes,
        allow_devices=settings.allow_devices,
        tracing=tracing,
    )
    signalling = SignallingCount()

    def register(server: grpc.aio.Server) -> None:
        register_edge_service(server, infer=servicer.infer, describe=servicer.describe, clock=clock)
        register_inference_service(server, EdgeInference(servicer, settings.id, allow_devices=settings.allow_devices))

    server = await start_server(
        register,
        settings.listen,
        settings.tls,
        is_insecure=settings.insecure,
        max_message_bytes=max_message_bytes,
        without_role=settings.tls_without_role,
        limits=PeerLimits(settings.max_calls_per_peer, settings.max_messages_per_peer_s, clock.monotonic_s),
        rights=EDGE_RIGHTS,
    )
    link = None
    if settings.twin is not None:
        link = _links(settings, settings.twin, server.address, servicer, signalling, clock)
        servicer.note_event = link.note_event
    metrics = EdgeMetrics(
        executor, servicer, identity, settings.queue_capacity, signalling, server.calls, link, gpu_energy
    )
    executor.start()
    try:
        exposition = start_exposition(
            "edge",
            settings.http_listen,
            metrics.samples,
            unready_reason=lambda: executor.unready_reason,
            loop=asyncio.get_running_loop(),
            tls=settings.tls,
        )
    except Exception:
        await server.stop()
        await asyncio.to_thread(executor.close, 0.0)
        raise
    if gpu_energy is not None:
        gpu_energy.sampler.start()
    return EdgeService(settings, executor, servicer, server, exposition, link, signalling, gpu_energy)


async def serve(settings: EdgeSettings, progress: Callable[[str], None] | None = None) -> None:
    """Run an edge until SIGTERM, SIGINT or SIGHUP; a second SIGTERM or SIGINT ends it at once.

    Raises:
        TwinsplitError: see :func:`start_edge`.
    """
    allow_many_connections()
    edge = await start_edge(settings, progress=progress)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in stop_signals():
        loop.add_signal_handler(number, stopping.set)
    _log.info(
        "edge-serving",
        id=settings.id,
        address=edge.address,
        http_address=edge.http_address,
        provider=edge.servicer.provider,
        engine=settings.engine,
        models=[model.title for model in edge.servicer.models.values()],
        emulated_slowdown=settings.emulate_slowdown,
    )
    # What lives until the end need not be walked by every collection while tails wait.
    gc.collect()
    gc.freeze()
    manager = ServiceManager.of_environment()
    manager.serving(f"{settings.id} on {edge.address}")
    await stopping.wait()
    manager.stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    _log.info("edge-stopping", waiting=edge.executor.reading().queue_length, drain_s=settings.drain_s)
    await edge.stop()
    manager.close()
    _log.info("edge-stopped")


async def _opened_engine(
    settings: EdgeSettings,
    engine: EngineAddress,
    models: dict[str, HeldModel] | None,
    clock: Clock,
    progress: Callable[[str], None] | None,
) -> tuple[dict[str, HeldModel], TailEngine]:
    """Models by digest, and what runs their tails, here or elsewhere."""
    if engine.is_local:
        return _local_engine(settings, models, clock, progress)
    # Only an edge that needs it pays for its import.
    from edge.engine.opening import open_remote_engine

    return await open_remote_engine(
        engine,
        models_root=settings.models,
        tls=settings.tls,
        in_flight=settings.engine_in_flight,
        capacity=settings.queue_capacity,
        pages=settings.engine_metrics,
        clock=clock,
        progress=progress,
    )


def _links(
    settings: EdgeSettings,
    twin: str,
    address: str,
    servicer: EdgeServicer,
    signalling: SignallingCount,
    clock: Clock,
) -> TwinLinks:
    """What tells the replicas of the twin service of this edge, which listens at ``address``."""
    announcement = Announcement(
        settings.id, settings.advertise or address, list(servicer.models.values()), settings.also_reached_at
    )
    policy = ReportPolicy(settings.report_threshold_s, settings.report_patience_s)

    def link_to(address: str, log: ArrivalLog) -> TwinLink:
        return TwinLink(address, settings.tls, announcement, servicer.executor, policy, clock, signalling, arrivals=log)

    return TwinLinks(ReplicaSource(twin), servicer.arrivals, link_to)


def _local_engine(
    settings: EdgeSettings,
    models: dict[str, HeldModel] | None,
    clock: Clock,
    progress: Callable[[str], None] | None,
) -> tuple[dict[str, HeldModel], TailExecutor]:
    """Models by digest, and the thread of this process that runs their tails.

    Raises:
        ModelError, ProviderError: see :func:`edge.models.load_models`.
    """
    process = None
    if models is None and settings.computing == "process":
        process = ComputingProcess(
            Start(
                models=settings.models,
                provider=settings.provider,
                threads=settings.threads,
                slowdown=settings.emulate_slowdown,
                profile=settings.profile,
                log_level=settings.log_level,
                is_log_json=is_json(),
            )
        )
        models = process.models(progress)
    if models is None:
        models = load_models(
            settings.models,
            provider=settings.provider,
            threads=settings.threads,
            slowdown=settings.emulate_slowdown,
            known=None if settings.profile is None else load_profile(settings.profile),
            clock=clock,
            progress=progress,
        )
    tail_s = {digest: model.tail_s for digest, model in models.items()}
    queue: TailQueue[TailWork] = TailQueue(
        settings.queue_capacity, tail_s, clock.monotonic_s(), batches_of(settings.batch_most, models)
    )
    if process is None:
        return models, TailExecutor(queue, models, clock)
    return models, TailExecutor(queue, models, clock, computing=process, inline_s=0.0)


def _tracing(settings: EdgeSettings) -> TailTracing | None:
    """Traces of tails; ``None``: none are asked for.

    Raises:
        SettingsError: OpenTelemetry is not installed, or the endpoint is none.
    """
    if settings.otlp_endpoint is None:
        return None
    from edge.tail_tracing import TailTracing
    from twinsplit.tracing.outlet import open_outlet

    return TailTracing(open_outlet(settings.otlp_endpoint, "edge", settings.id))


def batches_of(most: int, models: Mapping[str, HeldModel]) -> BatchSettings:
    """Which tails may be run together; says of which models none may."""
    first_cuts = {digest: m.batches_from for digest, m in models.items() if m.batches_from is not None}
    for digest, model in models.items():
        if most > 1 and digest not in first_cuts:
            _log.info("model-takes-no-batches", model=model.title, cure="split it with twinsplit model split --batches")
    return BatchSettings(most, tuple(first_cuts.items()))


def _check_engine(settings: EdgeSettings, engine: EngineAddress) -> None:
    """Settings of one kind of engine mean nothing to the other; whoever gives them expects something.

    Raises:
        SettingsError: one is given that does not fit the engine.
    """
    given = [key for key in (_OF_OIP if engine.is_local else _OF_LOCAL) if key in settings.model_fields_set]
    if given and engine.is_local:
        raise SettingsError(f"{flag_name(given[0])} is for --engine oip://...; leave it out")
    if given:
        raise SettingsError(f"{flag_name(given[0])} is for --engine local; set it at the servers of {settings.engine}")
    if settings.core is not None and settings.computing == "process":
        raise SettingsError("--core keeps the edge to one core, which --computing process leaves; give one of them")
    for url in settings.engine_metrics:
        check_page(url)
    if engine.is_tls and not settings.tls.is_set:
        raise SettingsError("--engine oips:// needs --tls-ca, the authority of the servers' certificates")


def _check_endpoints(settings: EdgeSettings) -> None:
    """What cannot work is said before models are loaded for many seconds.

    Raises:
        SettingsError: an address is not HOST:PORT, or devices cannot reach what would be advertised.
        TlsError: half a TLS configuration, or one that does not do for the twin's channel.
        ListenError: an address that cannot be listened on.
    """
    listen = Address.parse(settings.listen)
    check_listen(listen, "--listen")
    check_listen(Address.parse(settings.http_listen), "--http-listen")
    for address in (settings.advertise, *settings.also_reached_at):
        if address is not None and Address.parse(address).host in EVERY_ADDRESS:
            raise SettingsError(
                f"{address} is every address of a machine, which nobody can dial; name one of this edge"
            )
    if settings.twin is not None:
        ReplicaSource(settings.twin).read()
    if settings.twin is not None and settings.advertise is None and listen.host in EVERY_ADDRESS:
        raise SettingsError(
            f"--listen {settings.listen} is every address of this machine, which no device can dial; name the one that "
            "devices reach it by in --advertise HOST:PORT"
        )
    if settings.allow_devices != ALL_DEVICES and not settings.tls.is_mutual:
        raise SettingsError(
            "--allow-devices goes by certificates; give --tls-ca, --tls-cert and --tls-key, or leave it out"
        )
    if settings.tls.is_set:
        settings.tls.server_credentials()
        if settings.twin is not None:
            settings.tls.channel_credentials()
