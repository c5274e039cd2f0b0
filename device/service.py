"""A device put together: model, profile, pipeline, compute thread, uplink, twin, source, sink, gRPC and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from typing import Any

import grpc.aio
from numpy.typing import NDArray

from device.assembly import (
    emulations_of,
    link_of,
    pipeline_of,
    profile_of,
    step_times_s,
    tracing_of,
    uplink_settings_of,
)
from device.compute import Deliver, Engine
from device.emulation import EmulatedUplink, Slowdown
from device.inference import DeviceInference
from device.metrics import DeviceMetrics
from device.pipeline import Pipeline
from device.sensors import Sensors, powers_of
from device.servicer import register_device_service
from device.settings import DeviceSettings
from device.shell import Shell
from device.sinks import JsonLinesSink, open_sink
from device.sources import Source, SourceWatch, open_source
from device.sources.feeding import Feeder
from device.thumbnails import Thumbnails
from device.uplink import Uplink
from twinsplit.access.peer_limits import PeerLimits
from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import read_manifest
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip.service import register_inference_service
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.stop_signals import stop_signals
from twinsplit.systemd.notification import ServiceManager
from twinsplit.telemetry.exposition import Exposition, start_exposition
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.address import Address
from twinsplit.transport.limits import model_message_bytes
from twinsplit.transport.server import RunningServer, start_server
from twinsplit.types import Outcome, Payloads

_log = EventLog("device")

TICK_S = 0.02
"""Granularity of deadlines of offloads and of heartbeats."""
PROFILE_REPEATS = 10
PROFILE_BUDGET_S = 10.0
LAST_REPORTS_S = 1.0
"""A stopping device waits this long for its last reports to be on their way."""
_LATE_FRAME_S = 0.5
_STREAM_END_S = 0.2


class DeviceService:
    """A running device; made by :func:`start_device`, ended by :meth:`stop`."""

    def __init__(
        self,
        settings: DeviceSettings,
        runtime: SegmentRuntime,
        pipeline: Pipeline,
        shell: Shell,
        *,
        clock: Clock,
        sink: JsonLinesSink | None,
        source: Source | None,
        emulations: dict[str, Any],
        sensors: Sensors,
    ) -> None:
        self.shell = shell
        self.sensors = sensors
        self.finished = asyncio.Event()
        """The source has ended, as much was taken as was asked for, or the device is broken."""
        self.defect: Exception | None = None
        """Why the device is broken; ``None``: it is not."""
        self.signalling = SignallingCount()
        self.watch = None
        self._feeder = None
        self._settings = settings
        self._runtime = runtime
        self._pipeline = pipeline
        self._now_s = clock.monotonic_s
        self._sink = sink
        self._emulations = emulations
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._server: RunningServer
        self._exposition: Exposition
        if source is not None:
            self.watch = SourceWatch(clock.monotonic_s, is_live=source.is_live, stall_s=settings.stall_s)
            self._feeder = Feeder(
                source,
                self.watch,
                shell.take_frame,
                self._end_from_thread,
                clock.monotonic_s,
                duration_s=settings.duration_s,
                count=settings.count,
            )

    @property
    def address(self) -> str:
        """HOST:PORT of gRPC with the port in use."""
        return self._server.address

    @property
    def http_address(self) -> str:
        """HOST:PORT of HTTP with the port in use."""
        return self._exposition.address

    async def listen(self) -> None:
        """Start gRPC and HTTP.

        Raises:
            SettingsError, InsecureBindError, TlsError, ListenError: an address or TLS file cannot be used.
        """
        settings = self._settings

        def register(server: grpc.aio.Server) -> None:
            register_device_service(self, server, settings.id)
            runtime = self._runtime
            inference = DeviceInference(
                self, runtime.manifest, runtime.digest, settings.id, lambda: not self._is_stopping
            )
            register_inference_service(server, inference)

        # With an authority alone the device shows no certificate: then TLS is for the channels only.
        tls = settings.tls if settings.tls.cert is not None else None
        self._server = await start_server(
            register,
            settings.listen,
            tls,
            is_insecure=settings.insecure,
            max_message_bytes=model_message_bytes([self._runtime.manifest]),
            without_role=settings.tls_without_role,
            limits=PeerLimits(settings.max_calls_per_peer, settings.max_messages_per_peer_s, self._now_s),
        )
        self.shell.metrics = DeviceMetrics(
            manifest=self._runtime.manifest,
            provider=self._runtime.provider,
            queue_capacity=self._pipeline.settings.queue_capacity,
            emulations=tuple(self._emulations),
            signalling=self.signalling,
            calls=self._server.calls,
            link=self.shell.link,
            watch=self.watch,
            sink=self._sink,
        )
        try:
            self._exposition = start_exposition(
                "device",
                settings.http_listen,
                self.shell.samples,
                unready_reason=lambda: "stopping" if self._is_stopping else None,
                loop=self._loop,
                tls=settings.tls,
            )
        except Exception:
            await self._server.stop()
            raise

    def begin(self) -> None:
        """Attach to the twin, connect to the edge and take frames."""
        _log.info(
            "device-running",
            id=self._settings.id,
            address=self.address,
            http_address=self.http_address,
            model=f"{self._runtime.manifest.name} {self._runtime.manifest.version} ({self._runtime.digest[:12]})",
            provider=self._runtime.provider,
            payloads=self._settings.payloads.value,
            emulation=self._emulations,
        )
        self.shell.engine.start()
        self.sensors.watch(self.shell.engine)
        if self._settings.edge is not None:
            self.shell.uplink.prepare(self._settings.edge)
        if self.shell.link is not None:
            self._tasks.append(asyncio.ensure_future(self.shell.link.run()))
        self._tasks.append(asyncio.ensure_future(self._tick()))
        if self._feeder is not None:
            self._feeder.start()
        if self._settings.duration_s is not None:
            self._loop.call_later(self._settings.duration_s + _LATE_FRAME_S, self.finished.set)

    async def submit(self, name: str, data: bytes | NDArray[Any], deliver: Deliver) -> None:
        """A frame of a local program, or the model's input as it is."""
        await self.shell.submit(name, data, deliver)
        if self._settings.source == "submit" and self._pipeline.outcomes.entered == self._settings.count:
            self.finished.set()

    def status(self) -> dict[str, Any]:
        """How the device stands."""
        runtime = self._runtime
        identity = {
            "id": self._settings.id,
            "model": {
                "name": runtime.manifest.name,
                "version": runtime.manifest.version,
                "digest": runtime.digest,
                "segments_held": runtime.manifest.held_segments,
            },
            "provider": runtime.provider,
            "payloads": self._settings.payloads.value,
            "emulation": self._emulations,
            "max_message_bytes": model_message_bytes([runtime.manifest]),
            "twin": None if self.shell.link is None else self.shell.link.route.status(),
        }
        return self.shell.status_of(identity)

    async def stop(self) -> None:
        """Stop in order: take no frames, finish what was accepted, report it, write it down, end.

        Raises:
            StorageError: the sink could not write every record.
        """
        self._is_stopping = True
        await self._server.set_serving(False)
        engine = self.shell.engine
        if self._feeder is not None:  # first: a frame that it has begun to prepare is accepted
            await asyncio.to_thread(self._feeder.stop)
        engine.event(lambda pipeline, now_s: pipeline.close())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.shell.drained(), 0.0 if self.defect is not None else self._settings.drain_s)
        engine.event(lambda pipeline, now_s: pipeline.abort(now_s))
        await asyncio.to_thread(engine.close)
        await asyncio.to_thread(self.sensors.close)
        await self._delivered()
        if self.shell.link is not None:
            await self.shell.link.flush(LAST_REPORTS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.shell.uplink.close()
        self.shell.close()
        await asyncio.gather(self._server.stop(_STREAM_END_S), asyncio.to_thread(self._exposition.stop))
        if self.shell.tracing is not None:
            await asyncio.to_thread(self.shell.tracing.outlet.close)
        if self._sink is not None:
            await asyncio.to_thread(self._sink.close)

    def summary(self) -> dict[str, Any]:
        """How all tasks ended; the outcomes add up to the tasks that entered."""
        ended = self._pipeline.outcomes.ended
        outcomes: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})
        for (outcome, _), count in ended.items():
            outcomes[outcome.value] += count
        return {"entered": self._pipeline.outcomes.entered, **outcomes}

    @property
    def source_failure(self) -> Exception | None:
        """What ended the source before its time."""
        return None if self._feeder is None else self._feeder.failure

    def broken(self, error: Exception) -> None:
        """The compute thread has met a defect; from that thread."""
        self.defect = error
        self._end_from_thread()

    def _end_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self.finished.set)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.shell.tick()
            if self.watch is not None:
                self.watch.look()

    async def _delivered(self) -> None:
        """Return when everything handed to the event loop so far has been carried out."""
        done = self._loop.create_future()
        self._loop.call_soon_threadsafe(done.set_result, None)
        await done


async def start_device(settings: DeviceSettings, *, clock: Clock | None = None) -> DeviceService:
    """Load and measure the model, listen, and begin.

    Raises:
        ModelError, ProviderError: the model cannot be used.
        SettingsError, InsecureBindError, TlsError, ListenError: an address or setting cannot be used.
        SourceError: the source cannot be opened.
        StorageError: sink or profile cannot be written.
    """
    clock = clock or SystemClock()
    _check_settings(settings)
    uplink_settings = uplink_settings_of(settings)
    sensors = await asyncio.to_thread(Sensors, settings, clock)
    source = open_source(settings, clock.monotonic_s)
    manifest, _ = read_manifest(settings.model)
    held = range(manifest.held_segments)
    runtime = await asyncio.to_thread(
        SegmentRuntime.load, settings.model, provider=settings.provider, threads=settings.threads, segments=held
    )
    profile = await asyncio.to_thread(profile_of, settings, runtime, sensors.speed_share)
    energy = sensors.books(profile)
    await sensors.look_at_idle()
    factor = settings.emulate_slowdown
    sink = open_sink(settings.sink)
    shell = Shell(runtime, clock, sink)
    pipeline = pipeline_of(settings, runtime, profile, energy, is_live=source is not None and source.is_live)
    device = DeviceService(
        settings,
        runtime,
        pipeline,
        shell,
        clock=clock,
        sink=sink,
        source=source,
        emulations=emulations_of(settings, uplink_settings),
        sensors=sensors,
    )
    if settings.twin is not None:
        watts = powers_of(settings, profile, has_meter=sensors.has_meter)
        shell.link = link_of(settings, settings.twin, runtime, shell, clock, device.signalling, watts)
    shell.tracing = tracing_of(settings, runtime, clock)
    shell.thumbnails = Thumbnails() if settings.thumbnails else None
    shell.uplink = Uplink(
        runtime.digest,
        shell,
        clock,
        device.signalling,
        device_id=settings.id,
        tls=settings.tls if settings.tls.is_set else None,
        max_message_bytes=model_message_bytes([manifest]),
        first_cut=manifest.first_sent_cut(is_tensors_only=settings.payloads is Payloads.TENSORS_ONLY),
        emulation=EmulatedUplink(uplink_settings, clock.monotonic_s(), settings.seed)
        if uplink_settings.is_set
        else None,
    )
    shell.engine = Engine(
        pipeline,
        runtime,
        clock,
        shell.deliver,
        slowdown=Slowdown(factor, step_times_s(profile), clock.monotonic_s) if factor > 1.0 else None,
        ask_twin=shell.link.ask if shell.link is not None else lambda question: None,
        watch=sensors,
        broken=device.broken,
    )
    try:
        await device.listen()
    except Exception:
        sensors.close()
        raise
    device.begin()
    return device


async def run(settings: DeviceSettings) -> None:
    """Run a device until its source ends, enough frames were taken, or SIGTERM, SIGINT or SIGHUP; a second SIGTERM or
    SIGINT ends it at once.

    Raises:
        TwinsplitError: see :func:`start_device`; also at the end: StorageError, when records are missing in the sink,
            SourceError, when the source has failed.
    """
    device = await start_device(settings)
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, device.finished.set)
    manager = ServiceManager.of_environment()
    manager.serving(f"{settings.id} on {device.address}")
    await device.finished.wait()
    manager.stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    _log.info("device-stopping", open=device.status()["open"], drain_s=settings.drain_s)
    try:
        await device.stop()
    finally:
        manager.close()
        _log.info("device-stopped", **device.summary())
    failure = device.defect or device.source_failure
    if failure is not None:
        raise failure


def _check_settings(settings: DeviceSettings) -> None:
    """A wrong address or setting is said before the model is loaded for many seconds.

    Raises:
        SettingsError: one is not HOST:PORT, polled mode without a twin, or thumbnails of what must not leave.
        TlsError: the TLS files cannot be used for channels.
    """
    for address in (settings.listen, settings.http_listen, settings.edge):
        if address is not None:
            Address.parse(address)
    if settings.twin is not None:
        ReplicaSource(settings.twin).read()
    if settings.tls.is_set and (settings.twin is not None or settings.edge is not None):
        # A channel would find out only when it is opened.
        settings.tls.channel_credentials()
    if settings.polled and settings.twin is None:
        raise SettingsError("--polled asks the twin at every epoch; name it in --twin HOST:PORT")
    if settings.thumbnails and settings.payloads is Payloads.TENSORS_ONLY:
        raise SettingsError(
            "--thumbnails sends pictures of frames to the twin, and --payloads tensors-only lets no frame leave the "
            "device; leave one of them out"
        )
