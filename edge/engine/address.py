"""The setting ``engine``: ``local``, or the servers that run the tails."""

from __future__ import annotations

from dataclasses import dataclass

from twinsplit.errors import SettingsError
from twinsplit.transport.address import Address

LOCAL = "local"
_SCHEMES = {"oip://": False, "oips://": True}


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where tails run."""

    back_ends: tuple[str, ...] = ()
    """HOST:PORT of servers of the Open Inference Protocol; none: this process."""
    is_tls: bool = False
    """Whether they are reached by TLS."""

    @property
    def is_local(self) -> bool:
        """Whether tails run in this process."""
        return not self.back_ends

    @classmethod
    def parse(cls, text: str) -> EngineAddress:
        """Read ``local``, ``oip://HOST:PORT[,HOST:PORT...]`` or ``oips://...``.

        Raises:
            SettingsError: none of these, or an address that stands there twice.
        """
        if text == LOCAL:
            return cls()
        for scheme, is_tls in _SCHEMES.items():
            if text.startswith(scheme):
                found = tuple(str(Address.parse(part)) for part in text[len(scheme) :].split(","))
                if len(set(found)) < len(found):
                    raise SettingsError(f"--engine {text} names a server twice; name each once")
                return cls(found, is_tls)
        raise SettingsError(
            f"--engine {text} is no engine; write local, or oip://HOST:PORT[,HOST:PORT...] (oips:// for TLS)"
        )
