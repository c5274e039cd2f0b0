"""The twin service behind mutual TLS, and certificates that are renewed while it serves."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc.aio
import pytest

from tests.integration.test_twin_streams import attached_device, running
from tests.integration.test_twin_telemetry import scrape
from twin_service.reader import reading
from twinsplit.certificates.authority import Authority, end_of
from twinsplit.certificates.folder import CA, CERT, KEY, keep_issued
from twinsplit.certificates.subject import Role, Subject
from twinsplit.errors import NotAllowedError, PeerError
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tls import TlsFiles

LONG_AGO = datetime.now(timezone.utc) - timedelta(days=30)


def identity(folder: Path, authority: Authority, role: Role, name: str, *, is_ended: bool = False) -> TlsFiles:
    issued = authority.issue(Subject(role, name), 1, LONG_AGO) if is_ended else authority.issue(Subject(role, name))
    keep_issued(issued, authority, folder)
    return TlsFiles(folder / CA, folder / CERT, folder / KEY)


def settings(tls: TlsFiles) -> dict[str, object]:
    return {"tls_ca": tls.ca, "tls_cert": tls.cert, "tls_key": tls.key}


async def test_only_who_shows_a_certificate_may_attach_and_read(tmp_path: Path) -> None:
    authority = Authority.made()
    twin_files = identity(tmp_path / "twin", authority, Role.TWIN, "twin")
    device_files = identity(tmp_path / "cam", authority, Role.DEVICE, "cam")
    operator_files = identity(tmp_path / "ops", authority, Role.OPERATOR, "ops")
    async with running(tmp_path / "state", **settings(twin_files)) as twin:
        async with open_channel(twin.address, device_files) as channel:
            await attached_device(channel)
            for files in (operator_files, device_files):
                async with reading(twin.address, files) as reader:
                    view, _ = await reader.device("cam")
                    assert view.is_attached
            async with reading(twin.address, device_files) as reader:
                with pytest.raises(NotAllowedError, match="role device may not call ListTwins"):
                    await reader.listing()
        async with reading(twin.address, TlsFiles(ca=device_files.ca)) as reader:
            with pytest.raises(PeerError):
                await reader.listing()


async def test_certificates_are_renewed_without_a_restart_even_under_a_new_authority(tmp_path: Path) -> None:
    old, new = Authority.made(), Authority.made()
    twin_files = identity(tmp_path / "twin", old, Role.TWIN, "twin")
    old_files = identity(tmp_path / "ops", old, Role.OPERATOR, "ops")
    async with running(tmp_path / "state", **settings(twin_files)) as twin:
        assert await _lets_in(twin.address, old_files)
        new_files = identity(tmp_path / "new-ops", new, Role.OPERATOR, "ops")
        assert not await _lets_in(twin.address, new_files)
        async with open_channel(twin.address, old_files) as standing:
            stub = twin_pb2_grpc.TwinServiceStub(standing)
            await stub.ListTwins(twin_pb2.ListTwinsRequest(), timeout=20.0)
            identity(tmp_path / "twin", new, Role.TWIN, "twin")
            assert await _lets_in(twin.address, new_files)
            assert not await _lets_in(twin.address, old_files)
            # Who is connected stays so.
            await stub.ListTwins(twin_pb2.ListTwinsRequest(), timeout=20.0)


async def test_metrics_tell_when_each_file_ends_and_follow_its_renewal(tmp_path: Path) -> None:
    authority = Authority.made(days=100)
    tls = identity(tmp_path / "twin", authority, Role.TWIN, "twin")
    async with running(tmp_path / "state", **settings(tls)) as twin:
        ends = await _ends(twin.http_address)
        assert ends["ca"] == pytest.approx(authority.ends.timestamp())
        assert ends["cert"] == ends["ca"], "a certificate never outlives its authority"
        keep_issued(authority.issue(Subject(Role.TWIN, "twin"), days=7), authority, tmp_path / "twin")
        assert tls.cert is not None
        assert (await _ends(twin.http_address)) == {"ca": ends["ca"], "cert": end_of(tls.cert.read_bytes()).timestamp()}
        renewed = await _ends(twin.http_address)
        tls.cert.unlink()
        assert await _ends(twin.http_address) == renewed, "what is in force ends no later because a file is gone"


async def _ends(address: str) -> dict[str, float]:
    found = re.compile(r'^twinsplit_certificate_expires_timestamp_seconds\{file="(\w+)"\} (\S+)$', re.MULTILINE)
    return {file: float(end) for file, end in found.findall(await scrape(address))}


async def test_half_a_renewal_leaves_the_old_pair_in_force(tmp_path: Path) -> None:
    authority = Authority.made()
    twin_files = identity(tmp_path / "twin", authority, Role.TWIN, "twin")
    operator = identity(tmp_path / "ops", authority, Role.OPERATOR, "ops")
    renewed = authority.issue(Subject(Role.TWIN, "twin"))
    async with running(tmp_path / "state", **settings(twin_files)) as twin:
        assert twin_files.key is not None
        twin_files.key.write_bytes(renewed.key)
        assert await _lets_in(twin.address, operator)


async def test_a_channel_reads_its_renewed_certificate_when_it_connects_again(tmp_path: Path) -> None:
    authority = Authority.made()
    twin_files = identity(tmp_path / "twin", authority, Role.TWIN, "twin")
    operator = identity(tmp_path / "ops", authority, Role.OPERATOR, "ops", is_ended=True)
    async with running(tmp_path / "state", **settings(twin_files)) as twin:
        assert not await _lets_in(twin.address, operator)
        identity(tmp_path / "ops", authority, Role.OPERATOR, "ops")
        assert await _lets_in(twin.address, operator)


async def _lets_in(address: str, files: TlsFiles) -> bool:
    async with open_channel(address, files) as channel:
        try:
            await twin_pb2_grpc.TwinServiceStub(channel).ListTwins(twin_pb2.ListTwinsRequest(), timeout=20.0)
        except grpc.aio.AioRpcError:
            return False
    return True
