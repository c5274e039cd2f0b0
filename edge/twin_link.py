"""The edge's stream to one replica of the twin: hello, backlog reports when they are due, heartbeats, reconnection.

A twin that is gone harms no task: the edge goes on and attaches again by itself, with jittered back-off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
import grpc.aio

from edge.arrival_log import Arrival, ArrivalLog
from edge.backlog_reporting import BacklogReporter, Due, ReportPolicy
from edge.models import HeldModel
from edge.tail_queue import EdgeReading
from twinsplit import __version__
from twinsplit.clock import Clock
from twinsplit.errors import RefusedError
from twinsplit.rpc.v1 import errors_pb2, twin_pb2, twin_pb2_grpc
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.back_off import keep_connected
from twinsplit.transport.channel import open_channel
from twinsplit.transport.clock_echo import ClockEcho
from twinsplit.transport.convert import backlog_to_wire, digest_to_wire, seconds_from_wire
from twinsplit.transport.status import error_from_rpc, error_from_wire, is_refusal
from twinsplit.transport.tls import TlsFiles

_log = EventLog("edge.twin_link")

FIRST_HEARTBEAT_S = 5.0
"""Heartbeat period until the twin's welcome names its own."""
WELCOME_TIMEOUT_S = 10.0
"""A twin that takes the stream but says nothing for this long is tried again."""
REFUSAL_LOG_S = 60.0

AttachCall = grpc.aio.StreamStreamCall[twin_pb2.AttachEdgeRequest, twin_pb2.AttachEdgeResponse]


class BacklogSource(Protocol):
    """What the link needs of :class:`edge.execution.TailExecutor`."""

    def reading(self) -> EdgeReading: ...

    def backlog_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the edge says of itself when it attaches."""

    edge_id: str
    advertise_address: str
    """HOST:PORT under which devices reach it."""
    models: Sequence[HeldModel]
    other_addresses: Sequence[str] = ()
    """HOST:PORT under which some devices reach it besides."""


class TwinLink:
    """Keeps the edge attached to the twin. All of it lives in the event loop.

    Args:
        address: The twin's HOST:PORT.
        tls: ``None``: no TLS.
        announcement: Who attaches.
        source: Where the backlog is read.
        policy: When a report is worth a message.
        clock: The source's clock.
        signalling: Counts what is sent.
        rng: Jitter of the back-off; ``None``: a random one.
        arrivals: What has arrived and is not told yet; ``None``: nothing ever does.
    """

    def __init__(
        self,
        address: str,
        tls: TlsFiles | None,
        announcement: Announcement,
        source: BacklogSource,
        policy: ReportPolicy,
        clock: Clock,
        signalling: SignallingCount,
        rng: random.Random | None = None,
        arrivals: ArrivalLog | None = None,
    ) -> None:
        self._arrivals = ArrivalLog() if arrivals is None else arrivals
        self._address = address
        self._tls = tls
        self._announcement = announcement
        self._source = source
        self._policy = policy
        self._now_s = clock.monotonic_s
        self._signalling = signalling
        self._rng = rng
        self._reporter: BacklogReporter | None = None
        self._report_may_be_due = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._echo = ClockEcho(clock.monotonic_s)
        self.attached_times = 0
        """How often the twin has welcomed this edge."""

    @property
    def is_attached(self) -> bool:
        """Whether the twin has welcomed this edge on the stream that is open."""
        return self._welcomed.is_set()

    def note_event(self) -> None:
        """The backlog may have moved: wake the sender if a report is due."""
        reporter = self._reporter
        if (
            reporter is not None
            and self._welcomed.is_set()
            and reporter.look(self._source.backlog_s(), self._now_s()) is not Due.NOTHING
        ):
            self._report_may_be_due.set()

    async def run(self) -> None:
        """Attach, report, and attach again, until cancelled."""
        await keep_connected("twin", self._address, self._attach, self._now_s, _log, self._rng)

    async def _attach(self) -> bool:
        """One stream from hello to its end.

        Returns:
            Whether the twin welcomed this edge on it.
        """
        # A channel of its own for every try: the channel's back-off and ours must not add up.
        async with open_channel(self._address, self._tls) as channel:
            call: AttachCall = twin_pb2_grpc.TwinServiceStub(channel).AttachEdge()
            tasks = [asyncio.ensure_future(self._send_all(call)), asyncio.ensure_future(self._receive_all(call))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                was_welcome = self._welcomed.is_set()
                self._welcomed.clear()
                self._reporter = None
                call.cancel()
                for task in tasks:
                    task.cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    self._log_end(outcome)
        return was_welcome

    async def _send_all(self, call: AttachCall) -> None:
        reading = self._source.reading()
        self._echo.reset()
        self._report_may_be_due.clear()
        self._reporter = reporter = BacklogReporter(self._policy, FIRST_HEARTBEAT_S, reading.backlog)
        await self._send(call, twin_pb2.AttachEdgeRequest(hello=self._hello(reading)))
        await self._wait_for_event(self._now_s() + WELCOME_TIMEOUT_S)
        if not self._welcomed.is_set():
            _log.warning("twin-silent", limit_s=REFUSAL_LOG_S, address=self._address)
            return
        while True:
            await self._wait_for_event(reporter.next_look_at_s(self._now_s()))
            now_s = self._now_s()
            due = reporter.look(self._source.backlog_s(), now_s)
            if due is Due.NOTHING:
                continue
            reading = self._source.reading()
            reporter.sent(reading.backlog, now_s)
            arrivals = self._arrivals.untold(now_s)
            report = report_to_wire(reading, now_s, arrivals)
            if due is Due.REPORT:
                await self._send(call, twin_pb2.AttachEdgeRequest(backlog=report))
            else:
                heartbeat = twin_pb2.EdgeHeartbeat(backlog=report)
                await self._send(call, twin_pb2.AttachEdgeRequest(heartbeat=heartbeat))
            self._arrivals.told(arrivals)

    async def _wait_for_event(self, latest_s: float) -> None:
        # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation that meets the event.
        timer = asyncio.get_running_loop().call_later(max(latest_s - self._now_s(), 0.0), self._report_may_be_due.set)
        try:
            await self._report_may_be_due.wait()
        finally:
            timer.cancel()
        self._report_may_be_due.clear()

    async def _send(self, call: AttachCall, message: twin_pb2.AttachEdgeRequest) -> None:
        self._echo.stamp(message)
        await call.write(message)
        self._signalling.note_sent(str(message.WhichOneof("kind")), message.ByteSize())

    async def _receive_all(self, call: AttachCall) -> None:
        while True:
            message = await call.read()
            if not isinstance(message, twin_pb2.AttachEdgeResponse):
                return
            self._echo.received(message)
            try:
                self._take(message)
            except RefusedError as error:
                _log.warning("twin-message-refused", limit_s=REFUSAL_LOG_S, address=self._address, error=str(error))
            is_superseded = message.error.code == errors_pb2.ERROR_CODE_STALE_WRITE
            if message.WhichOneof("kind") == "error" and (is_superseded or not self._welcomed.is_set()):
                return

    def _take(self, message: twin_pb2.AttachEdgeResponse) -> None:
        kind = message.WhichOneof("kind")
        if kind == "welcome":
            self._welcome(message.welcome)
        elif kind == "interest":
            ceiling_s = seconds_from_wire(message.interest.ceiling_s, "interest.ceiling_s")
            if self._reporter is not None:
                self._reporter.ceiling_s = ceiling_s
        elif kind == "error":
            error = error_from_wire(message.error)
            _log.warning("twin-refused", limit_s=REFUSAL_LOG_S, address=self._address, error=str(error))

    def _welcome(self, welcome: twin_pb2.Welcome) -> None:
        heartbeat_s = seconds_from_wire(welcome.heartbeat_s, "welcome.heartbeat_s")
        if self._reporter is not None and heartbeat_s > 0.0:
            self._reporter.heartbeat_s = heartbeat_s
        if self._welcomed.is_set():
            return
        self._welcomed.set()
        self._report_may_be_due.set()
        self.attached_times += 1
        _log.info("twin-attached", address=self._address, twin_version=welcome.version)

    def _hello(self, reading: EdgeReading) -> twin_pb2.EdgeHello:
        return twin_pb2.EdgeHello(
            edge_id=self._announcement.edge_id,
            advertise_address=self._announcement.advertise_address,
            other_addresses=self._announcement.other_addresses,
            models=[
                twin_pb2.EdgeModel(model_digest=digest_to_wire(model.digest), tail_s=model.tail_s)
                for model in self._announcement.models
            ],
            version=__version__,
            report_threshold_s=self._policy.threshold_s,
            backlog=report_to_wire(reading, self._now_s()),
        )

    def _log_end(self, outcome: object) -> None:
        if isinstance(outcome, grpc.aio.AioRpcError):
            _log.debug("twin-stream-ended", address=self._address, status=outcome.code().name)
            if is_refusal(outcome):
                cause = str(error_from_rpc(outcome, self._address))
                _log.warning("twin-refuses-calls", limit_s=REFUSAL_LOG_S, address=self._address, cause=cause)
        elif isinstance(outcome, asyncio.InvalidStateError):
            _log.debug("twin-stream-ended", address=self._address)
        elif isinstance(outcome, Exception):
            _log.exception("twin-link-failed", outcome, address=self._address)


def report_to_wire(
    reading: EdgeReading, now_s: float, arrivals: Sequence[Arrival] | None = None
) -> twin_pb2.BacklogReport:
    """A reading on the wire, its ages counted at ``now_s``; ``arrivals``: what is not told yet, ``None``: not now."""
    return twin_pb2.BacklogReport(
        backlog=backlog_to_wire(reading.backlog, now_s),
        arrived_work_s=reading.arrived_work_s,
        speed_factor=reading.speed_factor,
        queue_length=reading.queue_length,
        busy_share=reading.busy_share,
        arrivals=None if arrivals is None else _arrivals_to_wire(arrivals, now_s),
    )


def _arrivals_to_wire(arrivals: Sequence[Arrival], now_s: float) -> twin_pb2.ArrivalLog:
    positions: dict[str, int] = {"": 0}
    return twin_pb2.ArrivalLog(
        age_s=[max(now_s - arrival.at_s, 0.0) for arrival in arrivals],
        work_s=[arrival.work_s for arrival in arrivals],
        device=[positions.setdefault(arrival.device_id, len(positions)) for arrival in arrivals],
        task_id=[arrival.task_id for arrival in arrivals],
        device_ids=[device_id for device_id in positions if device_id],
    )
