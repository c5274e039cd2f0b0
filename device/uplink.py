"""The way to the edges: one long-lived stream per edge, first in first out, reconnected by itself (design section 4).

All of it lives in the event loop. What happens is told to the pipeline as events; when to give a task up is the
pipeline's to say.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from device.emulation import EmulatedUplink
from device.task import Offload
from twinsplit.clock import Clock
from twinsplit.errors import BadMessageError
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.back_off import keep_connected
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import digest_to_wire
from twinsplit.transport.status import error_from_rpc, is_refusal
from twinsplit.transport.tail_stream import SERVICE, InferRequest, InferResponse, TraceClock, infer_call
from twinsplit.transport.tls import TlsFiles

_log = EventLog("device.uplink")

DESCRIBE_TIMEOUT_S = 3.0
PINGS = 3
"""Round trips measured at every connection; the shortest counts."""
REPEATED_LINE_S = 10.0
FORGET_AFTER_S = 5.0
"""Between the end of a connection and the collection of what is left of it."""
TailCall = grpc.aio.StreamStreamCall[InferRequest, InferResponse]


class UploadTrace(NamedTuple):
    """What lets the edge hang its spans into a task's trace."""

    traceparent: str
    origin_unix_ns: int
    """Unix time at 0 of the device's monotonic clock."""


class UplinkEvents(Protocol):
    """What the uplink tells."""

    def responded(self, address: str, response: InferResponse) -> None:
        """The edge has finished a tail, or refused it; its backlog may come with either."""

    def connected(self, address: str, round_trip_s: float) -> None:
        """The edge answers."""

    def disconnected(self, address: str) -> None:
        """The connection is gone, and everything under way with it."""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    task_id: int
    offload: Offload
    encoded: EncodedTensor
    trace: UploadTrace | None


class Uplink:
    """Streams to all edges that offloads have gone to."""

    def __init__(
        self,
        model_digest: str,
        events: UplinkEvents,
        clock: Clock,
        signalling: SignallingCount,
        *,
        device_id: str = "",
        tls: TlsFiles | None = None,
        max_message_bytes: int,
        first_cut: int = 0,
        emulation: EmulatedUplink | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            device_id: as which the edges are to know this device; the twin then finds its tails among theirs.
            first_cut: refuse to send a tensor of a cut before it, whatever was decided: the last of three locks on it.
            emulation: in the way of payloads and answers; ``None``: none.
            rng: jitter of the back-off; ``None``: a random one.
        """
        self.model_digest = model_digest
        self.device_id = device_id
        self.events = events
        self.now_s = clock.monotonic_s
        self.clock = clock
        self.signalling = signalling
        self.tls = tls
        self.max_message_bytes = max_message_bytes
        self.emulation = emulation
        self.rng = rng
        self._first_cut = first_cut
        self._edges: dict[str, EdgeStream] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._forgetting: asyncio.TimerHandle | None = None

    def prepare(self, address: str) -> None:
        """Connect to the edge at ``address``, so that the first offload need not."""
        self._edge(address)

    def send(self, task_id: int, offload: Offload, encoded: EncodedTensor, trace: UploadTrace | None = None) -> None:
        """Send a payload to the edge of ``offload``; ``trace``: of a task that is traced."""
        if offload.cut < self._first_cut:
            raise AssertionError("the input was about to leave a device that sends tensors only")
        self._edge(offload.edge_address).send(_Outgoing(task_id, offload, encoded, trace))

    def cancel(self, task_id: int, offload: Offload) -> None:
        """Nobody waits for the answer any more."""
        self._edge(offload.edge_address).cancel(task_id)

    def keep(self, addresses: Set[str]) -> None:
        """Connect to the edges at ``addresses``, and end the streams to all others."""
        for address in sorted(addresses):
            self.prepare(address)
        for gone in self._edges.keys() - addresses:
            closing = asyncio.ensure_future(self._edges.pop(gone).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    @property
    def addresses(self) -> Set[str]:
        """Edges to which there are streams."""
        return self._edges.keys()

    def forget_connections(self) -> None:
        """Free what is left of a connection that has ended, soon and once for all that end until then.

        gRPC's calls are part of reference cycles, and a channel that was closed keeps its connection, and the edge's,
        as long as they live. On a device that makes little garbage they would live for many minutes.
        """
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._forget_connections)

    def _forget_connections(self) -> None:
        self._forgetting = None
        gc.collect()

    async def close(self) -> None:
        """End all streams."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        await asyncio.gather(*self._closing)
        await asyncio.gather(*(edge.close() for edge in self._edges.values()))

    def _edge(self, address: str) -> EdgeStream:
        edge = self._edges.get(address)
        if edge is None:
            edge = self._edges[address] = EdgeStream(address, self)
        return edge


class EdgeStream:
    """The stream to one edge; connects when it is made, and again whenever it has lost the edge, until closed."""

    def __init__(self, address: str, uplink: Uplink) -> None:
        self._address = address
        self._uplink = uplink
        self._events = uplink.events
        self._emulation = uplink.emulation
        self._payloads: asyncio.Queue[_Outgoing] = asyncio.Queue()
        self._unwritten: dict[tuple[int, bool], InferRequest] = {}
        """What waits for an edge that does not read, by task and whether it is a cancellation, oldest first."""
        self._has_unwritten = asyncio.Event()
        self._is_up = False
        self._was_down = False
        self._connections = 0
        self._unpaced: set[int] = set()
        self._task = asyncio.ensure_future(self._run())

    def send(self, outgoing: _Outgoing) -> None:
        """Queue a payload. While the edge is lost there is nothing to queue for: the pipeline has been told so."""
        if not self._is_up and self._was_down:
            return
        if self._emulation is None:
            self._queue(self._request(outgoing))
        else:
            self._unpaced.add(outgoing.task_id)
            self._payloads.put_nowait(outgoing)

    def cancel(self, task_id: int) -> None:
        """Forget a payload that waits, or tell the edge to forget it.

        An edge that reads nothing thus never costs more payloads than there are tasks that wait for it.
        """
        if task_id in self._unpaced:
            self._unpaced.remove(task_id)
        elif self._is_up and self._unwritten.pop((task_id, False), None) is None:
            self._queue(InferRequest(task_id, is_cancel=True))
            # A cancellation carries no tensor and gets no answer.
            self._uplink.signalling.note_sent(
                "cancel", edge_pb2.InferRequest(request_id=task_id, cancel=True).ByteSize()
            )

    async def close(self) -> None:
        """End the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        uplink = self._uplink
        await keep_connected("edge", self._address, self._try, uplink.now_s, _log, uplink.rng)

    async def _try(self) -> bool:
        await self._await_outage_end()
        try:
            return await self._connection()
        except Exception:
            self._lose()
            raise
        finally:
            self._uplink.forget_connections()

    async def _connection(self) -> bool:
        """One connection from its first ping to its end; whether the edge answered on it."""
        uplink = self._uplink
        # A channel of its own for every try: the channel's back-off and ours must not add up.
        async with open_channel(self._address, uplink.tls, max_message_bytes=uplink.max_message_bytes) as channel:
            try:
                round_trip_s = await self._ping(channel)
            except (grpc.aio.AioRpcError, asyncio.TimeoutError, BadMessageError) as error:
                _log.debug("edge-silent", edge=self._address, error=type(error).__name__)
                if isinstance(error, BadMessageError):
                    _log.warning("edge-refused", limit_s=REPEATED_LINE_S, edge=self._address, error=str(error))
                if isinstance(error, grpc.aio.AioRpcError) and is_refusal(error):
                    cause = str(error_from_rpc(error, self._address))
                    _log.warning("edge-refuses-calls", limit_s=REPEATED_LINE_S, edge=self._address, cause=cause)
                self._lose()
                return False
            call = infer_call(channel, uplink.clock, device_id=uplink.device_id)
            self._is_up = True
            self._events.connected(self._address, round_trip_s)
            _log.info("edge-connected", edge=self._address, round_trip_s=round(round_trip_s, 6))
            await _first_end(self._pace(self._emulation), self._write(call), self._read(call), self._await_outage())
            self._lose()
            call.cancel()
            return True

    async def _ping(self, channel: grpc.aio.Channel) -> float:
        described = await self._describe(channel)
        if digest_to_wire(self._uplink.model_digest) not in described.model_digests:
            _log.warning(
                "edge-lacks-model",
                limit_s=REPEATED_LINE_S,
                edge=self._address,
                model=self._uplink.model_digest[:12],
                cure="give the edge the same model folder",
            )
        shortest_s = float("inf")
        for _ in range(PINGS):
            began_s = self._uplink.now_s()
            await self._describe(channel)
            shortest_s = min(shortest_s, self._uplink.now_s() - began_s)
        ways_s = 0.0 if self._emulation is None else self._emulation.way_s() + self._emulation.way_back_s
        return shortest_s + ways_s

    async def _describe(self, channel: grpc.aio.Channel) -> edge_pb2.DescribeResponse:
        # Read here: gRPC would log what it cannot read with a traceback, and say nothing but None.
        describe: grpc.aio.UnaryUnaryMultiCallable[edge_pb2.DescribeRequest, bytes] = channel.unary_unary(
            f"/{SERVICE}/Describe",
            request_serializer=edge_pb2.DescribeRequest.SerializeToString,
            response_deserializer=bytes,
        )
        request = edge_pb2.DescribeRequest()
        response = await describe(request, timeout=DESCRIBE_TIMEOUT_S)
        self._uplink.signalling.note_sent("describe", request.ByteSize())
        try:
            return edge_pb2.DescribeResponse.FromString(response)
        except DecodeError:
            raise BadMessageError("the message is not a DescribeResponse; use edge.proto of v1") from None

    async def _pace(self, emulation: EmulatedUplink | None) -> None:
        """Hold payloads back as the emulated uplink says."""
        now_s, call_later = self._uplink.now_s, asyncio.get_running_loop().call_later
        while True:
            outgoing = await self._payloads.get()
            if emulation is None or outgoing.task_id not in self._unpaced:
                continue
            departure_s = emulation.departure_s(outgoing.encoded.wire_bytes, now_s())
            await _sleep_until(departure_s, now_s)
            arrival_s = emulation.arrival_s(departure_s)
            call_later(max(0.0, arrival_s - now_s()), self._arrive, self._connections, outgoing)

    def _arrive(self, connection: int, outgoing: _Outgoing) -> None:
        if connection == self._connections and outgoing.task_id in self._unpaced:
            self._unpaced.remove(outgoing.task_id)
            self._queue(self._request(outgoing))

    def _queue(self, request: InferRequest) -> None:
        self._unwritten[request.request_id, request.is_cancel] = request
        self._has_unwritten.set()

    def _request(self, outgoing: _Outgoing) -> InferRequest:
        now_s = self._uplink.now_s()
        traceparent, trace_clock = "", None
        if outgoing.trace is not None:
            # An emulated uplink has held the payload back until now: that belongs to its way.
            traceparent, trace_clock = outgoing.trace.traceparent, TraceClock(now_s, outgoing.trace.origin_unix_ns)
        return InferRequest(
            outgoing.task_id,
            self._uplink.model_digest,
            outgoing.offload.cut,
            # 0 would mean no limit.
            max(outgoing.offload.deadline_s - now_s, 1e-6),
            tensor=outgoing.encoded,
            traceparent=traceparent,
            trace_clock=trace_clock,
        )

    async def _write(self, call: TailCall) -> None:
        while True:
            while not self._unwritten:
                self._has_unwritten.clear()
                await self._has_unwritten.wait()
            await call.write(self._unwritten.pop(next(iter(self._unwritten))))

    async def _read(self, call: TailCall) -> None:
        while True:
            response = await call.read()
            if not isinstance(response, InferResponse):
                return
            if self._emulation is None:
                self._take(response)
            else:
                asyncio.get_running_loop().call_later(self._emulation.way_back_s, self._take, response)

    def _take(self, response: InferResponse) -> None:
        if self._is_up:
            self._events.responded(self._address, response)

    def _lose(self) -> None:
        self._is_up = False
        self._was_down = True
        while not self._payloads.empty():
            self._payloads.get_nowait()
        self._unwritten.clear()
        self._unpaced.clear()
        self._connections += 1
        if self._emulation is not None:
            self._emulation.reset(self._uplink.now_s())
        self._events.disconnected(self._address)

    async def _await_outage(self) -> None:
        """Return when an emulated outage begins."""
        now_s = self._uplink.now_s()
        start_s = None if self._emulation is None else self._emulation.next_outage_s(now_s)
        if start_s is None:
            await asyncio.Event().wait()
            return
        await asyncio.sleep(start_s - now_s)
        _log.info("emulated-outage-begins", edge=self._address)

    async def _await_outage_end(self) -> None:
        now_s = self._uplink.now_s()
        end_s = None if self._emulation is None else self._emulation.outage_end_s(now_s)
        if end_s is not None:
            await asyncio.sleep(end_s - now_s)
            _log.info("emulated-outage-ends", edge=self._address)


async def _first_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Run ``parts`` until one of them ends or fails, then end the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            is_end_of_stream = isinstance(outcome, grpc.aio.AioRpcError | asyncio.InvalidStateError)
            if isinstance(outcome, Exception) and not is_end_of_stream:
                _log.exception("uplink-failed", outcome)


async def _sleep_until(instant_s: float, now_s: Callable[[], float]) -> None:
    left_s = instant_s - now_s()
    if left_s > 0.0:
        await asyncio.sleep(left_s)
