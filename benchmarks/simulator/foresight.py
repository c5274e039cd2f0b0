"""What is to come to a simulated device, as it will be (``...Ahead``) or as it has to be expected (``...Expected``)."""

from __future__ import annotations

from bisect import bisect_right, insort
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from twin_service.decision.statistics import Array
from twinsplit.reckoning import predicted_backlog_s

if TYPE_CHECKING:
    from benchmarks.simulator.edge import SimulatedEdge

_READ_AHEAD_S = 20.0
"""Other users' jobs are read in pieces of at least this length."""


class Foresight(Enum):
    """What somebody may know ahead."""

    ARRIVALS = "arrivals"
    """Tasks of the device itself."""
    LOAD = "load"
    """What comes to the edge."""
    UPLINK = "uplink"
    """Rates of the device's uplink."""


class EdgeAhead:
    """What will come to one edge: other users' jobs, and tails on their way."""

    def __init__(self, edge: SimulatedEdge) -> None:
        self._edge = edge
        self._known_until_s = -np.inf
        self._at_s = np.empty(0)
        self._service_s = np.empty(0)
        self._coming: list[tuple[float, float]] = []

    def sent(self, arrives_s: float, service_s: float) -> None:
        """A tail is on its way."""
        insort(self._coming, (arrives_s, service_s))

    def waits_s(self, now_s: float, arrives_s: Array) -> Array:
        """What tails would wait that arrived at ``arrives_s`` (of any shape), each on its own: first in, first out."""
        at_s, service_s = self._between(now_s, float(arrives_s.max()))
        done_s = np.cumsum(service_s)
        # The server is free after job n at S_n + max over j <= n of (arrival_j - S_{j-1}), S being the work summed up.
        begun_s = np.maximum.accumulate(
            np.concatenate(([now_s + self._edge.backlog_s(now_s)], at_s - done_s + service_s))
        )
        free_s = begun_s + np.concatenate(([0.0], done_s))
        waits_s: Array = np.maximum(free_s[np.searchsorted(at_s, arrives_s, side="right")] - arrives_s, 0.0)
        return waits_s

    def _between(self, now_s: float, until_s: float) -> tuple[Array, Array]:
        """Arrivals after ``now_s`` up to ``until_s``, in order, and their service times."""
        if until_s > self._known_until_s:
            self._read(now_s, until_s + _READ_AHEAD_S)
        first, last = np.searchsorted(self._at_s, (now_s, until_s), side="right")
        at_s, service_s = self._at_s[first:last], self._service_s[first:last]
        del self._coming[: bisect_right(self._coming, (now_s, np.inf))]
        if self._coming:
            coming = np.array(self._coming)
            places = np.searchsorted(at_s, coming[:, 0], side="right")
            at_s, service_s = np.insert(at_s, places, coming[:, 0]), np.insert(service_s, places, coming[:, 1])
        return at_s, service_s

    def _read(self, now_s: float, until_s: float) -> None:
        jobs = np.array(list(self._edge.jobs.between(now_s, until_s))).reshape(-1, 2)
        self._at_s, self._service_s = jobs[:, 0], jobs[:, 1]
        self._known_until_s = until_s


class QueueAhead:
    """A device's queue while the task in service stays there, from the arrivals to come."""

    def __init__(self, length: int, now_s: float, arrivals_s: Array) -> None:
        """``length``: tasks waiting now. ``arrivals_s``: ascending, those of the past too."""
        self._length = length
        self._now_s = now_s
        self._arrivals_s = arrivals_s

    def area_s(self, until_s: Array) -> Array:
        """Integral of the queue length from now to ``until_s`` (of any shape), seconds."""
        first, last = np.searchsorted(self._arrivals_s, (self._now_s, until_s.max()), side="right")
        came_s = self._arrivals_s[first:last]
        area: Array = self._length * (until_s - self._now_s)
        if last > first:
            came = np.searchsorted(came_s, until_s, side="right")
            area = area + came * until_s - np.concatenate(([0.0], np.cumsum(came_s)))[came]
        return area


class QueueExpected:
    """The same where tasks come at a steady rate, in fractions."""

    def __init__(self, length: int, now_s: float, task_rate_per_s: float) -> None:
        self._length = length
        self._now_s = now_s
        self._task_rate_per_s = task_rate_per_s

    def area_s(self, until_s: Array) -> Array:
        """Integral of the expected queue length from now to ``until_s`` (of any shape), seconds."""
        stay_s = until_s - self._now_s
        return self._length * stay_s + 0.5 * self._task_rate_per_s * stay_s * stay_s


def waits_expected_s(edge: SimulatedEdge, now_s: float, arrives_s: Array) -> Array:
    """Backlog by dead reckoning at ``arrives_s`` (of any shape), from the edge's true state now."""
    edge.advance(now_s)
    state = edge.queue.backlog_state(now_s)
    found = (predicted_backlog_s(state, at_s) for at_s in arrives_s.ravel().tolist())
    return np.fromiter(found, dtype=float, count=arrives_s.size).reshape(arrives_s.shape)
