"""Reading twins from a running twin service, and writing what is desired of one, for commands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from twin_service.documents import Desired
from twin_service.memory import WeightsRow
from twin_service.views import DeviceView, Listing
from twin_service.wire_views import device_from_wire, listing_from_wire, replay_from_wire, weights_from_wire
from twin_service.workload.records import ReplayBatch
from twin_service.workload.traces import unpacked
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import error_from_rpc
from twinsplit.transport.tls import TlsFiles

_TIMEOUT_S = 10.0


class TwinReader:
    """The reading calls of one twin service; failures become the errors of :mod:`twinsplit.errors`."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._stub = twin_pb2_grpc.TwinServiceStub(channel)
        self._address = address

    async def device(self, device_id: str, *, live_if_older_than_s: float | None = None) -> tuple[DeviceView, bool]:
        """The twin of a device, and whether the device itself was asked for it.

        Raises:
            UnknownTwinError: there is none of that name.
            PeerError: the twin service does not answer.
        """
        request = twin_pb2.GetTwinRequest(device_id=device_id, live_if_older_than_s=live_if_older_than_s)
        try:
            response = await self._stub.GetTwin(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None
        return device_from_wire(response.twin, time.monotonic()), response.is_live

    async def desire(self, device_id: str, desired: Desired) -> None:
        """Ask something of a device; what is ``None`` stays as it is.

        Raises:
            UnknownTwinError: there is no twin of that name.
            BadMessageError: a weight that cannot be.
            StaleWriteError: somebody else has written meanwhile.
            PeerError: the twin service does not answer.
        """
        view, _ = await self.device(device_id)
        request = twin_pb2.SetDesiredRequest(device_id=device_id, version=view.version, **desired.by_field())
        try:
            await self._stub.SetDesired(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None

    async def listing(self) -> Listing:
        """All twins.

        Raises:
            PeerError: the twin service does not answer.
        """
        try:
            response = await self._stub.ListTwins(twin_pb2.ListTwinsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None
        return listing_from_wire(response.twins, response.edges, response.rule, time.monotonic())

    async def watch(self, interval_s: float) -> AsyncIterator[Listing]:
        """All twins, again and again as they change.

        Raises:
            PeerError: the twin service does not answer (any more).
        """
        try:
            async for response in self._stub.WatchTwins(twin_pb2.WatchTwinsRequest(interval_s=interval_s)):
                yield listing_from_wire(response.twins, response.edges, response.rule, time.monotonic())
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None

    async def traces(self) -> AsyncIterator[str]:
        """All documents and recorded tasks as batches of lines (docs/traces.md).

        Raises:
            PeerError: the twin service does not answer (any more).
        """
        try:
            async for response in self._stub.ExportTraces(twin_pb2.ExportTracesRequest()):
                yield unpacked(response.lines_zstd)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None

    async def replay(self, model: str, limit: int) -> AsyncIterator[ReplayBatch]:
        """The newest ``limit`` recorded tasks of every model whose digest begins with ``model``.

        Raises:
            PeerError: the twin service does not answer (any more).
        """
        request = twin_pb2.ExportReplayRequest(model=model, limit=limit)
        try:
            async for response in self._stub.ExportReplay(request):
                yield replay_from_wire(response)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None

    async def weights(self) -> list[WeightsRow]:
        """All versions of learned weights, without the weights themselves.

        Raises:
            PeerError: the twin service does not answer.
        """
        try:
            response = await self._stub.ListWeights(twin_pb2.ListWeightsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._address) from None
        return [weights_from_wire(version) for version in response.versions]


@asynccontextmanager
async def reading(address: str, tls: TlsFiles) -> AsyncIterator[TwinReader]:
    """A reader of the twin service at ``address``.

    Raises:
        SettingsError: the address is not HOST:PORT.
        TlsError: the TLS files cannot be used.
    """
    # Its calls fail with the first try to connect that fails.
    async with open_channel(address, tls, connect_s=_TIMEOUT_S) as channel:
        yield TwinReader(channel, address)
