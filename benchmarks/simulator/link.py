"""Uplinks: a FIFO whose rate changes from instant to instant, drawn ahead of time so that all rules meet the same."""

from __future__ import annotations

import csv
import random
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path

from benchmarks.scenario import Scenario
from benchmarks.streams import stream_seed
from twinsplit.errors import SettingsError


class Link:
    """One device's uplink. Instants from 0 on; before, the first rate holds."""

    def __init__(self, scenario: Scenario, device: int) -> None:
        """
        Raises:
            SettingsError: the trace cannot be used, or no rate is stated.
        """
        self._changes = rate_changes(scenario, device)
        self._starts_s: list[float] = []
        self._rates: list[float] = []
        self._free_at_s = 0.0
        self._current = 0
        self._grow(0.0)

    def bytes_per_s(self, now_s: float) -> float:
        """Rate at ``now_s``."""
        return self._rates[self._index(now_s)]

    def busy_s(self, now_s: float) -> float:
        """Time until everything handed over so far has left."""
        return max(self._free_at_s - now_s, 0.0)

    def hand_over(self, wire_bytes: float, now_s: float) -> float:
        """Queue a payload at ``now_s``: the instant at which its last byte leaves."""
        self._free_at_s = self.departure_s(wire_bytes, max(now_s, self._free_at_s))
        return self._free_at_s

    def departure_s(self, wire_bytes: float, begin_s: float) -> float:
        """Instant at which the last byte leaves of a payload whose first one leaves at ``begin_s``."""
        index = self._index(begin_s)
        left = wire_bytes
        while True:
            end_s = self._starts_s[index + 1]
            can = (end_s - begin_s) * self._rates[index]
            if left <= can:
                return begin_s + left / self._rates[index]
            left -= can
            begin_s = end_s
            index += 1
            self._grow(begin_s)

    def _index(self, now_s: float) -> int:
        """Position of the rate that holds at ``now_s``."""
        self._grow(now_s)
        current = self._current
        if not self._starts_s[current] <= now_s < self._starts_s[current + 1]:
            current = self._current = max(bisect_right(self._starts_s, now_s) - 1, 0)
        return current

    def _grow(self, until_s: float) -> None:
        while len(self._starts_s) < 2 or self._starts_s[-1] <= until_s:
            start_s, rate = next(self._changes)
            self._starts_s.append(start_s)
            self._rates.append(rate)


def rate_changes(scenario: Scenario, device: int) -> Iterator[tuple[float, float]]:
    """(Instant, rate from then on), the first at 0; the last one never comes."""
    step_s = scenario.step_at_s if scenario.step_uplink_bytes_per_s is not None else None
    for start_s, rate in _unstepped(scenario, device):
        if step_s is not None and start_s >= step_s:
            break
        yield start_s, rate
    if step_s is not None:
        assert scenario.step_uplink_bytes_per_s is not None, "that is what makes a step"
        yield step_s, scenario.step_uplink_bytes_per_s
    yield float("inf"), 1.0


def _unstepped(scenario: Scenario, device: int) -> Iterator[tuple[float, float]]:
    if scenario.uplink == "trace":
        assert scenario.uplink_trace is not None, "checked when the scenario was made"
        yield from _repeated(read_link_trace(scenario.uplink_trace))
        return
    good = scenario.uplink_bytes_per_s
    if good is None:
        raise SettingsError("scenario: uplink_bytes_per_s: the simulator needs the rate of the uplink")
    if scenario.uplink == "fixed":
        yield 0.0, good
        return
    bad = scenario.uplink_bad_bytes_per_s
    assert bad is not None, "checked when the scenario was made"
    rng = random.Random(stream_seed(scenario.seed, "uplink", device))
    is_good = rng.random() * (scenario.uplink_good_s + scenario.uplink_bad_s) < scenario.uplink_good_s
    now_s = 0.0
    while True:
        yield now_s, good if is_good else bad
        now_s += rng.expovariate(1.0 / (scenario.uplink_good_s if is_good else scenario.uplink_bad_s))
        is_good = not is_good


def _repeated(changes: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
    if len(changes) == 1:
        yield changes[0]
        return
    period_s = changes[-1][0]
    for lap in count():
        for start_s, rate in changes[:-1]:
            yield lap * period_s + start_s, rate


@lru_cache(maxsize=16)
def read_link_trace(path: Path) -> tuple[tuple[float, float], ...]:
    """``offset_s,bytes_per_s`` on each line, ``#`` comments allowed; offsets ascend from 0.

    Raises:
        SettingsError: unreadable, or a line that does not fit.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise SettingsError(f"{path}: {reason}; name a file with offset_s,bytes_per_s on each line") from None
    changes: list[tuple[float, float]] = []
    for row in rows:
        try:
            offset_s, rate = float(row[0]), float(row[1])
        except (ValueError, IndexError):
            raise SettingsError(f"{path}: {','.join(row)!r} is not offset_s,bytes_per_s") from None
        is_ascending = offset_s > changes[-1][0] if changes else offset_s == 0.0
        if not (is_ascending and offset_s < float("inf") and 0.0 < rate < float("inf")):
            raise SettingsError(f"{path}: {','.join(row)}: offsets ascend from 0 and rates are above 0")
        changes.append((offset_s, rate))
    if not changes:
        raise SettingsError(f"{path}: holds no rate; write offset_s,bytes_per_s on each line")
    return tuple(changes)
