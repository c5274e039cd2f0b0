"""Certificates as files: the authority's folder, and one folder for every holder.

The authority's folder holds ``ca.pem`` and ``ca-key.pem``; a holder's ``ca.pem``, ``cert.pem`` and ``key.pem``, the
names that the services' ``tls_ca``, ``tls_cert`` and ``tls_key`` are given. Keys have mode 0600, folders 0700.
"""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

from twinsplit.certificates.authority import Authority, Issued, holder_of
from twinsplit.errors import StorageError, TlsError
from twinsplit.whole_file import write_whole

CA = "ca.pem"
CA_KEY = "ca-key.pem"
CERT = "cert.pem"
KEY = "key.pem"

_MODES = {CA: 0o644, CERT: 0o644, CA_KEY: 0o600, KEY: 0o600}
_FOLDER_MODE = 0o700


def has_authority(folder: Path) -> bool:
    """Whether ``folder`` holds an authority, or a part of one."""
    return (folder / CA).exists() or (folder / CA_KEY).exists()


def keep_authority(authority: Authority, folder: Path) -> None:
    """Write an authority into ``folder``.

    Raises:
        TlsError: it holds one already; nothing is written.
        StorageError: it cannot be written.
    """
    if has_authority(folder):
        raise TlsError(
            f"{folder} holds an authority already; name another folder, or remove this one: every certificate that it "
            "signed is then worthless"
        )
    _write(folder, {CA_KEY: authority.key, CA: authority.certificate})


def read_authority(folder: Path) -> Authority:
    """The authority in ``folder``.

    Raises:
        TlsError: there is none, or it cannot be read or does not fit.
    """
    try:
        return Authority((folder / CA).read_bytes(), (folder / CA_KEY).read_bytes())
    except FileNotFoundError as error:
        if has_authority(folder):
            raise TlsError(
                f"{folder} holds an authority without {Path(error.filename).name}; bring that back from a copy, or "
                "make a new authority in another folder"
            ) from None
        raise TlsError(f"{folder} holds no authority; make one: twinsplit certs init {folder}") from None
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}; name a folder that this user can read") from None
    except TlsError as error:
        raise TlsError(f"{folder}: {error}; name another folder, or make a new authority there") from None


def keep_issued(issued: Issued, authority: Authority, folder: Path) -> None:
    """Write a certificate, its key and the authority's certificate into ``folder``; older ones are replaced.

    Raises:
        TlsError: an authority's key lies there, which must not be copied away with it; nothing is written.
        StorageError: it cannot be written.
    """
    if (folder / CA_KEY).exists():
        raise TlsError(f"{folder} holds the key of an authority, which is for no other machine; name another folder")
    _write(folder, _files(issued, authority))


def read_issued(folder: Path) -> Issued | None:
    """The certificate in ``folder``; ``None``: none that can be read."""
    try:
        return Issued((folder / CERT).read_bytes(), (folder / KEY).read_bytes())
    except OSError:
        return None


def holder_in(folder: Path) -> tuple[object, str] | None:
    """Role and name in the certificate in ``folder``; ``None``: none that can be read, or that tells."""
    held = read_issued(folder)
    return None if held is None else holder_of(held.certificate)


def knows_authority(folder: Path, authority: Authority) -> bool:
    """Whether the holder's folder holds that authority's certificate."""
    try:
        return (folder / CA).read_bytes() == authority.certificate
    except OSError:
        return False


def archive(issued: Issued, authority: Authority, folder: str) -> bytes:
    """The holder's folder as a tar archive, with the same modes, named ``folder`` in it."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        head = tarfile.TarInfo(folder)
        head.type, head.mode, head.mtime = tarfile.DIRTYPE, _FOLDER_MODE, now
        tar.addfile(head)
        for name, data in _files(issued, authority).items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), _MODES[name], now
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _files(issued: Issued, authority: Authority) -> dict[str, bytes]:
    return {CA: authority.certificate, KEY: issued.key, CERT: issued.certificate}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data, _MODES[name])
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}; name a folder that can be written") from None
