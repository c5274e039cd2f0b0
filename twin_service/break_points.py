"""What a moved backlog costs: break points per plan, and intervals sorted per edge (design section 7).

One report of a busy edge must not cost work for ten thousand devices. Each device leaves, at its edge, the interval
of backlog within which deciding by what it holds costs too little for a message; a report looks only at the intervals
that it falls out of.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

import numpy as np

from twin_service.decision.regret import BacklogRegret
from twinsplit.plan import QUEUE_LEVELS

_LEAST_SLOPE = 1e-4
"""Seconds lost per second of backlog below which a break point is of no account."""

_LEAST_SHARE = 0.005
"""Queue lengths that are less likely are left out."""

QueueShares = tuple[float, ...]
"""By queue length of plans (0, 1, 2, 3 and more), how likely it is."""

Points = Sequence[tuple[float, float]]
"""Ascending break points: seconds of backlog, and the expected utility lost per second beyond."""


class PlanBreakPoints:
    """The break points of backlog of one plan that matter, by (epoch, queue length), and what it costs to decide as on
    the wrong side of them."""

    def __init__(self, band_edges_s: Sequence[float], regret: BacklogRegret) -> None:
        self.ceiling_s = regret.ceiling_s
        """Backlog above which hardly any decision depends on it."""
        self._edges_s = band_edges_s
        # Read number by number, and a fifth of what lists of them take.
        self._going_on = np.ascontiguousarray(regret.going_on).data
        epochs, queues, _ = regret.slope.shape
        points: list[list[list[tuple[float, float]]]] = [[[] for _ in range(queues)] for _ in range(epochs)]
        matter = np.nonzero(regret.slope >= _LEAST_SLOPE)
        for epoch, queue, edge, slope in zip(*(each.tolist() for each in (*matter, regret.slope[matter])), strict=True):
            points[epoch][queue].append((band_edges_s[edge], slope))
        self._points = [[tuple(row) for row in by_queue] for by_queue in points]

    def at(self, epoch: int, queue: QueueShares) -> Points:
        """Those at ``epoch``."""
        by_length = self._points[epoch]
        found: list[tuple[float, float]] = []
        for length, share in enumerate(queue):
            if share == 1.0:
                return by_length[length]
            if share >= _LEAST_SHARE:
                found += [(at_s, share * slope) for at_s, slope in by_length[length]]
        found.sort()
        return found

    def share_going_on(self, epoch: int, queue: QueueShares, backlog_s: float) -> float:
        """Share of the samples at ``epoch`` for which the plan says CONTINUE."""
        band, found = bisect_right(self._edges_s, backlog_s), 0.0
        for length, share in enumerate(queue):
            if share > 0.0:
                found += share * self._going_on[epoch, length, band]
        return found


def lost_s(points: Points, held_s: float, true_s: float) -> float:
    """Expected utility lost by a task that is decided by ``held_s`` when the backlog is ``true_s``."""
    if not points:
        return 0.0
    low_s, high_s = (held_s, true_s) if held_s < true_s else (true_s, held_s)
    return sum(slope * abs(true_s - point_s) for point_s, slope in points if low_s < point_s <= high_s)


def tolerated_s(points: Points, held_s: float, loss_s: float) -> tuple[float, float]:
    """The backlogs with which deciding by ``held_s`` loses at most ``loss_s``; ``-inf`` or ``inf`` where none loses
    more."""
    if not points:
        return -math.inf, math.inf
    above = bisect_right(points, (held_s, math.inf))
    upwards = _farthest([(p - held_s, slope) for p, slope in points[above:]], loss_s)
    downwards = _farthest([(held_s - p, slope) for p, slope in reversed(points[:above])], loss_s)
    return held_s - downwards, held_s + upwards


def neighbours_s(points: Points, backlog_s: float) -> tuple[float, float]:
    """Neighbouring break points of ``backlog_s``: ``-inf`` or ``inf`` where there is none."""
    above = bisect_right(points, (backlog_s, math.inf))
    return points[above - 1][0] if above else -math.inf, points[above][0] if above < len(points) else math.inf


_SURE: tuple[QueueShares, ...] = tuple(
    tuple(float(level == length) for level in range(QUEUE_LEVELS)) for length in range(QUEUE_LEVELS)
)


def queue_shares(length: int, arriving: float = 0.0) -> QueueShares:
    """Shares of the queue lengths of plans where ``length`` tasks wait and ``arriving`` more are expected (Poisson)."""
    if arriving == 0.0:
        return _SURE[min(length, QUEUE_LEVELS - 1)]
    shares = [0.0] * QUEUE_LEVELS
    exactly, left = math.exp(-arriving), 1.0
    for level in range(length, QUEUE_LEVELS - 1):
        shares[level] = exactly
        left -= exactly
        exactly *= arriving / (level - length + 1)
    shares[-1] = max(left, 0.0)
    return tuple(shares)


def queue_shares_at_start(length: int, arriving: float) -> QueueShares:
    """The same of those that are left waiting when the next task starts, if one does."""
    if length > 0:
        return queue_shares(length - 1, arriving)
    some = -math.expm1(-arriving)
    if some <= 0.0:
        return queue_shares(0)
    shares, exactly = [], math.exp(-arriving) / some
    for number in range(1, QUEUE_LEVELS):  # the first of them starts
        exactly *= arriving / number
        shares.append(exactly)
    return (*shares, max(1.0 - sum(shares), 0.0))


def _farthest(points: Sequence[tuple[float, float]], loss_s: float) -> float:
    """How far one may go before ``points`` (distance, slope), nearest first, have cost ``loss_s``."""
    steepness = passed = 0.0
    for distance_s, slope in points:
        if steepness * distance_s - passed > loss_s:
            break
        steepness += slope
        passed += slope * distance_s
    return (loss_s + passed) / steepness if steepness > 0.0 else math.inf


class SortedIntervals:
    """Intervals [low, high) by device, so that a value finds those that do not hold it without a look at the others."""

    def __init__(self) -> None:
        self._lows: list[tuple[float, str]] = []
        self._highs: list[tuple[float, str]] = []
        self._by_device: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    @property
    def highest(self) -> float | None:
        """Highest upper end; ``None``: no interval has one."""
        return self._highs[-1][0] if self._highs else None

    def put(self, device_id: str, low: float, high: float) -> None:
        """Set the interval of ``device_id``; an unbounded side is not kept."""
        if self._by_device.get(device_id) == (low, high):
            return
        self.discard(device_id)
        if low == -math.inf and high == math.inf:
            return
        self._by_device[device_id] = (low, high)
        if low > -math.inf:
            insort(self._lows, (low, device_id))
        if high < math.inf:
            insort(self._highs, (high, device_id))

    def discard(self, device_id: str) -> None:
        """Forget the interval of ``device_id``, if there is one."""
        interval = self._by_device.pop(device_id, None)
        if interval is None:
            return
        low, high = interval
        if low > -math.inf:
            del self._lows[bisect_left(self._lows, (low, device_id))]
        if high < math.inf:
            del self._highs[bisect_left(self._highs, (high, device_id))]

    def left_by(self, value: float) -> list[str]:
        """Devices whose interval does not hold ``value``."""
        below = [device_id for _, device_id in self._lows[bisect_right(self._lows, (value, "\uffff")) :]]
        above = [device_id for _, device_id in self._highs[: bisect_right(self._highs, (value, "\uffff"))]]
        return below + above
