"""A device with TLS and mutual TLS: towards the edge, and towards local programs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trustme

from tests.integration.device_bench import running_device, running_edge, until, write_frames, write_network
from tests.integration.test_twin_tls import identity, settings
from tests.unit.device.made_up_device import offload_at
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.subject import Role
from twinsplit.errors import InsecureBindError, TlsError
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tls import TlsFiles
from twinsplit.types import Outcome, Reason

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


async def test_a_device_with_its_certificate_offloads_to_an_edge_that_asks_for_it(model, frames, files):
    tls = {
        "tls_ca": files.ca,
        "tls_cert": files.cert,
        "tls_key": files.key,
        "tls_without_role": "everything",  # trustme's certificates name none
    }
    async with running_edge(model, **tls) as edge, running_device(model, **tls) as bench:
        bench.plan(offload_at(1), edge.address)
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {r.outcome for r in records} == {Outcome.EDGE}


async def test_a_device_that_shows_none_is_kept_out_and_goes_on_alone(model, frames, files):
    tls = {
        "tls_ca": files.ca,
        "tls_cert": files.cert,
        "tls_key": files.key,
        "tls_without_role": "everything",  # trustme's certificates name none
    }
    async with running_edge(model, **tls) as edge, running_device(model, tls_ca=files.ca) as bench:
        bench.plan(offload_at(1), edge.address)
        await bench.submit(frames[:2])
        records = await bench.ended(2)
    assert {r.outcome for r in records} == {Outcome.DEVICE}
    assert {r.reason for r in records} <= {Reason.EDGE_LOST, Reason.BREAKER_OPEN}


async def test_a_device_that_the_edge_does_not_serve_is_told_so_and_goes_on_alone(model, frames, tmp_path, caplog):
    authority = Authority.made()
    own, edges = (
        settings(identity(tmp_path / name, authority, role, name))
        for name, role in (("cam", Role.DEVICE), ("edge", Role.EDGE))
    )
    with caplog.at_level(logging.WARNING, "twinsplit"):
        async with (
            running_edge(model, **edges, allow_devices=("line-*",)) as edge,
            running_device(model, **own, id="cam") as bench,
        ):
            bench.plan(offload_at(1), edge.address)
            await bench.submit(frames[:2])
            records = await bench.ended(2)
            await until(lambda: "edge-refuses-calls" in caplog.text)
    assert {r.outcome for r in records} == {Outcome.DEVICE}


async def test_an_authority_alone_is_enough_towards_an_edge_that_asks_for_none(model, frames, files):
    async with (
        running_edge(model, tls_cert=files.cert, tls_key=files.key) as edge,
        running_device(model, tls_ca=files.ca) as bench,
    ):
        bench.plan(offload_at(1), edge.address)
        await until(lambda: bench.device.status()["tracked"]["round_trip_s"] is not None)
        await bench.submit(frames[:2])
        records = await bench.ended(2)
    assert {r.outcome for r in records} == {Outcome.EDGE}


async def test_local_programs_reach_a_device_with_a_certificate_by_tls(model, files):
    async with (
        running_device(model, tls_cert=files.cert, tls_key=files.key) as bench,
        open_channel(bench.device.address, TlsFiles(files.ca)) as channel,
    ):
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        response = await stub.GetStatus(device_pb2.GetStatusRequest(), timeout=20.0)
    assert '"entered": 0' in response.status_json


async def test_beyond_loopback_it_listens_only_with_tls_or_the_word(model):
    with pytest.raises(InsecureBindError, match="say --insecure"):
        async with running_device(model, listen="0.0.0.0:0"):
            pass
    async with running_device(model, listen="0.0.0.0:0", insecure=True) as bench:
        assert bench.device.address.startswith("0.0.0.0:")


async def test_half_a_tls_configuration_is_refused(model, files):
    with pytest.raises(TlsError, match="--tls-cert is given without --tls-key"):
        async with running_device(model, tls_cert=files.cert):
            pass
