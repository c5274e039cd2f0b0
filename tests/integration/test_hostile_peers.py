"""Peers that take without giving: connections that say nothing or half of something, bytes that grow, floods."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge.models import load_models
from edge.service import start_edge
from edge.settings import EdgeSettings
from tests.integration.device_bench import running_device, write_network
from tests.integration.stopping import stopped_after
from tests.integration.test_twin_streams import running
from tests.integration.test_twin_tls import identity, settings
from tests.unit.edge.tiny_model import write_tiny_model
from twin_service.console import server as console_server
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.subject import Role
from twinsplit.clock import SystemClock
from twinsplit.errors import PeerLimitError
from twinsplit.oip.messages import InferenceRequest
from twinsplit.oip.service import infer_call as model_infer_call
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc, errors_pb2
from twinsplit.telemetry import exposition
from twinsplit.transport import limits
from twinsplit.transport.address import Address
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server
from twinsplit.transport.status import error_from_rpc
from twinsplit.transport.tail_messages import InferRequest
from twinsplit.transport.tail_stream import infer_call
from twinsplit.transport.tls import TlsFiles

pytestmark = pytest.mark.slow

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")
SETTINGS_TAKEN = bytes.fromhex("000000040100000000")
HEADERS_HEAD = bytes.fromhex("000400010400000001")
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
TIMEOUT_S = 0.4
PATIENCE_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def told(place: str, data: bytes) -> Iterator[socket.socket]:
    """A connection on which ``data`` was said."""
    address = Address.parse(place)
    with socket.create_connection((address.host, address.port), PATIENCE_S) as connection:
        connection.sendall(data)
        yield connection


def is_closed_by_the_other_side(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE_S)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


async def is_serving(address: str, tls: TlsFiles | None = None) -> bool:
    async with open_channel(address, tls) as channel:
        # On a busy machine its own handshake may take longer than the server waits for one; it then tries again.
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=PATIENCE_S
        )
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "said",
    [b"", PREFACE[:10], PREFACE, CLIENT_HELLO, b"GET / HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "half a preface", "no settings", "half a handshake", "half a request"],
)
async def test_a_connection_that_does_not_get_to_the_point_is_closed_and_keeps_nobody_out(
    said: bytes, is_encrypted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", TIMEOUT_S)
    tls = identity(tmp_path, Authority.made(), Role.TWIN, "twin") if is_encrypted else None
    async with stopped_after(await start_server(lambda _: None, "127.0.0.1:0", tls)) as server:
        with told(server.address, said) as connection:
            assert await is_serving(server.address, tls)
            assert await asyncio.to_thread(is_closed_by_the_other_side, connection)


@pytest.mark.parametrize(
    "said", [SETTINGS, SETTINGS + SETTINGS_TAKEN + HEADERS_HEAD], ids=["before it is settled", "half a header"]
)
async def test_a_connection_that_falls_silent_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 1.3)
    monkeypatch.setattr(limits, "KEEPALIVE_TIME_S", 1.0)
    monkeypatch.setattr(limits, "KEEPALIVE_TIMEOUT_S", 0.3)
    async with stopped_after(await start_server(lambda _: None, "127.0.0.1:0")) as server:
        with told(server.address, PREFACE + said) as connection:
            assert await is_serving(server.address)
            assert await asyncio.to_thread(is_closed_by_the_other_side, connection)


async def test_a_connection_without_a_call_is_closed_and_its_channel_makes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "IDLE_CONNECTION_S", 0.3)
    server = await start_server(lambda _: None, "127.0.0.1:0")
    async with stopped_after(server), open_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        while channel.get_state() is grpc.ChannelConnectivity.READY:
            await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), PATIENCE_S)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)


async def test_headers_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(lambda _: None, "127.0.0.1:0")
    async with stopped_after(server), open_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
            await stub.Check(
                health_pb2.HealthCheckRequest(), metadata=[("x", "y" * 2 * limits.METADATA_BYTES)], timeout=PATIENCE_S
            )
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)


@pytest.fixture
async def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, str]]:
    """Addresses of plain HTTP: the console's and that of metrics, both with little patience."""
    monkeypatch.setattr(console_server, "REQUEST_TIMEOUT_S", TIMEOUT_S)
    monkeypatch.setattr(console_server, "_KEEP_ALIVE_S", TIMEOUT_S)
    monkeypatch.setattr(exposition, "CONNECTION_S", TIMEOUT_S)
    monkeypatch.setattr(exposition, "MAX_CONNECTIONS", 8)
    async with running(tmp_path, console_listen="127.0.0.1:0") as twin:
        assert twin.console is not None
        console = twin.console.url.removeprefix("http://").removesuffix("/")
        yield {"console": console, "metrics": twin.http_address}


@pytest.mark.parametrize("service", ["console", "metrics"])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GE",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /api/devices/cam/weights HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal",
    ],
    ids=["nothing", "half a word", "half a header", "half a body", "half a second request"],
)
async def test_half_a_request_is_not_waited_for(service: str, said: bytes, places: dict[str, str]) -> None:
    with told(places[service], said) as connection:
        assert await asyncio.to_thread(is_closed_by_the_other_side, connection)


@pytest.mark.parametrize("said", [b"", CLIENT_HELLO], ids=["nothing", "half a handshake"])
async def test_half_a_handshake_is_not_waited_for_by_the_console(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_server, "REQUEST_TIMEOUT_S", TIMEOUT_S)
    tls = identity(tmp_path, Authority.made(), Role.TWIN, "twin")
    async with running(tmp_path / "state", console_listen="0.0.0.0:0", **settings(tls)) as twin:
        assert twin.console is not None
        with told(twin.console.url.removeprefix("https://").removesuffix("/"), said) as connection:
            assert await asyncio.to_thread(is_closed_by_the_other_side, connection)


async def test_metrics_take_only_so_many_connections_at_once(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "CONNECTION_S", PATIENCE_S)
    with contextlib.ExitStack() as stack:
        for _ in range(exposition.MAX_CONNECTIONS):
            stack.enter_context(told(places["metrics"], b"GET"))
        one_more = stack.enter_context(told(places["metrics"], b""))
        began_s = time.monotonic()
        assert await asyncio.to_thread(is_closed_by_the_other_side, one_more)
        assert time.monotonic() - began_s < PATIENCE_S / 2


async def test_a_device_that_floods_an_edge_is_refused_by_name_and_another_is_served(tmp_path: Path) -> None:
    authority = Authority.made()
    tls = identity(tmp_path / "edge", authority, Role.EDGE, "edge")
    models = load_models(write_tiny_model(tmp_path / "tiny"), clock=SystemClock())
    edge = await start_edge(
        EdgeSettings(
            listen="127.0.0.1:0",
            http_listen="127.0.0.1:0",
            models=tmp_path,
            drain_s=0.0,
            max_messages_per_peer_s=20.0,
            **settings(tls),
        ),
        models=models,
    )
    flooding, other = (identity(tmp_path / name, authority, Role.DEVICE, name) for name in ("flooding", "other"))
    unknown = InferRequest(1, "ab" * 32, 1, None)
    async with (
        stopped_after(edge),
        open_channel(edge.address, flooding) as channel,
        open_channel(edge.address, other) as quiet,
    ):
        call, calm = infer_call(channel), infer_call(quiet)
        for _ in range(60):
            await call.write(unknown)
        refusals = []
        while not any(isinstance(error, PeerLimitError) for error in refusals):
            refusals.append((await call.read()).error)
        await calm.write(unknown)
        assert not isinstance((await calm.read()).error, PeerLimitError)


async def test_a_program_that_floods_a_device_is_refused_by_name_and_another_is_served(tmp_path: Path) -> None:
    authority = Authority.made()
    camera = identity(tmp_path / "camera", authority, Role.DEVICE, "camera")
    operator = identity(tmp_path / "operator", authority, Role.OPERATOR, "operator")
    model = write_network(tmp_path / "model")
    async with (
        running_device(model, id="camera", max_messages_per_peer_s=1.0, **settings(camera)) as bench,
        open_channel(bench.device.address, camera) as channel,
        open_channel(bench.device.address, operator) as quiet,
    ):
        call = device_pb2_grpc.DeviceServiceStub(channel).Submit()
        for _ in range(10):
            await call.write(device_pb2.SubmitRequest())
        assert errors_pb2.ERROR_CODE_PEER_LIMIT in [(await call.read()).error.code for _ in range(10)]
        assert PeerLimitError.__name__ in [await refusal_of_inference(channel) for _ in range(10)]
        await device_pb2_grpc.DeviceServiceStub(quiet).GetStatus(device_pb2.GetStatusRequest(), timeout=PATIENCE_S)


async def refusal_of_inference(channel: grpc.aio.Channel) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await model_infer_call(channel)(InferenceRequest("unknown"), timeout=PATIENCE_S)
    return type(error_from_rpc(refused.value, "device")).__name__


def test_bytes_that_claim_to_be_large_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    code = "import sys; from tests.integration.bombs import main; main(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 15
    assert [line for line in lines if not line.endswith("Error")] == []
