"""The edge with TLS and mutual TLS, towards devices and towards the twin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import trustme

from edge.load import LoadGenerator
from edge.load_pattern import LoadShape
from edge.load_payloads import load_tails
from edge.models import HeldModel, load_models
from edge.service import start_edge
from edge.settings import EdgeSettings
from tests.integration.stopping import stopped_after
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.access.rights import WithoutRole
from twinsplit.clock import SystemClock
from twinsplit.errors import PeerError, TlsError
from twinsplit.rpc.v1 import twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.server import start_server
from twinsplit.transport.tls import TlsFiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, HeldModel]:
    return load_models(folder, clock=SystemClock())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def settings(files: TlsFiles, **changed: object) -> EdgeSettings:
    given: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "http_listen": "127.0.0.1:0",
        "models": "unused",
        "tls_ca": files.ca,
        "tls_cert": files.cert,
        "tls_key": files.key,
        # trustme's certificates name no role.
        "tls_without_role": "everything",
    }
    return EdgeSettings(**given | changed)


async def measured_service_s(address: str, folder: Path, tls: TlsFiles | None) -> float:
    async with open_channel(address, tls) as channel:
        generator = LoadGenerator(channel, address, load_tails(folder, count=1), LoadShape(), 0)
        return await generator.measure_service_s()


async def test_a_device_with_a_certificate_of_the_same_authority_is_served(
    models: dict[str, HeldModel], folder: Path, files: TlsFiles
) -> None:
    async with stopped_after(await start_edge(settings(files), models=models)) as edge:
        assert await measured_service_s(edge.address, folder, files) > 0.0


async def test_with_mutual_tls_a_device_without_a_certificate_or_without_tls_is_not(
    models: dict[str, HeldModel], folder: Path, files: TlsFiles
) -> None:
    async with stopped_after(await start_edge(settings(files), models=models)) as edge:
        for tls in (TlsFiles(ca=files.ca), None):
            with pytest.raises(PeerError, match="use TLS or neither"):
                await measured_service_s(edge.address, folder, tls)


async def test_the_twin_is_attached_to_with_tls(models: dict[str, HeldModel], files: TlsFiles) -> None:
    hello = asyncio.get_running_loop().create_future()

    class Twin(twin_pb2_grpc.TwinServiceServicer):
        async def AttachEdge(self, _requests: Any, context: Any) -> None:  # noqa: N802 - named by the protocol
            hello.set_result((await context.read()).hello.edge_id)

    def register(server: grpc.aio.Server) -> None:
        twin_pb2_grpc.add_TwinServiceServicer_to_server(Twin(), server)

    server = await start_server(register, "127.0.0.1:0", files, without_role=WithoutRole.EVERYTHING)
    async with stopped_after(server) as twin:
        edge = await start_edge(settings(files, id="safe", twin=twin.address), models=models)
        async with stopped_after(edge):
            assert await asyncio.wait_for(hello, 10.0) == "safe"


async def test_half_a_tls_configuration_is_refused_before_models_are_loaded(files: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="--tls-key"):
        await start_edge(settings(files, tls_key=None, models=tmp_path / "none"))


async def test_a_certificate_without_an_authority_does_not_do_for_the_twin(files: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="--tls-ca"):
        await start_edge(settings(files, tls_ca=None, twin="127.0.0.1:1", models=tmp_path / "none"))
