"""The load that the twin itself has directed to an edge, as far as what the edge tells of itself cannot show it yet.

An edge tells the mean of its backlog with exponential forgetting, so that what began to arrive some time ago shows in
it by the share of that time that is not forgotten. Whoever chooses by such old news alone sends everybody to the edge
that was idle a while ago, and then everybody back: the herd that Mitzenmacher ("How useful is old information?", 2000)
and Dahlin ("Interpreting stale load information", 2000) describe. The remedy is the latter's: news are interpreted by
what is known to have been sent since. Sans-IO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twinsplit.reckoning import BACKLOG_MEAN_HORIZON_S

_HIGHEST_SHARE = 0.9
"""Up to here the mean backlog grows as queueing theory says; beyond, along its tangent, so that of two edges that are
to get more than they can do the one with less is still the better one."""


@dataclass(slots=True)
class _Placement:
    edge_id: str
    share: float
    at_s: float


class DirectedLoad:
    """By edge, the share of its time that devices take which were sent there, or away, not long ago."""

    def __init__(self) -> None:
        self._by_device: dict[str, _Placement] = {}
        self._by_edge: dict[str, tuple[float, float]] = {}
        """(Share that is not seen yet, instant at which it was that)."""

    def placed(self, device_id: str, edge_id: str | None, share: float, now_s: float) -> None:
        """A device that takes ``share`` of an edge's time uses this one from now on; ``None``: none."""
        before = self._by_device.pop(device_id, None)
        if before is not None:
            if before.edge_id == edge_id:
                self._by_device[device_id] = before
                return
            self._add(before.edge_id, -before.share, now_s)
        if edge_id is not None:
            self._by_device[device_id] = _Placement(edge_id, share, now_s)
            self._add(edge_id, share, now_s)

    def offers(self, device_id: str, share: float, now_s: float) -> None:
        """A device is known to take another share than it was thought to, and has all the time."""
        placement = self._by_device.get(device_id)
        if placement is not None:
            unseen = _forgotten(now_s - placement.at_s)
            self._add(placement.edge_id, (share - placement.share) * unseen, now_s)
            placement.share = share

    def gone(self, device_id: str) -> None:
        """A device has left; what it took is seen to be missing soon enough."""
        self._by_device.pop(device_id, None)

    def forget(self, edge_id: str) -> None:
        """An edge begins anew, or is forgotten."""
        self._by_edge.pop(edge_id, None)

    def unseen(self, edge_id: str, now_s: float) -> float:
        """Share of the edge's time that the mean backlog which it tells does not show; negative: shows still."""
        share, at_s = self._by_edge.get(edge_id, (0.0, now_s))
        return share * _forgotten(now_s - at_s)

    def _add(self, edge_id: str, share: float, now_s: float) -> None:
        self._by_edge[edge_id] = (self.unseen(edge_id, now_s) + share, now_s)


def mean_backlog_s(mean_s: float, busy_share: float, added_share: float, tail_s: float) -> float:
    """Mean backlog of an edge when tails of ``tail_s`` take ``added_share`` more of its time, seconds.

    Pollaczek-Khinchine: the mean is what jobs bring, the rate times half their mean square, over the share of time that
    is left. The first follows from the mean and the busy share that were seen, and what is added is known.

    Args:
        mean_s: mean backlog seen, while the edge was busy for ``busy_share`` of the time.
        added_share: may be negative: so much less.
    """
    if added_share == 0.0:
        return mean_s
    brought_s = mean_s * _left(busy_share) + 0.5 * added_share * tail_s
    return max(brought_s, 0.0) / _left(busy_share + added_share)


def _left(share: float) -> float:
    """Share of time that is left, continued beyond what can be."""
    if share <= 0.0:
        return 1.0
    if share <= _HIGHEST_SHARE:
        return 1.0 - share
    most = 1.0 / (1.0 - _HIGHEST_SHARE)
    return 1.0 / (most + most * most * (share - _HIGHEST_SHARE))


def _forgotten(elapsed_s: float) -> float:
    return math.exp(-max(elapsed_s, 0.0) / BACKLOG_MEAN_HORIZON_S)
