"""When other users' tails arrive at an edge: arrival instants by pattern, reproducible from a seed.

Pure generators of seconds from the start: the load generator and the simulator use the same ones. *Offered load* is
work offered per second over the edge's capacity of one second of service per second; above 1 the queue must overflow.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from twinsplit.errors import SettingsError

_PARETO_SHAPE = 1.5
_LONGEST_PERIOD_MEANS = 50.0


class Pattern(str, Enum):
    """Shape of the arrivals in time."""

    ONOFF = "onoff"
    """Bursts: Poisson arrivals at the peak rate in on-periods, nothing in off-periods; both of random length."""
    POISSON = "poisson"
    """Independent users."""
    HEAVY = "heavy"
    """Bursts with heavy-tailed (Pareto, shape 1.5) on- and off-periods: bursts at every time scale."""
    TRACE = "trace"
    """Instants from a file."""


@dataclass(frozen=True, slots=True)
class LoadShape:
    """How much load in which shape.

    Raises:
        SettingsError: a number that is impossible; the text names it.
    """

    pattern: Pattern = Pattern.ONOFF
    offered_load: float = 0.6
    """Mean work offered, share of the edge's capacity."""
    burst_s: float = 1.0
    """Mean length of an on-period (onoff, heavy), seconds."""
    peak_load: float = 1.8
    """Work offered within an on-period, share of the edge's capacity; above 1 the queue grows in a burst."""
    trace_s: tuple[float, ...] = ()
    """Arrival instants from the start (trace), ascending, seconds; repeated from the start when they are used up."""
    burst_variation: float = 1.0
    """Coefficient of variation of on- and off-periods (onoff): 1 exponential, 0 all alike. Short runs come nearer to
    the mean load with a small one."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offered_load) and self.offered_load > 0.0):
            raise SettingsError(f"offered load: {self.offered_load} is impossible; give a share of capacity above 0")
        if self.pattern in (Pattern.ONOFF, Pattern.HEAVY):
            if not (math.isfinite(self.burst_s) and self.burst_s > 0.0):
                raise SettingsError(f"burst length: {self.burst_s} s is impossible; give seconds above 0")
            if not (math.isfinite(self.burst_variation) and self.burst_variation >= 0.0):
                raise SettingsError(f"burst variation: {self.burst_variation} is impossible; give 0 or more")
            if not (math.isfinite(self.peak_load) and self.peak_load >= self.offered_load):
                raise SettingsError(
                    f"peak load: {self.peak_load} is below the mean offered load {self.offered_load}; bursts offer at "
                    "least the mean"
                )
        if self.pattern is Pattern.TRACE and not self.trace_s:
            raise SettingsError("trace: the file holds no arrival; name one with an offset in seconds on each line")

    @property
    def on_share(self) -> float:
        """Share of time spent in bursts (onoff, heavy)."""
        return self.offered_load / self.peak_load

    @property
    def off_s(self) -> float:
        """Mean length of an off-period (onoff, heavy), seconds."""
        return self.burst_s * (1.0 / self.on_share - 1.0)


def arrivals_s(shape: LoadShape, service_s: float, seed: int) -> Iterator[float]:
    """Endless ascending arrival instants, seconds from the start.

    Args:
        shape: Pattern and amount of the load.
        service_s: Service time of one tail at the edge, seconds; it turns shares of capacity into rates.
        seed: The same seed, shape and service time give the same instants.
    """
    if not service_s > 0.0:
        raise ValueError(f"a service time of {service_s} s is impossible")
    rng = random.Random(seed)
    if shape.pattern is Pattern.TRACE:
        return _repeated(shape.trace_s)
    if shape.pattern is Pattern.POISSON:
        return _poisson(shape.offered_load / service_s, rng)
    return _bursts(shape, service_s, rng)


def read_trace(path: Path) -> tuple[float, ...]:
    """Arrival instants from a text file: an offset in seconds at the start of each line, ``#`` comments allowed.

    Raises:
        SettingsError: unreadable, empty, not numbers, or not ascending.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in lines"
        raise SettingsError(f"{path}: {reason}; name a file with an offset in seconds on each line") from None
    instants: list[float] = []
    for row in rows:
        try:
            instant = float(row[0])
        except ValueError:
            raise SettingsError(f"{path}: {row[0]!r} is not a number of seconds") from None
        if not (math.isfinite(instant) and instant >= (instants[-1] if instants else 0.0)):
            raise SettingsError(f"{path}: offsets must be finite, not negative and ascend; {row[0]} is not")
        instants.append(instant)
    if not instants:
        raise SettingsError(f"{path}: holds no arrival; write an offset in seconds on each line")
    return tuple(instants)


def _poisson(rate: float, rng: random.Random) -> Iterator[float]:
    now_s = 0.0
    while True:
        now_s += rng.expovariate(rate)
        yield now_s


def _bursts(shape: LoadShape, service_s: float, rng: random.Random) -> Iterator[float]:
    peak_rate = shape.peak_load / service_s

    def period_s(mean_s: float) -> float:
        if shape.pattern is Pattern.HEAVY:
            return _pareto_s(mean_s, rng)
        return _gamma_s(mean_s, shape.burst_variation, rng)

    # A run must not always begin with a quiet period.
    is_on = rng.random() < shape.on_share
    begin_s = 0.0
    while True:
        end_s = begin_s + period_s(shape.burst_s if is_on else shape.off_s)
        if is_on:
            now_s = begin_s + rng.expovariate(peak_rate)
            while now_s < end_s:
                yield now_s
                now_s += rng.expovariate(peak_rate)
        begin_s = end_s
        is_on = not is_on


def _gamma_s(mean_s: float, variation: float, rng: random.Random) -> float:
    if mean_s <= 0.0 or variation < 1e-3:
        return mean_s
    shape = 1.0 / (variation * variation)
    return rng.gammavariate(shape, mean_s / shape)


def _pareto_s(mean_s: float, rng: random.Random) -> float:
    # Cut off so that one period cannot fill a whole run; the scale keeps the mean in spite of the cut.
    shape, cut = _PARETO_SHAPE, _LONGEST_PERIOD_MEANS
    shortest = _pareto_shortest(shape, cut)
    return mean_s * min(shortest * rng.paretovariate(shape), cut)


def _pareto_shortest(shape: float, cut: float) -> float:
    """Scale x of a Pareto variable cut off at ``cut`` whose mean is 1: x * (s - (x / cut)**(s - 1)) / (s - 1) = 1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        mean = middle * (shape - (middle / cut) ** (shape - 1.0)) / (shape - 1.0)
        low, high = (middle, high) if mean < 1.0 else (low, middle)
    return low


def _repeated(instants_s: Sequence[float]) -> Iterator[float]:
    # A period of the last instant plus one mean gap, so that the end and the next start do not fall together.
    last_s = instants_s[-1]
    period_s = last_s + (last_s / (len(instants_s) - 1) if len(instants_s) > 1 and last_s > 0.0 else 1.0)
    begin_s = 0.0
    while True:
        for instant_s in instants_s:
            yield begin_s + instant_s
        begin_s += period_s
