"""Emulation of a slow device and a slow uplink, for demos and tests on one machine. Always named as emulation."""

from __future__ import annotations

import math
import random
import time
from bisect import bisect_right
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
class RateChange:
    """From ``start_s`` after the start of the emulation on, the uplink has another rate."""

    start_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """An emulated uplink."""

    bytes_per_s: float | None = None
    """Before the first change; ``None``: as fast as the real one."""
    delay_s: float = 0.0
    """One way, both ways."""
    jitter_s: float = 0.0
    """Mean of an exponential delay of payloads on top, whose order is kept; answers have none."""
    outages: tuple[Outage, ...] = ()
    """Ascending, apart."""
    rate_changes: tuple[RateChange, ...] = ()
    """Ascending."""

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
        self._change_at_s = [started_at_s + change.start_s for change in settings.rate_changes]
        self._rates = [settings.bytes_per_s, *(change.bytes_per_s for change in settings.rate_changes)]

    def departure_s(self, wire_bytes: int, now_s: float) -> float:
        """Instant at which the last byte of a payload handed over now has left."""
        at_s, left = max(now_s, self._free_at_s), float(wire_bytes)
        index = bisect_right(self._change_at_s, at_s)
        while (rate := self._rates[index]) is not None:
            until_s = self._change_at_s[index] if index < len(self._change_at_s) else math.inf
            if left <= rate * (until_s - at_s):
                at_s += left / rate
                break
            left -= rate * (until_s - at_s)
            at_s = until_s
            index += 1
        self._free_at_s = at_s
        return at_s

    def arrival_s(self, departure_s: float) -> float:
        """Instant at which it is there."""
        self._delivered_at_s = max(departure_s + self.way_s(), self._delivered_at_s)
        return self._delivered_at_s

    def way_s(self) -> float:
        """Delay on the way to the edge, drawn anew."""
        jitter_s = self._settings.jitter_s
        return self.way_back_s + (self._rng.expovariate(1.0 / jitter_s) if jitter_s > 0.0 else 0.0)

    @property
    def way_back_s(self) -> float:
        """Delay of an answer."""
        return self._settings.delay_s

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


def parse_rate_changes(texts: Sequence[str]) -> tuple[RateChange, ...]:
    """Changes of the rate written as ``START+BYTES_PER_S``.

    Raises:
        SettingsError: not of that form, or two at one instant.
    """
    changes = sorted((_parse_rate_change(text) for text in texts), key=lambda change: change.start_s)
    if any(later.start_s == earlier.start_s for earlier, later in pairwise(changes)):
        raise SettingsError("--emulate-uplink-rates: two rates from the same instant on; write each START once")
    return tuple(changes)


def _parse_rate_change(text: str) -> RateChange:
    start, _, rate = text.partition("+")
    try:
        change = RateChange(float(start), float(rate))
    except ValueError:
        change = RateChange(math.nan, math.nan)
    if not (0.0 <= change.start_s < math.inf and 0.0 < change.bytes_per_s < math.inf):
        raise SettingsError(
            f"--emulate-uplink-rates: {text!r} is not START+BYTES_PER_S, seconds and bytes per second, such as 20+12500"
        )
    return change


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
