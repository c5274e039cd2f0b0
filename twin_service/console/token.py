"""The token that changes at the console need: one line of a file that only its owner may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from twinsplit.errors import SettingsError, StorageError
from twinsplit.telemetry.logs import EventLog
from twinsplit.whole_file import write_whole

FILE_NAME = "console-token"
"""In the state folder, where no other place is named."""
SHORTEST = 16
_TOKEN_BYTES = 32
_LONGEST = 4096

_log = EventLog("twin.console")


def token_of(path: Path) -> str:
    """The token in ``path``; the file is made with mode 0600 if it is missing.

    Raises:
        StorageError: it can be neither read nor made.
        SettingsError: what it holds is no token.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n".encode(), 0o600)
    except OSError as error:
        raise StorageError(
            f"{path}: the console's token cannot be kept there: {error.strerror}; name a place that this user can "
            "write in --console-token-file"
        ) from None
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_LONGEST)
    except OSError as error:
        raise StorageError(
            f"{path}: the console's token cannot be read: {error.strerror}; let this user read it, or name another "
            "--console-token-file"
        ) from None
    token = data.decode("ascii", "replace").strip()
    if len(token) < SHORTEST or not all("!" <= character <= "~" for character in token):
        raise SettingsError(
            f"{path}: holds no token: one line of at least {SHORTEST} letters, digits and signs is needed; delete the "
            "file and it is made anew"
        )
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warning("console-token-readable-by-others", file=str(path), mode=f"{mode:04o}", cure="chmod 600")
    return token
