"""The list of replicas as people write it: addresses, or a file of addresses that may change while a service runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinsplit.errors import SettingsError
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.address import Address

MOST_REPLICAS = 64
LOOK_S = 1.0
"""Time between two looks at the file."""
_REPEATED_LINE_S = 60.0
_BETWEEN = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class ReplicaSource:
    """Where the list comes from: ``HOST:PORT[,HOST:PORT...]``, or ``@FILE`` with such lines (``#``: a comment)."""

    text: str

    @property
    def path(self) -> Path | None:
        """The file; ``None``: the list is fixed."""
        return Path(self.text[1:]) if self.text.startswith("@") else None

    def read(self) -> tuple[str, ...]:
        """The list now, in its order, each address once.

        Raises:
            SettingsError: no address, too many, one that is not HOST:PORT, or a file that cannot be read.
        """
        path = self.path
        words = _BETWEEN.split(self.text if path is None else _file_text(path))
        try:
            found = tuple(dict.fromkeys(str(Address.parse(word)) for word in words if word))
        except SettingsError as error:
            raise SettingsError(str(error) if path is None else f"{path}: {error}") from None
        if not found:
            raise SettingsError(f"{path or '--twin'}: names no twin service; write HOST:PORT, several with commas")
        if len(found) > MOST_REPLICAS:
            raise SettingsError(f"{path or '--twin'}: names {len(found)} replicas, at most {MOST_REPLICAS} are allowed")
        return found

    async def follow(self, known: tuple[str, ...], changed: Callable[[tuple[str, ...]], None], log: EventLog) -> None:
        """Tell ``changed`` of every list other than ``known`` and the one before, until cancelled.

        The file is read again rather than watched: a mounted ConfigMap changes by links, and some file systems tell of
        nothing. While it cannot be read, or holds what is no list, the list before stands.
        """
        while self.path is not None:
            await asyncio.sleep(LOOK_S)
            try:
                found = await asyncio.to_thread(self.read)
            except SettingsError as error:
                log.warning("replica-list-unusable", cause=str(error), limit_s=_REPEATED_LINE_S)
                continue
            if found != known:
                known = found
                log.info("replica-list-changed", replicas=list(found))
                changed(found)


def _file_text(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; name a file with a HOST:PORT on each line in --twin @FILE"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text; name a file with a HOST:PORT on each line") from None
    return "\n".join(line.partition("#")[0] for line in lines)
