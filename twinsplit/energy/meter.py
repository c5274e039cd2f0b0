"""What an energy meter is, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What a meter says at one instant. At least one of the two is given; where both are, the joules count."""

    watts: float | None = None
    """Power now; ``None``: this meter does not tell it."""
    joules: float | None = None
    """Energy since any instant in the past, only growing: nothing between two looks is missed. ``None``: not told."""


class Meter(Protocol):
    """Something that measures what a machine draws."""

    @property
    def source(self) -> str:
        """Name under which its figures appear, such as ``rapl``."""
        ...

    @property
    def interval_s(self) -> float:
        """Time between two looks where nobody sets another: as short as the meter brings news and costs little."""
        ...

    def read(self) -> MeterReading | None:
        """Look now; ``None``: nothing can be read. May block for a bounded time, and may raise: both mean unknown."""
        ...

    def close(self) -> None:
        """Let go of whatever is open."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a meter cannot be used here."""

    cause: str
    cure: str
    is_there: bool = False
    """The meter exists, but something (permissions) is in the way."""
