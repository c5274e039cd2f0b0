"""Half a TLS configuration or files that do not fit are refused at once, not at the first handshake."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from twinsplit.errors import TlsError
from twinsplit.transport.tls import TlsFiles


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    pair.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    pair.private_key_pem.write_to_path(str(folder / "key.pem"))
    other = authority.issue_cert("127.0.0.1")
    other.private_key_pem.write_to_path(str(folder / "other-key.pem"))
    private = serialization.load_pem_private_key(pair.private_key_pem.bytes(), None)
    (folder / "locked-key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    return TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def test_good_files_give_credentials(files: TlsFiles) -> None:
    assert isinstance(files.server_credentials(), grpc.ServerCredentials)
    assert isinstance(files.channel_credentials(), grpc.ChannelCredentials)
    assert isinstance(TlsFiles(None, files.cert, files.key).server_credentials(), grpc.ServerCredentials)
    assert isinstance(TlsFiles(files.ca).channel_credentials(), grpc.ChannelCredentials)


@pytest.mark.parametrize(
    ("cert", "key", "missing"), [(Path("c"), None, "without --tls-key"), (None, Path("k"), "without --tls-cert")]
)
def test_a_certificate_and_its_key_go_together(cert: Path | None, key: Path | None, missing: str) -> None:
    with pytest.raises(TlsError, match=missing):
        TlsFiles(None, cert, key)


def test_nothing_configured_is_no_tls(files: TlsFiles) -> None:
    assert not TlsFiles().is_set
    assert files.is_set
    assert TlsFiles(files.ca).is_set


def test_each_side_says_what_it_needs(files: TlsFiles) -> None:
    with pytest.raises(TlsError, match="--tls-cert and --tls-key"):
        TlsFiles(files.ca).server_credentials()
    with pytest.raises(TlsError, match="--tls-ca"):
        TlsFiles(None, files.cert, files.key).channel_credentials()


def _broken(files: TlsFiles, name: str) -> Callable[[], object]:
    assert files.ca is not None
    folder = files.ca.parent
    return {
        "missing file": TlsFiles(None, folder / "none.pem", files.key).server_credentials,
        "missing authority": TlsFiles(folder / "none.pem").channel_credentials,
        "key of another": TlsFiles(None, files.cert, folder / "other-key.pem").server_credentials,
        "encrypted key": TlsFiles(None, files.cert, folder / "locked-key.pem").server_credentials,
        "certificate as key": TlsFiles(None, files.cert, files.cert).server_credentials,
        "key as authority": TlsFiles(files.key).channel_credentials,
    }[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing file", "none.pem: No such file"),
        ("missing authority", "none.pem: No such file"),
        ("key of another", "unencrypted key"),
        ("encrypted key", "unencrypted key"),
        ("certificate as key", "unencrypted key"),
        ("key as authority", "no certificate authority"),
    ],
)
def test_files_that_do_not_fit_are_named(files: TlsFiles, name: str, says: str) -> None:
    with pytest.raises(TlsError, match=says):
        _broken(files, name)()
