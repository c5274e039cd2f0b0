"""The device's one stream to the twin service: hello, manifest, reports, plans, lease, live reads, polled mode.

A twin that is gone harms no task: the device goes on by its plan and then by the contingency, and attaches again by
itself, to the replica that :class:`device.twin_route.TwinRoute` names. No task ever waits for the twin, except in
polled mode, for a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol

import grpc
import grpc.aio

from device.reports import Heartbeat, Report, TaskReport
from device.task import AskTwin
from device.twin_route import TwinRoute
from device.twin_wire import (
    Announcement,
    Attachment,
    LiveState,
    hello_to_wire,
    live_to_wire,
    manifest_to_wire,
    poll_to_wire,
    report_to_wire,
)
from twinsplit.clock import Clock
from twinsplit.edge_list import ListedEdge
from twinsplit.errors import BadMessageError, RefusedError, StaleWriteError
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import errors_pb2, twin_pb2, twin_pb2_grpc
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.channel import open_channel
from twinsplit.transport.clock_echo import ClockEcho
from twinsplit.transport.convert import (
    attachment_from_wire,
    backlog_from_wire,
    edges_from_wire,
    plan_from_wire,
    seconds_from_wire,
)
from twinsplit.transport.status import error_from_rpc, error_from_wire, error_to_wire, is_refusal
from twinsplit.transport.tls import TlsFiles
from twinsplit.types import Decision, TaskRecord

_log = EventLog("device.twin_link")

REPEATED_LINE_S = 10.0
KEPT_RECORDS = 256
"""Ended tasks kept for a twin that is gone, or has not confirmed them; the oldest are given up."""
UNSENT_MESSAGES = 1024
"""Messages that may wait for a twin that does not read; then the stream is ended and made anew."""

AttachCall = grpc.aio.StreamStreamCall[twin_pb2.AttachDeviceRequest, twin_pb2.AttachDeviceResponse]
Outgoing = Callable[[float], twin_pb2.AttachDeviceRequest]
"""Makes a message at the instant of sending, so that its ages are right."""


class TwinEvents(Protocol):
    """What the link needs of the device, and what it tells."""

    def attachment(self) -> Attachment:
        """What the twin is told at attachment."""

    def live_state(self) -> LiveState:
        """State now."""

    def attached(self, heartbeat_s: float) -> None:
        """The twin has welcomed this device; 0: it names no period."""

    def plan_received(self, plan: Plan, backlog: BacklogState | None) -> None:
        """A plan has arrived; raises RefusedError where this device cannot obey it."""

    def backlog_updated(self, backlog: BacklogState) -> None:
        """A newer backlog of the plan's edge has arrived."""

    def edges_listed(self, edges: tuple[ListedEdge, ...]) -> None:
        """The twin lists the edges that hold the model."""

    def lease_renewed(self, lease_s: float) -> None:
        """A message of the twin has arrived."""


class TwinLink:
    """Keeps the device attached to the twin. All of it lives in the event loop, but for :meth:`ask`."""

    def __init__(
        self,
        route: TwinRoute,
        announcement: Announcement,
        manifest_bytes: bytes,
        events: TwinEvents,
        clock: Clock,
        signalling: SignallingCount,
        *,
        tls: TlsFiles | None = None,
        poll_timeout_s: float = 0.1,
    ) -> None:
        self.route = route
        self._announcement = announcement
        self._manifest_bytes = manifest_bytes
        self._events = events
        self._now_s = clock.monotonic_s
        self._signalling = signalling
        self._tls = tls
        self._poll_timeout_s = poll_timeout_s
        self._loop = asyncio.get_running_loop()
        self._unsent: asyncio.Queue[Report | Outgoing] = asyncio.Queue(UNSENT_MESSAGES)
        self._kept: deque[TaskRecord] = deque(maxlen=KEPT_RECORDS)
        self._unconfirmed: deque[tuple[float, TaskRecord]] = deque(maxlen=KEPT_RECORDS)
        """Ended tasks written on this stream, with the clock reading of their message, until the twin echoes it."""
        self._polls: dict[tuple[int, int], Future[Decision | None]] = {}
        self._is_welcome = asyncio.Event()
        self._call: AttachCall | None = None
        self._echo = ClockEcho(clock.monotonic_s)
        self.attached_times = 0
        """How often the twin has welcomed this device."""
        self.plans_refused = 0
        self.backlog_updates = 0

    @property
    def is_attached(self) -> bool:
        """Whether the twin has welcomed this device on the stream that is open."""
        return self._is_welcome.is_set()

    def report(self, report: Report) -> None:
        """Send a report; while the twin is gone only ended tasks are kept for it."""
        if not self.is_attached:
            if isinstance(report, TaskReport):
                self._kept.extend(report.ended)
            return
        if self._kept and isinstance(report, TaskReport | Heartbeat):
            ended = report.ended if isinstance(report, TaskReport) else ()
            report = TaskReport((*self._kept, *ended), report.started, report.queue_length, report.state)
            self._kept.clear()
        self._put(report)

    def ask(self, question: AskTwin) -> Decision | None:
        """Polled mode, from the compute thread: the twin's decision; ``None``: none came in time."""
        if not self.is_attached:
            return None
        answer: Future[Decision | None] = Future()
        self._loop.call_soon_threadsafe(self._poll, question, answer)
        try:
            return answer.result(self._poll_timeout_s)
        except FutureTimeoutError:
            self._loop.call_soon_threadsafe(self._polls.pop, (question.task.task_id, question.epoch), None)
            return None

    async def run(self) -> None:
        """Attach, and attach again, until cancelled."""
        route = self.route
        ways = (route.follow_list(), route.watch_silence(), route.look_around())
        beside = [asyncio.ensure_future(way) for way in ways]
        try:
            while True:
                address = await self.route.next()
                try:
                    await self._attach(address)
                except Exception as error:  # noqa: BLE001 - a defect in one stream must not end the way to the twin
                    _log.exception("twin-link-failed", error, address=address)
                self.route.ended()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def flush(self, timeout_s: float) -> None:
        """Wait until what there is to send has gone, for at most ``timeout_s``."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._unsent.join(), timeout_s)

    async def _attach(self, address: str) -> None:
        """One stream from hello to its end."""
        epoch = self.route.trying(address, self._end_stream)
        # A channel of its own for every try: the channel's back-off and ours must not add up.
        async with open_channel(address, self._tls) as channel:
            call: AttachCall = twin_pb2_grpc.TwinServiceStub(channel).AttachDevice()
            self._call = call
            # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation that meets the welcome.
            patience = self._loop.call_later(self.route.welcome_timeout_s, self._end_unwelcome, address)
            tasks = [asyncio.ensure_future(self._send_all(call, epoch)), asyncio.ensure_future(self._receive_all(call))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                patience.cancel()
                self._is_welcome.clear()
                self._call = None
                self._drop_unsent()
                call.cancel()
                for task in tasks:
                    task.cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    self._log_end(outcome, address)

    def _end_stream(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _end_unwelcome(self, address: str) -> None:
        if not self.is_attached:
            _log.warning("twin-silent", limit_s=REPEATED_LINE_S, address=address)
            self._end_stream()

    async def _send_all(self, call: AttachCall, epoch: int) -> None:
        self._echo.reset()
        await self._send(call, hello_to_wire(self._announcement, self._events.attachment(), epoch))
        await self._is_welcome.wait()
        while True:
            outgoing = await self._unsent.get()
            now_s = self._now_s()
            message = outgoing(now_s) if callable(outgoing) else report_to_wire(outgoing, now_s)
            ended = outgoing.ended if isinstance(outgoing, TaskReport) else ()
            await self._send(call, message, ended)
            self._unsent.task_done()

    async def _send(
        self, call: AttachCall, message: twin_pb2.AttachDeviceRequest, ended: Sequence[TaskRecord] = ()
    ) -> None:
        self._echo.stamp(message)
        # What is written may lie in buffers for ever: a twin that hangs takes it there, too.
        self._unconfirmed.extend((message.clock.sent_s, record) for record in ended)
        await call.write(message)
        self._signalling.note_sent(str(message.WhichOneof("kind")), message.ByteSize())

    async def _receive_all(self, call: AttachCall) -> None:
        while True:
            message = await call.read()
            if not isinstance(message, twin_pb2.AttachDeviceResponse):
                return
            self._echo.received(message)
            while self._unconfirmed and self._unconfirmed[0][0] <= message.clock.echo_sent_s:
                self._unconfirmed.popleft()
            try:
                self._take(message)
            except RefusedError as error:
                _log.warning("twin-message-refused", limit_s=REPEATED_LINE_S, error=str(error))
                self._refuse(error)
            is_superseded = message.error.code == errors_pb2.ERROR_CODE_STALE_WRITE
            if message.WhichOneof("kind") == "error" and (is_superseded or not self.is_attached):
                return

    def _take(self, message: twin_pb2.AttachDeviceResponse) -> None:
        lease_s = seconds_from_wire(message.lease_s, "lease_s")
        self._take_kind(message)
        # Only now: of what is refused nothing is taken.
        if lease_s > 0.0:
            self._events.lease_renewed(lease_s)
            self.route.heard(lease_s)

    def _take_kind(self, message: twin_pb2.AttachDeviceResponse) -> None:
        kind = message.WhichOneof("kind")
        if kind == "welcome":
            self._welcome(message.welcome)
        elif kind == "plan":
            self._take_plan(message.plan)
        elif kind == "backlog":
            self._events.backlog_updated(backlog_from_wire(message.backlog.backlog, self._now_s()))
            self.backlog_updates += 1
        elif kind == "edges":
            self._events.edges_listed(edges_from_wire(message.edges, self._now_s()))
        elif kind == "poll":
            self._take_poll(message.poll)
        elif kind == "live":
            read_id, live = message.live.read_id, self._events.live_state()
            self._put(lambda now_s: live_to_wire(read_id, live, now_s))
        elif kind == "error":
            _log.warning("twin-refused", limit_s=REPEATED_LINE_S, error=str(error_from_wire(message.error)))

    def _welcome(self, welcome: twin_pb2.Welcome) -> None:
        heartbeat_s = seconds_from_wire(welcome.heartbeat_s, "welcome.heartbeat_s")
        epoch = attachment_from_wire(welcome.attachment_epoch)
        if welcome.needs_manifest:
            self._put(lambda now_s: manifest_to_wire(self._manifest_bytes))
        if self.is_attached:
            return
        self.route.welcomed(epoch)
        self._is_welcome.set()
        self.attached_times += 1
        _log.info("twin-attached", address=self.route.address, twin_version=welcome.version)
        # This twin lists anew what there is; what another one listed may be gone.
        self._events.edges_listed(())
        self._events.attached(heartbeat_s)

    def _take_plan(self, message: twin_pb2.Plan) -> None:
        now_s = self._now_s()
        try:
            plan = plan_from_wire(message)
            if self.route.epochs.is_stale(plan.attachment_epoch):
                raise StaleWriteError(
                    f"plan {plan.plan_id} is of attachment {plan.attachment_epoch}, this device's is "
                    f"{self.route.epochs.current} by now"
                )
            backlog = backlog_from_wire(message.backlog, now_s) if message.HasField("backlog") else None
            self._events.plan_received(plan, backlog)
        except RefusedError:
            self.plans_refused += 1
            raise

    def _take_poll(self, poll: twin_pb2.PollResponse) -> None:
        try:
            decision = Decision(poll.decision)
        except ValueError:
            raise BadMessageError(f"poll.decision: {poll.decision} is unknown to this version") from None
        answer = self._polls.pop((poll.task_id, poll.epoch), None)
        if answer is not None and not answer.done():
            answer.set_result(decision)

    def _poll(self, question: AskTwin, answer: Future[Decision | None]) -> None:
        self._polls[question.task.task_id, question.epoch] = answer
        self._put(lambda now_s: poll_to_wire(question))

    def _refuse(self, error: RefusedError) -> None:
        refusal = twin_pb2.AttachDeviceRequest(error=error_to_wire(error))
        self._put(lambda now_s: refusal)

    def _put(self, outgoing: Report | Outgoing) -> None:
        try:
            self._unsent.put_nowait(outgoing)
        except asyncio.QueueFull:
            _log.warning("twin-does-not-read", limit_s=REPEATED_LINE_S, address=self.route.address)
            self._drop_unsent()
            if isinstance(outgoing, TaskReport):
                self._kept.extend(outgoing.ended)
            self._end_stream()

    def _drop_unsent(self) -> None:
        """Nothing of it will be heard on this stream; ended tasks are kept for the next one, in their order."""
        self._kept.extend(record for _, record in self._unconfirmed)
        self._unconfirmed.clear()
        while not self._unsent.empty():
            outgoing = self._unsent.get_nowait()
            self._unsent.task_done()
            if isinstance(outgoing, TaskReport):
                self._kept.extend(outgoing.ended)
        for answer in self._polls.values():
            if not answer.done():
                answer.set_result(None)
        self._polls.clear()

    def _log_end(self, outcome: object, address: str) -> None:
        if isinstance(outcome, grpc.aio.AioRpcError):
            _log.debug("twin-stream-ended", address=address, status=outcome.code().name)
            if is_refusal(outcome):
                cause = str(error_from_rpc(outcome, address))
                _log.warning("twin-refuses-calls", limit_s=REPEATED_LINE_S, address=address, cause=cause)
        elif isinstance(outcome, asyncio.InvalidStateError):
            _log.debug("twin-stream-ended", address=address)
        elif isinstance(outcome, Exception):
            _log.exception("twin-link-failed", outcome, address=address)
