"""``EdgeService``: one stream per device, one answer per request in the order in which tails end.

A refusal concerns one request: it is answered by its named error and the stream and every other task go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpc.aio import EOF, ServicerContext  # type: ignore[attr-defined] # EOF is missing from the stubs

from edge.arrival_log import Arrival, ArrivalLogs
from edge.engine.interface import TailEngine
from edge.lateness import Lateness
from edge.models import HeldModel, held_model
from edge.tail_queue import Tail, TailEnd
from edge.tail_work import EdgeTail, TailResult, TailWork
from twinsplit import __version__
from twinsplit.access.door import pause, this_call
from twinsplit.certificates.subject import Role
from twinsplit.clock import Clock
from twinsplit.errors import BadMessageError, ErrorCode, RefusedError, TwinsplitError
from twinsplit.model.payload import check_payload
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.convert import backlog_to_wire, digest_to_wire
from twinsplit.transport.status import code_of
from twinsplit.transport.tail_stream import DEVICE_METADATA, InferRequest, InferResponse

if TYPE_CHECKING:
    from edge.tail_trace import DeviceTime, TailTrace
    from edge.tail_tracing import TailTracing

_log = EventLog("edge.servicer")
NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")

REFUSAL_LOG_S = 10.0
_OF_LOAD = frozenset({ErrorCode.EDGE_FULL, ErrorCode.DEADLINE, ErrorCode.STOPPING})
"""Refusals that a busy edge makes all the time."""
ALL_DEVICES = ("*",)
MAX_UNSENT = 64
"""Answers that may wait for a device that does not read; beyond them nothing more is read from it."""


@dataclass(frozen=True, slots=True)
class EdgeIdentity:
    """What this edge calls itself."""

    edge_id: str
    provider: str
    """ONNX Runtime's name of the execution provider in use."""


class EdgeServicer:
    """The two calls of ``EdgeService``.

    Args:
        executor: Runs the tails.
        models: By digest.
        identity: What Describe says.
        clock: The executor's clock.
        note_event: Called in the event loop after everything that may have moved the backlog.
        max_message_bytes: Limit of the server, for whoever asks; 0: not told.
        allow_devices: Patterns of the names in certificates of devices whose tails are finished.
        tracing: ``None``: nothing is traced.
    """

    def __init__(
        self,
        executor: TailEngine,
        models: Mapping[str, HeldModel],
        identity: EdgeIdentity,
        clock: Clock,
        note_event: Callable[[], None] = lambda: None,
        *,
        max_message_bytes: int = 0,
        allow_devices: tuple[str, ...] = ALL_DEVICES,
        tracing: TailTracing | None = None,
    ) -> None:
        self.executor = executor
        self.models = models
        self.now_s = clock.monotonic_s
        self._unix_ns = clock.unix_ns
        self.note_event = note_event
        self.refusals: Counter[ErrorCode] = Counter()
        """Requests refused, at admission and later, by name."""
        self.refused_tails = 0
        """Requests refused at admission."""
        self.observe: Callable[[TailResult], None] = lambda _: None
        """Told every finished tail, in the event loop (metrics)."""
        self.wire_bytes = 0
        """Payload bytes of admitted tails."""
        self.raw_bytes = 0
        """The same tensors in their own elements."""
        self.arrivals = ArrivalLogs()
        """Admitted tails that the twin has not been told of."""
        self.tracing = tracing
        self._hand_over = Lateness()
        self._max_message_bytes = max_message_bytes
        self._allow_devices = allow_devices
        self._identity = identity
        self._streams: set[TailStream] = set()

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider in use, or ``oip``."""
        return self._identity.provider

    @property
    def open_streams(self) -> int:
        """Devices attached now."""
        return len(self._streams)

    async def infer(
        self, _requests: AsyncIterator[InferRequest], context: ServicerContext[InferRequest, InferResponse]
    ) -> None:
        """Serve one device until it closes its stream; what it still waits for when it vanishes is cancelled.

        Raises:
            NotAllowedError: by its certificate it is another device, or none that is served here.
        """
        call = this_call()
        call.caller.must_match(self._allow_devices)
        device_id = _device_of(context)
        if device_id:
            call.caller.must_be(device_id)
        stream = TailStream(self, asyncio.get_running_loop(), device_id)
        writer = asyncio.ensure_future(stream.write_answers(context))
        writer.add_done_callback(_cancelling(asyncio.current_task()))
        self._streams.add(stream)
        try:
            while (request := await context.read()) is not EOF:
                excess = call.excess()
                if excess is None:
                    stream.take(request)
                else:
                    stream.refuse(request, excess)
                    await pause()
                await stream.write_unsent(context)
                if stream.is_congested:
                    await stream.wait_for_room()
            await stream.wait_for_answers()
        finally:
            self._streams.discard(stream)
            self.executor.cancel_owner(stream)
            self.note_event()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def tail_of(
        self,
        owner: Hashable,
        digest: str,
        cut: int,
        tensor: EncodedTensor,
        deadline_at_s: float | None,
        deliver: Callable[[EdgeTail, TailResult], None],
        arrived_at_s: float,
    ) -> EdgeTail:
        """A tail that may enter the queue.

        Raises:
            WrongDigestError: this edge does not hold the model.
            BadMessageError: no tail starts at that cut.
            TensorError, OversizeError: the payload cannot be the tensor of that cut.
        """
        model = held_model(self.models, digest, cut)
        check_payload(model.manifest, cut, tensor.header, len(tensor.data))
        work = TailWork(tensor.header, tensor.data, deliver)
        if deadline_at_s is not None:
            # An answer waits for the event loop, and so has the request before it was read.
            deadline_at_s -= 2.0 * self._hand_over.allowance_s(arrived_at_s)
        return Tail(digest, cut, owner, work, arrived_at_s, deadline_at_s)

    def enter(self, tail: EdgeTail, device_id: str = "", task_id: int = 0) -> None:
        """Put ``tail`` into the queue and into the books, as a task of ``device_id`` where one is named.

        Raises:
            StoppingError, EdgeFullError, DeadlineError: see :meth:`TailEngine.submit`.
        """
        self.executor.submit(tail)
        own = (device_id, task_id) if device_id else ("", 0)
        self.arrivals.add(Arrival(tail.arrived_at_s, tail.predicted_s, *own))
        self.wire_bytes += len(tail.work.data)
        self.raw_bytes += tail.work.header.raw_bytes

    def note_hand_over(self, result: TailResult) -> None:
        """The event loop has taken a tail's result over."""
        now_s = self.now_s()
        self._hand_over.note(now_s - result.backlog.at_s, now_s)

    def note_refusal(self, error: TwinsplitError) -> None:
        """A request is answered by ``error``."""
        code = code_of(error)
        self.refusals[code] += 1
        write = _log.debug if code in _OF_LOAD else _log.warning
        write("tail-refused", limit_s=REFUSAL_LOG_S, limit_key=code.value, code=code.value, text=str(error))

    async def wait_for_answers(self) -> None:
        """Return when every open stream has written all its answers."""
        await asyncio.gather(*(stream.wait_for_answers() for stream in list(self._streams)))

    async def describe(self, _request: edge_pb2.DescribeRequest, _context: object) -> edge_pb2.DescribeResponse:
        """Models and backlog now.

        Raises:
            NotAllowedError: a device that is not served here: it need not count on this edge.
        """
        caller = this_call().caller
        if caller.role is Role.DEVICE:
            caller.must_match(self._allow_devices)
        return edge_pb2.DescribeResponse(
            edge_id=self._identity.edge_id,
            model_digests=[digest_to_wire(digest) for digest in self.models],
            backlog=backlog_to_wire(self.executor.backlog_state(), self.now_s()),
            provider=self._identity.provider,
            version=__version__,
            unix_ns=self._unix_ns(),
            max_message_bytes=self._max_message_bytes,
        )


class TailStream:
    """One device's stream: what it waits for, and the answers not yet written. Lives in the event loop."""

    def __init__(self, servicer: EdgeServicer, loop: asyncio.AbstractEventLoop, device_id: str = "") -> None:
        self._servicer = servicer
        self._device_id = device_id
        self._device_time = None if servicer.tracing is None else servicer.tracing.device_time()
        self._loop = loop
        self._in_flight: dict[int, EdgeTail] = {}
        self._unsent: deque[InferResponse] = deque()
        self._is_writing = False
        self._thread_id = threading.get_ident()
        self._has_unsent = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_answered = asyncio.Event()

    @property
    def is_congested(self) -> bool:
        """Whether the device leaves too many answers unread."""
        return len(self._unsent) >= MAX_UNSENT

    def take(self, request: InferRequest) -> None:
        """Admit, refuse or cancel; never raises for what a device sent."""
        trace = None if self._device_time is None else self._trace(request, self._device_time)
        try:
            if request.is_cancel:
                self._cancel(request.request_id)
            else:
                self._admit(request, trace)
        except RefusedError as error:
            if trace is not None and self._servicer.tracing is not None:
                self._servicer.tracing.refused(trace, error)
            self.refuse(request, error)
        self._servicer.note_event()

    def refuse(self, request: InferRequest, error: RefusedError) -> None:
        """Answer a request by ``error``."""
        self._servicer.refused_tails += 1
        backlog = self._servicer.executor.backlog_state()
        self._answer(InferResponse(request.request_id, error=error, backlog=backlog))

    async def write_answers(self, context: ServicerContext[Any, InferResponse]) -> None:
        """Write answers as they come, until cancelled."""
        while True:
            self._has_unsent.clear()
            await self.write_unsent(context)
            await self._has_unsent.wait()

    async def write_unsent(self, context: ServicerContext[Any, InferResponse]) -> None:
        """Write what is there; nothing to do while another call of this writes already."""
        if self._is_writing or not self._unsent:
            return
        self._is_writing = True
        try:
            while self._unsent:
                await context.write(self._unsent[0])
                self._unsent.popleft()
        finally:
            self._is_writing = False
        self._has_room.set()
        self._note_answered()

    async def wait_for_room(self) -> None:
        """Return when the device has read on."""
        self._has_room.clear()
        await self._has_room.wait()

    async def wait_for_answers(self) -> None:
        """Return when everything that was asked is answered and written."""
        while self._in_flight or self._unsent:
            self._is_answered.clear()
            await self._is_answered.wait()

    def _trace(self, request: InferRequest, device_time: DeviceTime) -> TailTrace | None:
        """The trace of a tail, if its device traces it."""
        tracing = self._servicer.tracing
        if tracing is None or not request.traceparent:
            return None
        return tracing.begin(request, device_time, self._servicer.now_s(), self._device_id)

    def _admit(self, request: InferRequest, trace: TailTrace | None) -> None:
        arrived_at_s = self._servicer.now_s()
        if request.problem is not None:
            raise request.problem
        tensor = request.tensor
        if tensor is None:
            raise BadMessageError("header: is missing")
        if request.request_id in self._in_flight:
            raise BadMessageError(f"request_id: {request.request_id} is under way already; count up from 1")
        request_id = request.request_id

        def deliver(tail: EdgeTail, result: TailResult) -> None:
            if threading.get_ident() == self._thread_id:
                self._finish(request_id, tail, result, trace)
            else:
                # A loop that has closed takes nothing more, and nobody is left to answer.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._finish, request_id, tail, result, trace)

        deadline_at_s = None if request.budget_s is None else arrived_at_s + request.budget_s
        tail = self._servicer.tail_of(
            self, request.model_digest, request.cut, tensor, deadline_at_s, deliver, arrived_at_s
        )
        self._in_flight[request_id] = tail
        try:
            self._servicer.enter(tail, self._device_id, request_id)
        except RefusedError:
            del self._in_flight[request_id]
            raise

    def _cancel(self, request_id: int) -> None:
        tail = self._in_flight.pop(request_id, None)
        if tail is not None:
            self._servicer.executor.cancel(tail)
            self._note_answered()

    def _finish(self, request_id: int, tail: EdgeTail, result: TailResult, trace: TailTrace | None) -> None:
        self._servicer.note_hand_over(result)
        if self._in_flight.get(request_id) is tail:
            del self._in_flight[request_id]
            if result.end is not TailEnd.CANCELLED:
                self._answer(
                    InferResponse(
                        request_id=request_id,
                        error=result.error,
                        queue_wait_s=result.queue_wait_s,
                        service_s=result.service_s,
                        backlog=result.backlog,
                        tensor=result.output,
                        traced_arrival_s=0.0 if trace is None else trace.arrival_s,
                    )
                )
        self._note_answered()
        # After the writer, which has just been woken: the device waits for the answer, nobody for the books.
        self._loop.call_soon(self._note_end, result, trace)

    def _note_end(self, result: TailResult, trace: TailTrace | None) -> None:
        self._servicer.observe(result)
        self._servicer.note_event()
        if trace is not None and self._servicer.tracing is not None:
            self._servicer.tracing.ended(trace, result)

    def _answer(self, response: InferResponse) -> None:
        if response.error is not None:
            self._servicer.note_refusal(response.error)
        self._unsent.append(response)
        self._has_unsent.set()

    def _note_answered(self) -> None:
        if not (self._in_flight or self._unsent):
            self._is_answered.set()


def _device_of(context: ServicerContext[Any, Any]) -> str:
    """As which a device names itself to the twin; empty: it does not say, or what it says is no name."""
    for key, value in context.invocation_metadata() or ():
        if key == DEVICE_METADATA and isinstance(value, str) and NAME.fullmatch(value):
            return value
    return ""


def _cancelling(reader: asyncio.Task[Any] | None) -> Callable[[asyncio.Future[None]], None]:
    """A device whose answers cannot be written any more need not be read from."""

    def cancel(writer: asyncio.Future[None]) -> None:
        if reader is not None and not writer.cancelled() and writer.exception() is not None:
            reader.cancel()

    return cancel
