"""What `twinsplit certs` makes, in real handshakes of gRPC."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.stopping import stopped_after
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.folder import CA, CERT, KEY, keep_issued
from twinsplit.certificates.subject import Role, Subject
from twinsplit.errors import PeerError
from twinsplit.transport.channel import await_reachable, open_channel
from twinsplit.transport.server import start_server
from twinsplit.transport.tls import TlsFiles

ELSEWHERE = "127.0.0.2"
"""Another address of this machine, which stands for another machine's."""
HANDSHAKE_S = 0.5
"""Time for a handshake that must fail: it would be through in a few milliseconds."""


def _issued(authority: Authority, folder: Path, subject: Subject) -> TlsFiles:
    place = folder / f"{subject.role.value}-{subject.name}"
    keep_issued(authority.issue(subject), authority, place)
    return TlsFiles(place / CA, place / CERT, place / KEY)


async def _answers(address: str, tls: TlsFiles, patience_s: float = 20.0) -> bool:
    async with open_channel(address, tls) as channel:
        try:
            await await_reachable(channel, address, timeout_s=patience_s)
        except PeerError:
            return False
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20.0)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.parametrize("role", Role)
async def test_every_role_gets_in_under_every_host_of_the_certificate(tmp_path: Path, role: Role) -> None:
    authority = Authority.made()
    twin = _issued(authority, tmp_path, Subject(Role.TWIN, "twin", (ELSEWHERE,)))
    visitor = _issued(authority, tmp_path, Subject(role, "visitor"))
    async with stopped_after(await start_server(lambda _: None, "0.0.0.0:0", twin)) as server:
        port = server.address.rpartition(":")[2]
        for host in ("localhost", "127.0.0.1", ELSEWHERE):
            assert await _answers(f"{host}:{port}", visitor), host


async def test_a_host_that_is_not_in_the_certificate_is_not_the_twin(tmp_path: Path) -> None:
    authority = Authority.made()
    twin = _issued(authority, tmp_path, Subject(Role.TWIN, "twin"))
    device = _issued(authority, tmp_path, Subject(Role.DEVICE, "cam"))
    async with stopped_after(await start_server(lambda _: None, "0.0.0.0:0", twin)) as server:
        assert not await _answers(f"{ELSEWHERE}:{server.address.rpartition(':')[2]}", device, HANDSHAKE_S)


async def test_neither_side_takes_another_authoritys_word(tmp_path: Path) -> None:
    ours, others = Authority.made(), Authority.made()
    twin = _issued(ours, tmp_path / "ours", Subject(Role.TWIN, "twin"))
    device = _issued(ours, tmp_path / "ours", Subject(Role.DEVICE, "cam"))
    stranger = _issued(others, tmp_path / "others", Subject(Role.DEVICE, "cam"))
    async with stopped_after(await start_server(lambda _: None, "127.0.0.1:0", twin)) as server:
        assert await _answers(server.address, device)
        assert not await _answers(server.address, TlsFiles(stranger.ca, device.cert, device.key), HANDSHAKE_S)
        assert not await _answers(server.address, TlsFiles(device.ca, stranger.cert, stranger.key), HANDSHAKE_S)
        assert not await _answers(server.address, TlsFiles(device.ca), HANDSHAKE_S)


async def test_an_operator_cannot_pose_as_a_service(tmp_path: Path) -> None:
    authority = Authority.made()
    operator = _issued(authority, tmp_path, Subject(Role.OPERATOR, "localhost"))
    device = _issued(authority, tmp_path, Subject(Role.DEVICE, "cam"))
    async with stopped_after(await start_server(lambda _: None, "127.0.0.1:0", operator)) as server:
        assert not await _answers(server.address.replace("127.0.0.1", "localhost"), device, HANDSHAKE_S)


READ_BY_ALL = """
import os, sys
from pathlib import Path
from twin_service.console.server import _loaded
from twinsplit.errors import TlsError
from twinsplit.transport.certificate_ends import read_certificate
from twinsplit.transport.tls import TlsFiles

os.open(os.ttyname(0), os.O_RDWR)  # now the terminal that OpenSSL would ask on
cert, key = map(Path, sys.argv[1:])
for read in (
    TlsFiles(None, cert, key).server_credentials,
    lambda: read_certificate(cert, key),
    lambda: _loaded(TlsFiles(None, cert, key)),
):
    try:
        read()
    except TlsError as error:
        print("unencrypted key" in str(error))
"""


def test_a_terminal_is_never_asked_for_the_password_of_a_key(tmp_path: Path) -> None:
    files = _issued(Authority.made(), tmp_path, Subject(Role.TWIN, "twin"))
    assert files.key is not None
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"word")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ_BY_ALL, str(files.cert), str(files.key)],
            stdin=theirs,
            capture_output=True,
            start_new_session=True,
            timeout=20.0,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.stdout.split(), done.stderr) == ([b"True"] * 3, b"")
