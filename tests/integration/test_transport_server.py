"""Real servers and channels on loopback: refusals, health, limits, TLS and binding."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.testbed.process import HOST, free_ports
from tests.faults.link import Switchboard
from tests.integration.stopping import stopped_after
from twinsplit.errors import (
    InsecureBindError,
    ListenError,
    OversizeError,
    PeerError,
    StaleWriteError,
    TlsError,
    TwinsplitError,
    UnknownTwinError,
)
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import await_reachable, open_channel
from twinsplit.transport.server import RunningServer, start_server
from twinsplit.transport.status import INTERNAL_TEXT, error_from_rpc
from twinsplit.transport.tls import TlsFiles


class _Twin(twin_pb2_grpc.TwinServiceServicer):
    """Raises what it is told to, as servicers of the house do."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_aborting = False
        self.waits = asyncio.Event()

    async def GetTwin(self, request: twin_pb2.GetTwinRequest, context: Any) -> twin_pb2.GetTwinResponse:  # noqa: N802 - the name of the RPC
        if self.is_aborting:
            await context.abort(grpc.StatusCode.NOT_FOUND, "by itself")
        if self.error is not None:
            raise self.error
        return twin_pb2.GetTwinResponse(twin=twin_pb2.TwinDocument(device_id=request.device_id))

    async def WatchTwins(  # noqa: N802 - the name of the RPC
        self, request: twin_pb2.WatchTwinsRequest, context: Any
    ) -> AsyncIterator[twin_pb2.WatchTwinsResponse]:
        yield twin_pb2.WatchTwinsResponse(rule="multi-step")
        if self.error is not None:
            raise self.error
        await self.waits.wait()


@pytest.fixture
def twin() -> _Twin:
    return _Twin()


@pytest.fixture
async def running(twin: _Twin) -> AsyncIterator[RunningServer]:
    server = await start_server(lambda s: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, s), "127.0.0.1:0")
    yield server
    await server.stop()


@pytest.fixture
async def stub(running: RunningServer) -> AsyncIterator[Any]:
    async with open_channel(running.address) as channel:
        yield twin_pb2_grpc.TwinServiceStub(channel)


async def _refusal(call: Any) -> TwinsplitError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, "twin:1")


async def test_what_a_servicer_raises_arrives_by_name(twin: _Twin, stub: Any) -> None:
    for error in (
        UnknownTwinError("no twin d9; see twin show"),
        StaleWriteError("version 3 is older than 4; read it again"),
    ):
        twin.error = error
        arrived = await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest(device_id="d9")))
        assert type(arrived) is type(error)
        assert str(arrived) == str(error)


async def test_a_defect_is_logged_here_and_hidden_there(
    twin: _Twin, stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    twin.error = ZeroDivisionError("password=hunter2")
    with caplog.at_level(logging.ERROR, "twinsplit"):
        arrived = await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest()))
    assert str(arrived) == INTERNAL_TEXT
    (record,) = caplog.records
    assert record.getMessage() == "call-failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is twin.error


async def test_after_a_refusal_the_connection_goes_on(twin: _Twin, stub: Any) -> None:
    twin.error = UnknownTwinError("x; y")
    await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest()))
    twin.error = None
    answer = await stub.GetTwin(twin_pb2.GetTwinRequest(device_id="d1"))
    assert answer.twin.device_id == "d1"


async def test_a_stream_that_fails_ends_by_name(twin: _Twin, stub: Any) -> None:
    twin.error = UnknownTwinError("gone; attach again")
    call = stub.WatchTwins(twin_pb2.WatchTwinsRequest())
    assert (await call.read()).rule == "multi-step"
    assert type(await _refusal(call.read())) is UnknownTwinError


async def test_calls_are_counted_with_their_status(twin: _Twin, running: RunningServer, stub: Any) -> None:
    await stub.GetTwin(twin_pb2.GetTwinRequest())
    twin.error = UnknownTwinError("x; y")
    await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest()))
    twin.error, twin.is_aborting = None, True
    await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest()))
    twin.is_aborting = False
    watch = stub.WatchTwins(twin_pb2.WatchTwinsRequest())
    await watch.read()
    assert running.calls.started() == {"GetTwin": 3, "WatchTwins": 1}
    watch.cancel()
    while len(running.calls.handled()) < 3:  # noqa: ASYNC110 - the server's end of a cancelled call has no event
        await asyncio.sleep(0.001)
    assert running.calls.handled() == {
        ("GetTwin", "OK"): 1,
        ("GetTwin", "NOT_FOUND"): 2,
        ("WatchTwins", "CANCELLED"): 1,
    }


async def test_a_method_that_nobody_serves_is_an_unreachable_peer(stub: Any) -> None:
    arrived = await _refusal(stub.ListTwins(twin_pb2.ListTwinsRequest()))
    assert "UNIMPLEMENTED" in str(arrived) or str(arrived) == INTERNAL_TEXT


async def test_a_peer_that_takes_its_time_to_answer_is_connected_to(running: RunningServer) -> None:
    with closing(Switchboard()) as board:
        link = board.link("twin", *free_ports(1), int(running.address.rpartition(":")[2]))
        link.hold()
        asyncio.get_running_loop().call_later(0.5, link.release)
        async with open_channel(f"{HOST}:{link.port}") as channel:
            assert await twin_pb2_grpc.TwinServiceStub(channel).GetTwin(twin_pb2.GetTwinRequest())
        assert link.fired["connections held"] == 1


async def test_health_follows_the_service(running: RunningServer) -> None:
    states = health_pb2.HealthCheckResponse
    async with open_channel(running.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for is_serving, state in ((True, states.SERVING), (False, states.NOT_SERVING), (True, states.SERVING)):
            await running.set_serving(is_serving)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == state


async def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on(running: RunningServer) -> None:
    async with open_channel(running.address, max_message_bytes=1000) as channel:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        arrived = await _refusal(stub.GetTwin(twin_pb2.GetTwinRequest(device_id="d" * 2000)))
        assert isinstance(arrived, (PeerError, OversizeError))
        assert "RESOURCE_EXHAUSTED" in str(arrived)
        assert (await stub.GetTwin(twin_pb2.GetTwinRequest(device_id="d1"))).twin.device_id == "d1"


async def test_messages_above_grpcs_own_limit_pass(running: RunningServer, stub: Any) -> None:
    name = "d" * (5 << 20)
    assert (await stub.GetTwin(twin_pb2.GetTwinRequest(device_id=name))).twin.device_id == name


async def test_a_port_in_use_is_an_error_and_the_first_server_goes_on(running: RunningServer, stub: Any) -> None:
    with pytest.raises(ListenError, match="in use"):
        await start_server(lambda _: None, running.address)
    assert await stub.GetTwin(twin_pb2.GetTwinRequest())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_loopback_without_tls_needs_the_word(listen: str) -> None:
    with pytest.raises(InsecureBindError, match="--insecure"):
        await start_server(lambda _: None, listen)


async def test_the_word_is_enough() -> None:
    async with stopped_after(await start_server(lambda _: None, "0.0.0.0:0", is_insecure=True)) as server:
        assert server.address.startswith("0.0.0.0:")
        assert not server.address.endswith(":0")


async def test_nobody_there_is_named_in_time() -> None:
    server = await start_server(lambda _: None, "127.0.0.1:0")
    await server.stop()
    async with open_channel(server.address) as channel:
        with pytest.raises(PeerError, match=f"{server.address} cannot be reached within 0.1 s"):
            await await_reachable(channel, server.address, timeout_s=0.1)


async def test_a_channel_finds_a_server_that_comes_back(twin: _Twin, running: RunningServer) -> None:
    async with open_channel(running.address) as channel:
        await await_reachable(channel, running.address, timeout_s=20.0)
        await running.stop()
        again = await start_server(lambda s: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, s), running.address)
        async with stopped_after(again):
            stub = twin_pb2_grpc.TwinServiceStub(channel)
            answer = await stub.GetTwin(twin_pb2.GetTwinRequest(device_id="d1"), wait_for_ready=True, timeout=20.0)
            assert answer.twin.device_id == "d1"


def _tls(folder: Path, authority: trustme.CA, name: str) -> TlsFiles:
    pair = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / f"{name}-ca.pem"))
    pair.cert_chain_pems[0].write_to_path(str(folder / f"{name}-cert.pem"))
    pair.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))
    return TlsFiles(*(folder / f"{name}-{part}.pem" for part in ("ca", "cert", "key")))


async def _asked(address: str, tls: TlsFiles | None) -> bool:
    async with open_channel(address, tls) as channel:
        try:
            await twin_pb2_grpc.TwinServiceStub(channel).GetTwin(twin_pb2.GetTwinRequest(), timeout=20.0)
        except grpc.aio.AioRpcError as failure:
            return type(error_from_rpc(failure, address)) is not PeerError
    return True


async def test_tls_lets_in_those_who_know_the_authority(twin: _Twin, tmp_path: Path) -> None:
    ours = _tls(tmp_path, trustme.CA(), "ours")
    others = _tls(tmp_path, trustme.CA(), "others")
    started = await start_server(
        lambda s: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, s),
        "127.0.0.1:0",
        TlsFiles(None, ours.cert, ours.key),
    )
    async with stopped_after(started) as server:
        assert await _asked(server.address, TlsFiles(ours.ca))
        assert not await _asked(server.address, TlsFiles(others.ca))
        assert not await _asked(server.address, None)


async def test_mutual_tls_lets_in_only_those_with_a_certificate_of_the_authority(twin: _Twin, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = _tls(tmp_path, authority, "ours")
    device = _tls(tmp_path, authority, "device")
    stranger = _tls(tmp_path, trustme.CA(), "stranger")
    server = await start_server(lambda s: twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, s), "0.0.0.0:0", ours)
    async with stopped_after(server):
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert await _asked(address, device)
        assert not await _asked(address, TlsFiles(ours.ca))
        assert not await _asked(address, TlsFiles(ours.ca, stranger.cert, stranger.key))


async def test_a_server_with_an_authority_alone_is_half_configured(tmp_path: Path) -> None:
    ours = _tls(tmp_path, trustme.CA(), "ours")
    with pytest.raises(TlsError, match="--tls-cert"):
        await start_server(lambda _: None, "127.0.0.1:0", TlsFiles(ours.ca))
