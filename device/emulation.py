"""Emulation of a slow device and a slow uplink, for demos and tests on one machine. Always named as emulation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from twinsplit.errors import SettingsError


class Slowdown:
    """Each step takes ``factor`` times its time as *measured at start-up*, so that noise of the host is not
    multiplied; a step that takes longer by itself is left alone."""

    def __init__(
        self,
        factor: float,
        step_s: Mapping[Hashable, float],
        now_s: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.factor = factor
        self._target_s = {step: factor * seconds for step, seconds in step_s.items()}
        self._now_s = now_s
        self._sleep = sleep

    def stretch(self, step: Hashable, began_s: float) -> None:
        """Sleep until ``step``, which began at ``began_s``, has taken its emulated time."""
        left_s = began_s + self._target_s.get(step, 0.0) - self._now_s()
        if left_s > 0.0:
            self._sleep(left_s)


@dataclass(frozen=True, slots=True)
class Outage:
    """The connection is lost from ``start_s`` to ``end_s`` after the start of the emulation."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """An emulated uplink."""

    bytes_per_s: float | None = None
    """``None``: as fast as the real one."""
    delay_s: float = 0.0
    """One way, both ways."""
    jitter_s: float = 0.0
    """Mean of an exponential delay on top; the order of payloads is kept."""
    outages: tuple[Outage, ...] = ()
    """Ascending, apart."""

    @property
    def is_set(self) -> bool:
        """Whether anything is emulated."""
        return self != UplinkSettings()


class EmulatedUplink:
    """A FIFO of its rate with a delay behind it. Sans-IO: says when, and the uplink waits."""

    def __init__(self, settings: UplinkSettings, started_at_s: float, seed: int = 0) -> None:
        self._settings = settings
        self._started_at_s = started_at_s
        self._rng = random.Random(seed)
        self._free_at_s = started_at_s
        self._delivered_at_s = started_at_s

    def departure_s(self, wire_bytes: int, now_s: float) -> float:
        """Instant at which the last byte of a payload handed over now has left."""
        rate = self._settings.bytes_per_s
        self._free_at_s = max(now_s, self._free_at_s) + (wire_bytes / rate if rate is not None else 0.0)
        return self._free_at_s

    def arrival_s(self, departure_s: float) -> float:
        """Instant at which it is there."""
        self._delivered_at_s = max(departure_s + self.way_s(), self._delivered_at_s)
        return self._delivered_at_s

    def way_s(self) -> float:
        """Delay of one way, drawn anew."""
        jitter_s = self._settings.jitter_s
        return self._settings.delay_s + (self._rng.expovariate(1.0 / jitter_s) if jitter_s > 0.0 else 0.0)

    def reset(self, now_s: float) -> None:
        """The connection was lost, and what was under way with it."""
        self._free_at_s = self._delivered_at_s = now_s

    def outage_end_s(self, now_s: float) -> float | None:
        """End of the outage that reigns now; ``None``: none does."""
        for outage in self._settings.outages:
            if outage.start_s <= now_s - self._started_at_s < outage.end_s:
                return self._started_at_s + outage.end_s
        return None

    def next_outage_s(self, now_s: float) -> float | None:
        """Instant at which the next outage begins; ``None``: there is none."""
        for outage in self._settings.outages:
            if outage.start_s > now_s - self._started_at_s:
                return self._started_at_s + outage.start_s
        return None


def parse_outages(texts: Sequence[str]) -> tuple[Outage, ...]:
    """Outages written as ``START+LENGTH``, seconds.

    Raises:
        SettingsError: not of that form, or they overlap.
    """
    outages = sorted((_parse_outage(text) for text in texts), key=lambda outage: outage.start_s)
    if any(later.start_s < earlier.end_s for earlier, later in pairwise(outages)):
        raise SettingsError("--emulate-uplink-outages: two outages overlap; write each START+LENGTH once")
    return tuple(outages)


def _parse_outage(text: str) -> Outage:
    start, separator, length = text.partition("+")
    try:
        outage = Outage(float(start), float(start) + float(length))
    except ValueError:
        separator = ""
        outage = Outage(0.0, 0.0)
    if not separator or not 0.0 <= outage.start_s < outage.end_s < float("inf"):
        raise SettingsError(f"--emulate-uplink-outages: {text!r} is not START+LENGTH in seconds, such as 20+5")
    return outage
