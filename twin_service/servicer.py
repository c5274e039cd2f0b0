"""``TwinService``: convert, call, convert. A bad message is refused by name on its stream, and the stream goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from twin_service import messages, wire, wire_views
from twin_service.documents import Desired
from twin_service.exchange import DeviceSession, Exchange
from twin_service.workload.records import MAX_REPLAYED
from twinsplit.access.door import Call, pause, this_call
from twinsplit.errors import RefusedError
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.clock_offset import ClockOffset
from twinsplit.transport.convert import attachment_from_wire

DEFAULT_LIVE_TIMEOUT_S = 1.0
DEFAULT_WATCH_INTERVAL_S = 0.5
_SHORTEST_WATCH_INTERVAL_S = 0.05

DeviceContext = grpc.aio.ServicerContext[twin_pb2.AttachDeviceRequest, twin_pb2.AttachDeviceResponse]
EdgeContext = grpc.aio.ServicerContext[twin_pb2.AttachEdgeRequest, twin_pb2.AttachEdgeResponse]


class TwinServicer(twin_pb2_grpc.TwinServiceServicer):
    """The calls of the twin service."""

    def __init__(self, exchange: Exchange, signalling: SignallingCount, *, lease_s: float, heartbeat_s: float) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self._signalling = signalling
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s

    async def AttachDevice(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[twin_pb2.AttachDeviceRequest], context: DeviceContext
    ) -> None:
        """One device, for as long as its stream lives."""
        reader = asyncio.current_task()
        assert reader is not None
        session = DeviceSession(end=reader.cancel)
        writer = asyncio.ensure_future(self._write(session, context))
        # A device that nothing can be written to need not be read from.
        writer.add_done_callback(lambda ended: ended.cancelled() or reader.cancel())
        call = this_call()
        try:
            async for request in requests:
                if (excess := call.excess()) is not None:
                    session.put(self._exchange.refused(excess, session.device_id or "device"))
                    await pause()
                    continue
                heard_at_s = self._exchange.now_s()
                if not session.device_id:
                    await self._arrive(request, call)
                self._take(session, request, call, heard_at_s)
        except asyncio.CancelledError:
            if not session.is_ended:
                raise
            # Of a handler that is merely cancelled gRPC tells the device nothing.
            await context.abort(grpc.StatusCode.ABORTED, "this stream is ended; attach again")
        finally:
            self._exchange.device_gone(session)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def AttachEdge(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[twin_pb2.AttachEdgeRequest], context: EdgeContext
    ) -> None:
        """One edge, for as long as its stream lives. It is answered when it says hello, is refused, or when what its
        reports are needed for has changed."""
        call, offset = this_call(), ClockOffset()
        edge_id, stream = "", 0
        try:
            async for request in requests:
                self._exchange.heard += 1
                sent_at_s = offset.received(wire.readings_from_wire(request.clock), self._exchange.now_s())
                answer: messages.EdgeMessage | None = None
                excess = call.excess()
                try:
                    if excess is not None:
                        raise excess
                    if edge_id:
                        report = wire.edge_report_from_wire(request, sent_at_s)
                        answer = self._exchange.edge_said(edge_id, stream, report)
                    else:
                        hello = wire.edge_hello_from_wire(request.hello, sent_at_s)
                        call.caller.must_be(hello.edge_id)
                        edge_id, stream = hello.edge_id, self._exchange.edge_attached(hello)
                        answer = messages.Welcome()
                except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this message only
                    answer = self._exchange.refused(error, edge_id or "edge")
                if answer is not None:
                    readings = offset.readings(self._exchange.now_s())
                    response = wire.edge_response(answer, readings, heartbeat_s=self._heartbeat_s)
                    self._note_sent(response)
                    await context.write(response)
                if excess is not None:
                    await pause()
        finally:
            if edge_id:
                self._exchange.edge_gone(edge_id, stream)

    async def ReleaseDevice(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.ReleaseDeviceRequest, _context: Any
    ) -> twin_pb2.ReleaseDeviceResponse:
        """A device has attached to another replica."""
        this_call().caller.must_be(request.device_id)
        epoch = attachment_from_wire(request.attachment_epoch)
        self._exchange.heard += 1
        return twin_pb2.ReleaseDeviceResponse(was_attached=self._exchange.device_released(request.device_id, epoch))

    async def GetTwin(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.GetTwinRequest, _context: Any
    ) -> twin_pb2.GetTwinResponse:
        """One twin, live if it was asked for and the device answers in time."""
        this_call().caller.must_be(request.device_id)
        is_live = False
        if request.HasField("live_if_older_than_s"):
            timeout_s = request.timeout_s if request.timeout_s > 0.0 else DEFAULT_LIVE_TIMEOUT_S
            is_live = await self._exchange.refresh(
                request.device_id, older_than_s=request.live_if_older_than_s, timeout_s=timeout_s
            )
        now_s = self._exchange.now_s()
        view = self._core.device_view(request.device_id, now_s)
        return twin_pb2.GetTwinResponse(twin=wire_views.device_to_wire(view, now_s), is_live=is_live)

    async def DescribeService(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.DescribeServiceRequest, _context: Any
    ) -> twin_pb2.DescribeServiceResponse:
        """What this service is, and what it knows of a device and a model."""
        if request.device_id:
            this_call().caller.must_be(request.device_id)
        return wire_views.service_to_wire(self._exchange.described(request.device_id), request.model_digest)

    async def ListTwins(  # noqa: N802 - gRPC's name
        self, _request: twin_pb2.ListTwinsRequest, _context: Any
    ) -> twin_pb2.ListTwinsResponse:
        """All twins."""
        twins, edges, rule = self._listing()
        return twin_pb2.ListTwinsResponse(twins=twins, edges=edges, rule=rule)

    async def WatchTwins(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.WatchTwinsRequest, _context: Any
    ) -> AsyncIterator[twin_pb2.WatchTwinsResponse]:
        """All twins, again whenever something was said since."""
        interval_s = request.interval_s if request.interval_s > 0.0 else DEFAULT_WATCH_INTERVAL_S
        seen = -1
        while True:
            if self._core.changes != seen:
                seen = self._core.changes
                twins, edges, rule = self._listing()
                yield twin_pb2.WatchTwinsResponse(twins=twins, edges=edges, rule=rule)
            await asyncio.sleep(max(interval_s, _SHORTEST_WATCH_INTERVAL_S))

    async def SetDesired(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.SetDesiredRequest, _context: Any
    ) -> twin_pb2.SetDesiredResponse:
        """Write what is desired of a device."""
        desired = Desired(
            request.alpha_s if request.HasField("alpha_s") else None,
            request.beta_s_per_joule if request.HasField("beta_s_per_joule") else None,
            request.deadline_s if request.HasField("deadline_s") else None,
        )
        version = self._core.desire(request.device_id, desired, request.version)
        self._exchange.desired()
        return twin_pb2.SetDesiredResponse(version=version)

    async def ExportTraces(  # noqa: N802 - gRPC's name
        self, _request: twin_pb2.ExportTracesRequest, _context: Any
    ) -> AsyncIterator[twin_pb2.ExportTracesResponse]:
        """All documents and recorded tasks."""
        async for lines in self._exchange.exported():
            yield twin_pb2.ExportTracesResponse(lines_zstd=lines)

    async def ListWeights(  # noqa: N802 - gRPC's name
        self, _request: twin_pb2.ListWeightsRequest, _context: Any
    ) -> twin_pb2.ListWeightsResponse:
        """All versions of learned weights."""
        return twin_pb2.ListWeightsResponse(versions=map(wire_views.weights_to_wire, self._core.kept.weights()))

    async def ExportReplay(  # noqa: N802 - gRPC's name
        self, request: twin_pb2.ExportReplayRequest, _context: Any
    ) -> AsyncIterator[twin_pb2.ExportReplayResponse]:
        """The newest recorded tasks."""
        async for batch in self._exchange.replay_batches(request.model, request.limit or MAX_REPLAYED):
            yield wire_views.replay_to_wire(batch)

    async def _arrive(self, request: twin_pb2.AttachDeviceRequest, call: Call) -> None:
        """A device that says hello may have been elsewhere; what is wrong with the hello is told when it is taken."""
        try:
            hello = wire.device_hello_from_wire(request.hello)
            call.caller.must_be(hello.device_id)
        except RefusedError:
            return
        await self._exchange.arriving(hello)

    def _take(
        self, session: DeviceSession, request: twin_pb2.AttachDeviceRequest, call: Call, heard_at_s: float
    ) -> None:
        """What a device says; it never raises for that."""
        self._exchange.heard += 1
        sent_at_s = session.offset.received(wire.readings_from_wire(request.clock), heard_at_s)
        kind = request.WhichOneof("kind")
        try:
            if kind == "hello":
                hello = wire.device_hello_from_wire(request.hello)
                call.caller.must_be(hello.device_id)
                self._exchange.device_attached(session, hello)
            else:
                self._exchange.device_said(session, wire.device_event_from_wire(request, sent_at_s))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this message only
            session.put(self._exchange.refused(error, session.device_id or "device"))
        if session.device_id and kind:
            self._core.archive.note_message(session.device_id, kind)

    async def _write(self, session: DeviceSession, context: DeviceContext) -> None:
        """Write what there is for a device, until cancelled or the stream breaks."""
        while True:
            message = await session.unsent.get()
            response = wire.device_response(
                message,
                session.offset.readings(self._exchange.now_s()),
                lease_s=self._lease_s,
                heartbeat_s=self._heartbeat_s,
            )
            kind = self._note_sent(response)
            if session.device_id:
                self._core.archive.note_message(session.device_id, kind)
            await context.write(response)

    def _note_sent(self, response: twin_pb2.AttachDeviceResponse | twin_pb2.AttachEdgeResponse) -> str:
        kind = response.WhichOneof("kind") or "nothing"
        self._signalling.note_sent(kind, response.ByteSize())
        return kind

    def _listing(self) -> tuple[list[twin_pb2.TwinDocument], list[twin_pb2.EdgeDocument], str]:
        now_s = self._exchange.now_s()
        listing = self._core.listing(now_s)
        twins = [wire_views.device_to_wire(view, now_s, is_listed=True) for view in listing.devices]
        return twins, [wire_views.edge_to_wire(view) for view in listing.edges], listing.rule


def register_twin_service(servicer: TwinServicer, server: grpc.aio.Server) -> None:
    """Serve ``servicer`` at ``server``."""
    twin_pb2_grpc.add_TwinServiceServicer_to_server(servicer, server)
