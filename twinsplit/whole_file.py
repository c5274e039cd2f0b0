"""A file that is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Put ``data`` at ``path``, in place of what is there.

    Args:
        mode: of the file, from its first byte on, whatever the umask; ``None``: as the umask has it.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a pipe or device cannot be replaced
        return
    path = Path(os.path.realpath(path))  # where a link leads, not the link
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
