"""Instants at which frames arrive: Poisson, periodic, or from a trace. The same seed gives the same instants."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias

from twinsplit.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals at ``rate_per_s``."""

    rate_per_s: float
    seed: int

    def offsets_s(self) -> Iterator[float]:
        """Seconds after the start, ascending, without end."""
        rng = random.Random(f"arrivals {self.seed}")
        offset_s = 0.0
        while True:
            offset_s += rng.expovariate(self.rate_per_s)
            yield offset_s


@dataclass(frozen=True, slots=True)
class Periodic:
    """One arrival every 1/``rate_per_s`` seconds, from 0 on."""

    rate_per_s: float

    def offsets_s(self) -> Iterator[float]:
        """Seconds after the start, ascending, without end."""
        for number in count():
            yield number / self.rate_per_s


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded arrivals; the source ends with them."""

    instants_s: Sequence[float]

    def offsets_s(self) -> Iterator[float]:
        """Seconds after the start, ascending."""
        yield from self.instants_s


LONGEST_OFFSET_S = 1e8
"""Three years: what lies further on is an instant of a clock, or counted in other units."""

Arrivals: TypeAlias = Poisson | Periodic | Trace


def parse_arrivals(text: str, seed: int) -> Arrivals:
    """Arrivals as settings write them.

    Raises:
        SettingsError: not ``poisson:RATE``, ``periodic:RATE`` or ``trace:FILE``, or a file that is no trace.
    """
    kind, _, value = text.partition(":")
    if kind == "trace" and value:
        return Trace(read_trace(Path(value)))
    try:
        rate_per_s = float(value)
    except ValueError:
        rate_per_s = 0.0
    if kind not in ("poisson", "periodic") or not 0.0 < rate_per_s < float("inf"):
        raise SettingsError(
            f"--arrivals {text!r}: use poisson:RATE or periodic:RATE with a rate per second above 0, or trace:FILE"
        )
    return Poisson(rate_per_s, seed) if kind == "poisson" else Periodic(rate_per_s)


def read_trace(path: Path) -> tuple[float, ...]:
    """Offsets in seconds, one on each line; empty lines and lines that start with # are left out.

    Raises:
        SettingsError: unreadable, empty, or a line that is no offset or goes back in time.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError(f"{path}: {reason}; name a file with an offset in seconds on each line") from None
    offsets: list[float] = []
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            offset_s = float(stripped)
        except ValueError:
            offset_s = -1.0
        if not (offsets[-1] if offsets else 0.0) <= offset_s <= LONGEST_OFFSET_S:
            raise SettingsError(
                f"{path}:{number}: {stripped!r} is no offset in seconds from the start that goes on from the last one"
            )
        offsets.append(offset_s)
    if not offsets:
        raise SettingsError(f"{path}: holds no arrivals; write an offset in seconds on each line")
    return tuple(offsets)
