"""The twin service behind mutual TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.integration.test_twin_streams import attached_device, running
from twin_service.reader import reading
from twinsplit.errors import PeerError
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tls import TlsFiles


def write_identity(folder: Path, authority: trustme.CA) -> TlsFiles:
    folder.mkdir()
    issued = authority.issue_cert("127.0.0.1")
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    return files


async def test_only_who_shows_a_certificate_may_attach_and_read(tmp_path: Path) -> None:
    authority = trustme.CA()
    twin_files = write_identity(tmp_path / "twin", authority)
    device_files = write_identity(tmp_path / "device", authority)
    settings = {"tls_ca": twin_files.ca, "tls_cert": twin_files.cert, "tls_key": twin_files.key}
    async with running(tmp_path / "state", **settings) as twin:
        async with open_channel(twin.address, device_files) as channel:
            await attached_device(channel)
            async with reading(twin.address, device_files) as reader:
                view, _ = await reader.device("cam")
                assert view.is_attached
        async with reading(twin.address, TlsFiles(ca=device_files.ca)) as reader:
            with pytest.raises(PeerError):
                await reader.listing()
