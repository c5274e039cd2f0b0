"""Every RPC of every service, tried with no certificate, a stranger's, an ended one, another's, one without a role and
the right one, over real connections to real handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import trustme
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from device.compute import Deliver
from device.inference import DeviceInference
from device.service import start_device
from device.servicer import register_device_service
from device.settings import DeviceSettings
from edge.models import HeldModel, load_models
from edge.service import start_edge
from edge.settings import EdgeSettings
from tests.integration.test_twin_streams import attached_device, edge_hello, hello, running
from tests.integration.test_twin_tls import identity, settings
from tests.unit.access.test_rights import methods
from tests.unit.device.test_inference import record
from tests.unit.edge.tiny_model import SHAPES, write_tiny_model
from twin_service.service import start_twin
from twin_service.settings import TwinSettings
from twinsplit.access.rights import HEALTH
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.subject import Role
from twinsplit.clock import SystemClock
from twinsplit.errors import ErrorCode, ModelError, PeerError, SettingsError, TlsError
from twinsplit.oip.service import register_inference_service
from twinsplit.oip.v2 import inference_pb2
from twinsplit.rpc.v1 import device_pb2, edge_pb2, twin_pb2
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server
from twinsplit.transport.status import CODE_METADATA_KEY, error_from_rpc, error_from_wire
from twinsplit.transport.tail_stream import DEVICE_METADATA
from twinsplit.transport.tls import TlsFiles

TWIN, EDGE, DEVICE = (f"/twinsplit.rpc.v1.{name}Service" for name in ("Twin", "Edge", "Device"))
INFERENCE = "/inference.GRPCInferenceService"
PATIENCE_S = 20.0
OK, UNREACHABLE = "ok", "unreachable"
NOT_ALLOWED = ErrorCode.NOT_ALLOWED.value


class Shown(Enum):
    """What the other side shows."""

    NOTHING = "no certificate"
    STRANGERS = "wrong authority"
    ENDED = "expired"
    ANOTHERS = "another's"
    ROLELESS = "without a role"
    RIGHT = "right"


@dataclass(frozen=True)
class Row:
    """How one RPC is called, by whom rightly, and by whom wrongly; ``None``: every certificate with a role may."""

    right: tuple[Role, str]
    anothers: tuple[Role, str] | None
    request: Any = None
    """``None``: the stream is opened, and closed without a message."""
    metadata: tuple[tuple[str, str], ...] = ()


OPERATOR, CAM, OTHER = (Role.OPERATOR, "ops"), (Role.DEVICE, "cam"), (Role.DEVICE, "other")


def asked(device_id: str = "") -> inference_pb2.ModelInferRequest:
    """An input of zeros for the tiny model."""
    request = inference_pb2.ModelInferRequest(model_name="tiny", raw_input_contents=[bytes(4 * math.prod(SHAPES[0]))])
    request.inputs.add(name="t0", datatype="FP32", shape=SHAPES[0])
    if device_id:
        request.parameters["twinsplit_device_id"].string_param = device_id
    return request


ROWS = {
    f"{TWIN}/AttachDevice": Row(CAM, OTHER, twin_pb2.AttachDeviceRequest(hello=hello())),
    f"{TWIN}/AttachEdge": Row(
        (Role.EDGE, "edge"), (Role.EDGE, "edge-2"), twin_pb2.AttachEdgeRequest(hello=edge_hello())
    ),
    f"{TWIN}/ReleaseDevice": Row(CAM, OTHER, twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=1)),
    f"{TWIN}/GetTwin": Row(CAM, OTHER, twin_pb2.GetTwinRequest(device_id="cam")),
    f"{TWIN}/DescribeService": Row(CAM, OTHER, twin_pb2.DescribeServiceRequest(device_id="cam")),
    f"{TWIN}/ListTwins": Row(OPERATOR, CAM, twin_pb2.ListTwinsRequest()),
    f"{TWIN}/WatchTwins": Row(OPERATOR, CAM, twin_pb2.WatchTwinsRequest()),
    f"{TWIN}/SetDesired": Row(OPERATOR, CAM, twin_pb2.SetDesiredRequest(device_id="cam", version=1, alpha_s=2.0)),
    f"{TWIN}/ExportTraces": Row(OPERATOR, CAM, twin_pb2.ExportTracesRequest()),
    f"{TWIN}/ListWeights": Row(OPERATOR, CAM, twin_pb2.ListWeightsRequest()),
    f"{TWIN}/ExportReplay": Row((Role.TWIN, "twin"), CAM, twin_pb2.ExportReplayRequest()),
    f"{EDGE}/Infer": Row(CAM, OTHER, metadata=((DEVICE_METADATA, "cam"),)),
    f"{EDGE}/Describe": Row(CAM, None, edge_pb2.DescribeRequest()),
    f"{DEVICE}/Submit": Row(OPERATOR, OTHER),
    f"{DEVICE}/GetStatus": Row(CAM, OTHER, device_pb2.GetStatusRequest()),
    f"{INFERENCE}/ServerLive": Row(CAM, None, inference_pb2.ServerLiveRequest()),
    f"{INFERENCE}/ServerReady": Row(CAM, None, inference_pb2.ServerReadyRequest()),
    f"{INFERENCE}/ServerMetadata": Row(CAM, None, inference_pb2.ServerMetadataRequest()),
    f"{INFERENCE}/ModelReady": Row(CAM, OTHER, inference_pb2.ModelReadyRequest(name="tiny")),
    f"{INFERENCE}/ModelMetadata": Row(CAM, OTHER, inference_pb2.ModelMetadataRequest(name="tiny")),
    f"{INFERENCE}/ModelInfer": Row(CAM, OTHER, asked()),
    "/grpc.health.v1.Health/Check": Row(CAM, None, health_pb2.HealthCheckRequest()),
    "/grpc.health.v1.Health/Watch": Row(CAM, None, health_pb2.HealthCheckRequest()),
    "/grpc.health.v1.Health/List": Row(CAM, None, health_pb2.HealthListRequest()),
}
AT_EDGES = {
    f"{INFERENCE}/ModelReady": Row(CAM, None, inference_pb2.ModelReadyRequest(name="tiny")),
    f"{INFERENCE}/ModelMetadata": Row(CAM, None, inference_pb2.ModelMetadataRequest(name="tiny")),
    f"{INFERENCE}/ModelInfer": Row(CAM, OTHER, asked("cam")),
}
"""Rows that are others at an edge."""
DESCRIPTORS = {
    f"/{service.full_name}/{method.name}": method
    for module in (twin_pb2, edge_pb2, device_pb2, inference_pb2, health_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_every_rpc_is_in_the_table() -> None:
    served = {method for method in DESCRIPTORS if method.startswith("/grpc.health.")}
    assert set(ROWS) == set(methods()) | served
    assert served == HEALTH


class Certificates:
    """An authority, a stranger's, and files of whoever is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ours, self._strangers = Authority.made(), Authority.made()
        self.twin = self.of((Role.TWIN, "twin"))

    def of(self, who: tuple[Role, str], kind: str = "", *, is_ended: bool = False) -> TlsFiles:
        authority = self._strangers if kind == "strangers" else self._ours
        folder = self._folder / f"{kind}-{who[0].value}-{who[1]}"
        return identity(folder, authority, *who, is_ended=is_ended)

    def shown(self, row: Row, shown: Shown) -> TlsFiles | None:
        """``None``: does not apply."""
        if shown is Shown.NOTHING:
            return TlsFiles(self.twin.ca)
        if shown is Shown.STRANGERS:
            # It trusts the right authority, and shows what another one signed.
            return replace(self.of(row.right, "strangers"), ca=self.twin.ca)
        if shown is Shown.ENDED:
            return self.of(row.right, "ended", is_ended=True)
        if shown is Shown.ANOTHERS:
            return None if row.anothers is None else self.of(row.anothers)
        if shown is Shown.ROLELESS:
            return self._roleless()
        return self.of(row.right)

    def _roleless(self) -> TlsFiles:
        # The authority in cryptography's form, so that trustme's certificate, which names hosts only, is of ours.
        folder = self._folder / "roleless"
        folder.mkdir(exist_ok=True)
        authority = trustme.CA.from_pem(self._ours.certificate, self._ours.key)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        return TlsFiles(self.twin.ca, folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HeldModel]:
    return load_models(write_tiny_model(tmp_path_factory.mktemp("tiny")), clock=SystemClock())


class Door:
    """A device's door without a device behind it."""

    async def submit(self, name: str, data: object, deliver: Deliver) -> None:
        deliver(record(), None, None)

    def status(self) -> dict[str, Any]:
        return {"id": "cam"}


def _register_device(server: grpc.aio.Server, models: dict[str, HeldModel]) -> None:
    (model,) = models.values()
    register_device_service(Door(), server, "cam")
    register_inference_service(server, DeviceInference(Door(), model.manifest, model.digest, "cam"))


@asynccontextmanager
async def serving(
    service: str, certificates: Certificates, models: dict[str, HeldModel], state: Path
) -> AsyncIterator[str]:
    """A service behind mutual TLS, at an address."""
    tls = settings(certificates.twin)
    async with AsyncExitStack() as stack:
        if service == TWIN:
            twin = await stack.enter_async_context(running(state, **tls))
            channel = await stack.enter_async_context(open_channel(twin.address, certificates.of(CAM)))
            await attached_device(channel)
            yield twin.address
        elif service == EDGE:
            given: dict[str, Any] = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": "unused", **tls}
            edge = await start_edge(EdgeSettings(**given, drain_s=0.0), models=models)
            stack.push_async_callback(edge.stop)
            yield edge.address
        else:
            server = await start_server(
                lambda server: _register_device(server, models), "127.0.0.1:0", certificates.twin
            )
            stack.push_async_callback(server.stop)
            yield server.address


async def outcome(address: str, method: str, row: Row, tls: TlsFiles) -> str:
    """What becomes of one call: ``ok``, ``unreachable``, or the code of the refusal; nothing else may cross."""
    descriptor = DESCRIPTORS[method]
    asks, answers = GetMessageClass(descriptor.input_type), GetMessageClass(descriptor.output_type)
    kind = "_".join("stream" if s else "unary" for s in (descriptor.client_streaming, descriptor.server_streaming))
    async with open_channel(address, tls) as channel:
        begin = getattr(channel, kind)(
            method, request_serializer=asks.SerializeToString, response_deserializer=answers.FromString
        )
        try:
            if kind == "unary_unary":
                return _named(await begin(row.request, timeout=PATIENCE_S))
            if kind == "unary_stream":
                return _named(await begin(row.request, timeout=PATIENCE_S).read())
            call = begin(_said(row.request), metadata=row.metadata, timeout=PATIENCE_S)
            try:
                return _named(await call.read())
            except asyncio.CancelledError:
                # grpc cancels a stream whose connection ends while it is written to.
                if not call.done():
                    raise
                return UNREACHABLE
        except grpc.aio.AioRpcError as failure:
            return _refused(failure)


async def _said(request: Any) -> AsyncIterator[Any]:
    """A stream of one message that stays open, or an empty one that does not."""
    if request is not None:
        yield request
        await asyncio.Event().wait()


def _refused(failure: grpc.aio.AioRpcError) -> str:
    error = error_from_rpc(failure, "there")
    if isinstance(error, PeerError):
        assert CODE_METADATA_KEY not in dict(failure.trailing_metadata() or ())
        return UNREACHABLE
    assert "/" not in str(error), "no path of the other side crosses"
    return error.code.value


def _named(response: Any) -> str:
    if hasattr(response, "error") and response.error.code:
        return error_from_wire(response.error).code.value
    return OK


def expected(method: str, row: Row, shown: Shown) -> str:
    if shown in (Shown.NOTHING, Shown.STRANGERS, Shown.ENDED):
        return UNREACHABLE
    if shown is Shown.ROLELESS:
        return OK if method in HEALTH else NOT_ALLOWED
    return NOT_ALLOWED if shown is Shown.ANOTHERS else OK


@pytest.mark.parametrize("service", [TWIN, EDGE, DEVICE], ids=["twin", "edge", "device"])
@pytest.mark.parametrize("shown", Shown)
async def test_every_rpc_lets_in_who_may_call_it(
    service: str, shown: Shown, certificates: Certificates, models: dict[str, HeldModel], tmp_path: Path
) -> None:
    protocol = service if service == TWIN else INFERENCE
    rows = {m: row for m, row in ROWS.items() if m.startswith((f"{service}/", f"{protocol}/")) or m in HEALTH}
    assert len(rows) > len(HEALTH)
    if service == EDGE:
        rows |= AT_EDGES
    async with serving(service, certificates, models, tmp_path / "state") as address:
        found, wanted = {}, {}
        for method, row in rows.items():
            tls = certificates.shown(row, shown)
            if tls is not None:
                found[method] = await outcome(address, method, row, tls)
                wanted[method] = expected(method, row, shown)
        assert found == wanted


async def test_a_device_that_is_not_on_the_edges_list_is_not_served(
    certificates: Certificates, models: dict[str, HeldModel]
) -> None:
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": "unused", "drain_s": 0.0}
    edge = await start_edge(
        EdgeSettings(**given, **settings(certificates.twin), allow_devices=("cam*",)), models=models
    )
    method = f"{EDGE}/Infer"
    try:
        assert await outcome(edge.address, method, Row(CAM, None), certificates.of(CAM)) == OK
        assert await outcome(edge.address, method, Row(OTHER, None), certificates.of(OTHER)) == NOT_ALLOWED
        described = ROWS[f"{EDGE}/Describe"]
        assert await outcome(edge.address, f"{EDGE}/Describe", described, certificates.of(CAM)) == OK
        assert await outcome(edge.address, f"{EDGE}/Describe", described, certificates.of(OTHER)) == NOT_ALLOWED
        assert await outcome(edge.address, f"{EDGE}/Describe", described, certificates.of(OPERATOR)) == OK
        for name, row in AT_EDGES.items():
            nameless = row if row.anothers is None else replace(row, request=asked())
            assert await outcome(edge.address, name, row, certificates.of(CAM)) == OK
            assert await outcome(edge.address, name, nameless, certificates.of(OTHER)) == NOT_ALLOWED
        infer = f"{INFERENCE}/ModelInfer"
        for_others = AT_EDGES[infer]
        assert await outcome(edge.address, infer, for_others, certificates.of((Role.EDGE, "edge-2"))) == OK
        assert await outcome(edge.address, infer, for_others, certificates.of(OPERATOR)) == NOT_ALLOWED
    finally:
        await edge.stop()
    with pytest.raises(SettingsError, match="--allow-devices goes by certificates"):
        await start_edge(EdgeSettings(**given, allow_devices=("cam*",)), models=models)


async def test_a_foreign_authority_may_be_given_everything(certificates: Certificates, tmp_path: Path) -> None:
    row = ROWS[f"{TWIN}/ListTwins"]
    roleless = certificates.shown(row, Shown.ROLELESS)
    assert roleless is not None
    async with running(tmp_path, **settings(certificates.twin), tls_without_role="everything") as twin:
        assert await outcome(twin.address, f"{TWIN}/ListTwins", row, roleless) == OK
        # A role counts all the same.
        assert await outcome(twin.address, f"{TWIN}/ListTwins", row, certificates.of(CAM)) == NOT_ALLOWED


async def test_without_mutual_tls_everything_is_open(certificates: Certificates, tmp_path: Path) -> None:
    twins = {method: row for method, row in ROWS.items() if method.startswith(TWIN)}
    server_only = {"tls_cert": certificates.twin.cert, "tls_key": certificates.twin.key}
    for tls, shown in (({}, TlsFiles()), (server_only, TlsFiles(certificates.twin.ca))):
        async with running(tmp_path / str(len(tls)), **tls) as twin, open_channel(twin.address, shown) as channel:
            await attached_device(channel)
            for method, row in twins.items():
                assert await outcome(twin.address, method, row, shown) == OK, method


async def test_one_peer_cannot_open_calls_without_end_and_others_can(
    certificates: Certificates, tmp_path: Path
) -> None:
    async with running(tmp_path, **settings(certificates.twin), max_calls_per_peer=2) as twin:
        operator = certificates.of(OPERATOR)
        async with open_channel(twin.address, operator) as channel:
            watch = channel.unary_stream(
                f"{TWIN}/WatchTwins",
                request_serializer=twin_pb2.WatchTwinsRequest.SerializeToString,
                response_deserializer=twin_pb2.WatchTwinsResponse.FromString,
            )
            open_calls = [watch(twin_pb2.WatchTwinsRequest()) for _ in range(2)]
            for call in open_calls:
                await call.read()
            listing = ROWS[f"{TWIN}/ListTwins"]
            assert await outcome(twin.address, f"{TWIN}/ListTwins", listing, operator) == ErrorCode.PEER_LIMIT.value
            boss = certificates.of((Role.OPERATOR, "boss"))
            assert await outcome(twin.address, f"{TWIN}/ListTwins", listing, boss) == OK
            open_calls[0].cancel()
            while await outcome(twin.address, f"{TWIN}/ListTwins", listing, operator) != OK:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["device", "edge"])
async def test_a_peer_that_sends_too_fast_is_told_and_read_more_slowly(
    kind: str, certificates: Certificates, tmp_path: Path
) -> None:
    async with running(tmp_path, **settings(certificates.twin), max_messages_per_peer_s=20.0) as twin:
        row = ROWS[f"{TWIN}/AttachDevice" if kind == "device" else f"{TWIN}/AttachEdge"]
        async with open_channel(twin.address, certificates.of(row.right)) as channel:
            request, response = (
                type(row.request),
                getattr(twin_pb2, type(row.request).__name__.replace("Request", "Response")),
            )
            call = channel.stream_stream(
                f"{TWIN}/Attach{kind.capitalize()}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )()
            heard_before, began_s = twin.exchange.heard, time.monotonic()
            for _ in range(60):
                await call.write(request())
            code = ""
            while code != ErrorCode.PEER_LIMIT.value:
                code = _named(await call.read())
            # 20 at once, 20 in every second since, and the one that was refused.
            assert twin.exchange.heard - heard_before <= 20.0 * (1.0 + time.monotonic() - began_s) + 1


WHOLE = {(): True, ("cert", "key"): True, ("ca", "cert", "key"): True}
"""Of a server's TLS files, what may be given together."""
PARTS = [parts for count in range(4) for parts in itertools.combinations(("ca", "cert", "key"), count)]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "+".join(parts) or "none")
@pytest.mark.parametrize("service", ["twin", "edge", "device"])
async def test_half_a_tls_configuration_stops_the_start(
    service: str, parts: tuple[str, ...], certificates: Certificates, models: dict[str, HeldModel], tmp_path: Path
) -> None:
    given: dict[str, Any] = {f"tls_{part}": getattr(certificates.twin, part) for part in parts}
    given |= {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}
    is_whole = WHOLE.get(parts, False)
    if service == "device":
        # A device with an authority alone trusts, and shows nothing.
        is_whole = is_whole or parts == ("ca",)
        settings = DeviceSettings(**given, model=tmp_path / "none", energy="none")
        with pytest.raises(ModelError if is_whole else TlsError):
            await start_device(settings)
        return
    with contextlib.nullcontext() if is_whole else pytest.raises(TlsError):
        if service == "twin":
            started: Any = await start_twin(TwinSettings(**given, state=tmp_path / "state"))
        else:
            started = await start_edge(EdgeSettings(**given, models=tmp_path, drain_s=0.0), models=models)
        await started.stop()
