"""Which edge a device's plan names, and which others it is told of (design section 7). Sans-IO.

Two edges differ in what sending each payload costs: the way there, the wait, the tail, the energy of sending. A task is
sent once at most, so two plans that differ in nothing else differ in expected utility by no more than the largest of
these differences. Where that bound is within the margin nothing else is looked at; only beyond it is the rule evaluated
for both edges.

Thousands of devices see the same backlogs. So that they do not run after one another, the wait at an edge is reckoned
with what was directed there lately (:mod:`twin_service.directed_load`), and a device that has an edge looks at few
others at a time, drawn by its name: of two edges drawn at random the better one is nearly as good as the best of all
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001), and no two replicas of the twin, which do
not know what the other one directs, send all of theirs to the same edge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.situation import Situation
from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.directed_load import DirectedLoad, mean_backlog_s
from twin_service.edge_twin import EdgeTwin
from twin_service.edges import Edges
from twinsplit.edge_list import MOST_LISTED, ListedEdge
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import BACKLOG_MEAN_HORIZON_S

Array = NDArray[np.float64]

ANY_BACKLOG_S = (0.0, 1000.0)
"""A backlog hides the way to an edge: at whatever backlog two edges have alike, what a payload costs by them differs by
something between what it does where both are idle and where both are never idle."""
_HORIZON_S = BACKLOG_MEAN_HORIZON_S
"""Backlogs are compared as they are expected to be over this time: a device stays longer than a burst lasts."""
_DRAWN = 2
"""Edges at which a device that has one looks besides those that it was told of,"""
_DRAWN_FOR_S = 5.0
"""and time for which they stay the same."""
_CHALLENGE_S = 30.0
"""An edge that was not found better is weighed again after this time, or when the bound has grown by"""
_CHALLENGE_GROWTH = 1.2
"""this factor."""
_PACE_SHARE = 0.125
"""Share of an edge's devices that may leave it for a better one within"""
_PACE_S = 1.0
"""this time, one at least: the backlogs must show what the first ones did before the others follow."""
_DOUBT_SHARE = 0.5
"""A shorter wait elsewhere counts for nothing but what it is shorter by than this share of the wait here: a mean over
some bursts is hardly known better than that, and whoever follows each of its turns always comes too late."""
_STAY_S = BACKLOG_MEAN_HORIZON_S
"""A device that has left an edge for a better one does not leave that one for another before this time is over: sooner
nothing that is told shows what its coming has changed."""
_ASSUMED_RATE_PER_S = 1.0
"""Tasks of a device that has not told of any yet."""


class Link(NamedTuple):
    """The way from a device to an edge."""

    goodput_bytes_per_s: float
    round_trip_s: float


SituationAt = Callable[[DeviceTwin, "EdgeTwin | None", float], Situation]
LinkTo = Callable[[DeviceTwin, "str | None"], Link]


@dataclass(frozen=True, slots=True)
class Way:
    """One edge as a device sees it."""

    edge: EdgeTwin
    wait_s: float
    """Backlog expected over the time for which a choice holds, or what the device takes for the whole network: a task
    for which the backlog is longer does not wait for it."""
    costs_s: Array  # (backlogs, payloads) from sending a payload to its answer, and the price of the energy
    quickest_s: float
    """Service start to answer with the payload that is quickest, the same price included."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The edge that a plan is made for, and one that may be better."""

    edge: EdgeTwin | None
    """``None``: there is none."""
    challenger: EdgeTwin | None = None
    """Weighed against ``edge`` by what plans with either are worth; ``None``: no other can be clearly better."""
    bound_s: float = 0.0
    """What the challenger may be better by, at most."""
    needed_s: float = 0.0
    """What it must be better by."""


class EdgeChooser:
    """Chooses for every device among the edges that hold its model."""

    def __init__(self, situation: SituationAt, link: LinkTo, margin_s: float) -> None:
        """
        Args:
            situation: what a rule is told about a device with an edge.
            link: the way from a device to an edge, as far as it is known.
            margin_s: expected utility per task, seconds, that another edge must promise more before plans change to it.
        """
        self._situation = situation
        self._link = link
        self._margin_s = margin_s
        self._named: Counter[str] = Counter()
        self._directed = DirectedLoad()
        self._about: dict[str, tuple[int, float]] = {}
        """By edge, devices of the batch in hand that are about to get it, and the share of its time that they take."""
        self._left: dict[str, tuple[float, int]] = {}
        """By edge: since when, and how many devices have left it for a better one."""
        self._came_at_s: dict[str, float] = {}
        """By device that has left an edge for a better one: when."""

    def devices_at(self, edge_id: str) -> int:
        """Devices whose standing plan names that edge."""
        return self._named[edge_id]

    def choices(self, devices: Iterable[DeviceTwin], edges: Edges, now_s: float) -> list[Choice]:
        """As :meth:`choice`, for devices that get their plans together: those that have no edge yet are shared out as
        if they came one after the other."""
        found = []
        for device in devices:
            choice = self.choice(device, edges, now_s)
            if choice.edge is not None and (device.standing is None or device.standing.plan.edge_id is None):
                count, share = self._about.get(choice.edge.edge_id, (0, 0.0))
                more = offered_share(device, choice.edge, now_s)
                self._about[choice.edge.edge_id] = (count + 1, share + more)
            found.append(choice)
        self._about.clear()
        return found

    def choice(self, device: DeviceTwin, edges: Edges, now_s: float) -> Choice:
        """The edge of the standing plan while it can be used, and a challenger; else the most promising edge.

        Edges of which none would be left for another one share the devices that have none yet.
        """
        usable = edges.usable(device)
        if len(usable) <= 1:
            return Choice(usable[0] if usable else None)
        status = device.status
        current = edges.planned(device)
        if current is None or not status.reaches(current.edge_id):
            reachable = [edge for edge in usable if status.reaches(edge.edge_id)]
            if current is None or reachable:
                return Choice(self._most_promising(device, reachable or usable, now_s))
            return Choice(current)
        self._directed.offers(device.device_id, offered_share(device, current, now_s), now_s)
        others = [edge for edge in self._others(device, usable, edges, now_s) if status.reaches(edge.edge_id)]
        is_new = now_s < self._came_at_s.get(device.device_id, -math.inf) + _STAY_S
        if is_new or not others or not self.may_leave(current.edge_id, now_s):
            return Choice(current)
        own, *ways = self._ways(device, [current, *others], now_s)
        best = min(ways, key=lambda way: way.quickest_s)
        bound_s = float((own.costs_s - best.costs_s).max(initial=0.0))
        needed_s = self._needed_s(own, best)
        return Choice(current, best.edge, bound_s, needed_s) if bound_s > needed_s else Choice(current)

    @staticmethod
    def stands(device: DeviceTwin, edges: Edges) -> bool:
        """Whether the edge of the standing plan can be used as the plan says; a plan without an edge stands while there
        is none."""
        assert device.standing is not None
        plan, usable = device.standing.plan, edges.usable(device)
        if plan.edge_id is None:
            return not usable
        current = edges.planned(device)
        if current is None or current.address != plan.edge_address:
            return False
        return len(usable) == 1 or device.status.reaches(current.edge_id)

    @staticmethod
    def is_challenged(standing: StandingPlan, choice: Choice, now_s: float) -> bool:
        """Whether a challenger is to be weighed that was not found wanting just before, by much the same numbers."""
        if choice.challenger is None:
            return False
        before = standing.challenge
        if before is None or before.edge_id != choice.challenger.edge_id or now_s > before.at_s + _CHALLENGE_S:
            return True
        return choice.bound_s > _CHALLENGE_GROWTH * before.bound_s

    def named(self, device: DeviceTwin, before: str | None, edge: EdgeTwin | None, now_s: float) -> None:
        """A device's plan names ``edge`` and no longer ``before``; ``None``: no edge."""
        self._count(before, None if edge is None else edge.edge_id)
        share = 0.0 if edge is None else offered_share(device, edge, now_s)
        self._directed.placed(device.device_id, None if edge is None else edge.edge_id, share, now_s)

    def plan_gone(self, device_id: str, edge_id: str | None) -> None:
        """The plan of a device that has gone named this edge."""
        self._count(edge_id, None)
        self._directed.gone(device_id)
        self._came_at_s.pop(device_id, None)

    def left_for_better(self, device_id: str, edge_id: str, now_s: float) -> None:
        """A device's plan names a better edge than this one from now on."""
        self._came_at_s[device_id] = now_s
        since_s, count = self._left.get(edge_id, (now_s, 0))
        self._left[edge_id] = (now_s, 1) if now_s >= since_s + _PACE_S else (since_s, count + 1)

    def forget(self, edge_id: str) -> None:
        """An edge is forgotten, or begins anew."""
        self._left.pop(edge_id, None)
        self._directed.forget(edge_id)

    def listed(self, device: DeviceTwin, edges: Edges, now_s: float) -> tuple[ListedEdge, ...]:
        """What a device is told of the edges that it may use: its plan's first, the others by promise. Those that it
        was told before stay until others are better by the margin, and of others that promise the same each device
        gets some, drawn by its name: it keeps a connection to each."""
        usable = edges.usable(device)
        if len(usable) <= 1:
            return self._told(device, usable, now_s)
        current = edges.planned(device)
        is_first = current is None or not device.told_edges
        seen = usable if is_first else self._others(device, usable, edges, now_s)
        # Of two edges that claim one address a device could not tell which one answers.
        by_address = {edge.address: edge for edge in (*seen, *([current] if current else []))}
        before = {edge.edge_id for edge in device.told_edges}
        ways = self._ways(device, list(by_address.values()), now_s)
        promised_s = {
            way.edge.edge_id: way.quickest_s + self._margin_s * _drawn_share(device.device_id, way.edge.edge_id)
            for way in ways
        }
        others = [way.edge for way in ways if way.edge is not current]
        others.sort(key=lambda edge: promised_s[edge.edge_id] - self._margin_s * (edge.edge_id in before))
        chosen = others[: MOST_LISTED - (current is not None)]
        chosen.sort(key=lambda edge: promised_s[edge.edge_id])
        return self._told(device, [current, *chosen] if current is not None else chosen, now_s)

    def backlog_s(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
        """Backlog that a device would meet at an edge over the time for which a choice holds, seconds of service."""
        tails_s = edge.tail_s(device.status.hello.model_digest) or (0.0,)
        added = self._directed.unseen(edge.edge_id, now_s) + self._about.get(edge.edge_id, (0, 0.0))[1]
        if device.standing is None or device.standing.plan.edge_id != edge.edge_id:
            added += _rate_per_s(device, now_s) * tails_s[0]
        mean_s = mean_backlog_s(edge.reading.mean_s, edge.busy_share, added, tails_s[0])
        return edge.expected_backlog_s(now_s, _HORIZON_S, mean_s)

    def quickest_s(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
        """Service start to answer by an edge with the quickest payload, and the price of its energy, seconds."""
        return self._ways(device, [edge], now_s)[0].quickest_s

    def may_leave(self, edge_id: str, now_s: float) -> bool:
        """Whether one more device may leave an edge for a better one now."""
        since_s, count = self._left.get(edge_id, (now_s, 0))
        return now_s >= since_s + _PACE_S or count < max(1, int(_PACE_SHARE * self._named[edge_id]))

    def _most_promising(self, device: DeviceTwin, edges: Sequence[EdgeTwin], now_s: float) -> EdgeTwin:
        ways = self._ways(device, edges, now_s)
        best = min(ways, key=lambda way: way.quickest_s)
        alike = [way for way in ways if way.quickest_s <= best.quickest_s + self._needed_s(way, best)]

        def devices(way: Way) -> int:
            return self._named[way.edge.edge_id] + self._about.get(way.edge.edge_id, (0, 0.0))[0]

        return min(alike, key=lambda way: (devices(way), way.quickest_s)).edge

    def _needed_s(self, way: Way, other: Way) -> float:
        """What the edge of ``other`` must promise to be better by than the one of ``way``."""
        return self._margin_s + min(max(way.wait_s - other.wait_s, 0.0), _DOUBT_SHARE * way.wait_s)

    @staticmethod
    def _others(device: DeviceTwin, usable: Sequence[EdgeTwin], edges: Edges, now_s: float) -> list[EdgeTwin]:
        """Those at which a device looks that has an edge: all where they are few; else those that it was told of, whose
        links it knows, and some that are drawn."""
        current = edges.planned(device)
        if len(usable) <= MOST_LISTED + _DRAWN:
            return [edge for edge in usable if edge is not current]
        drawn = [usable[place] for place in _drawn(device.device_id, int(now_s / _DRAWN_FOR_S), len(usable))]
        told = [edge for each in device.told_edges if (edge := edges.usable_by(device, each.edge_id)) is not None]
        return list({edge.edge_id: edge for edge in (*told, *drawn) if edge is not current}.values())

    def _ways(self, device: DeviceTwin, edges: Sequence[EdgeTwin], now_s: float) -> list[Way]:
        """The ways to all ``edges``, in their order, reckoned at once."""
        digest = device.status.hello.model_digest
        situation = self._situation(device, edges[0], now_s)
        cuts, sizes = payload_sizes(situation.manifest, situation.is_tensors_only)
        tails_s = np.array([edge.tail_s(digest) for edge in edges])[:, cuts]
        links = np.array([self._link(device, edge.edge_id) for edge in edges])
        backlogs_s = np.empty((len(edges), 1 + len(ANY_BACKLOG_S)))
        backlogs_s[:, 1:] = ANY_BACKLOG_S
        backlogs_s[:, 0] = [self.backlog_s(device, edge, now_s) for edge in edges]
        costs_s = _costs_s(situation, links, backlogs_s, tails_s, sizes)
        reached_s = np.concatenate(([0.0], np.cumsum(situation.segment_s)))
        waits_s = np.minimum(backlogs_s[:, 0], reached_s[-1]).tolist()
        quickest_s = (reached_s[cuts] + costs_s[:, 0]).min(axis=1, initial=np.inf).tolist()
        return [Way(*way) for way in zip(edges, waits_s, costs_s, quickest_s, strict=True)]

    def _count(self, before: str | None, after: str | None) -> None:
        if before is not None:
            self._named[before] -= 1
            if self._named[before] <= 0:
                del self._named[before]
        if after is not None:
            self._named[after] += 1

    @staticmethod
    def _told(device: DeviceTwin, edges: Iterable[EdgeTwin], now_s: float) -> tuple[ListedEdge, ...]:
        digest = device.status.hello.model_digest
        return tuple(
            ListedEdge(edge.edge_id, edge.address, edge.tail_s(digest) or (), edge.reading_at(now_s)) for edge in edges
        )


def offered_share(device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
    """Share of an edge's time that the whole network takes there for all tasks of a device: the most that it may."""
    tails_s = edge.tail_s(device.status.hello.model_digest)
    return _rate_per_s(device, now_s) * tails_s[0] if tails_s else 0.0


def _rate_per_s(device: DeviceTwin, now_s: float) -> float:
    return device.status.task_rate_per_s(now_s) or _ASSUMED_RATE_PER_S


def payload_costs_s(situation: Situation, backlogs_s: Array, cuts: NDArray[np.intp], sizes: Array) -> Array:
    """From the sending of each payload to its answer, and the price of the energy, seconds.  # (backlogs, payloads)"""
    assert situation.tail_s is not None
    link = np.array([(situation.goodput_bytes_per_s, situation.overhead_s)])
    costs_s: Array = _costs_s(situation, link, backlogs_s[None], np.array(situation.tail_s)[None, cuts], sizes)[0]
    return costs_s


def _costs_s(situation: Situation, links: Array, backlogs_s: Array, tails_s: Array, sizes: Array) -> Array:
    """The same for edges (E, backlogs) behind links (E, 2) with tails (E, payloads).  # (E, backlogs, payloads)"""
    sending_s = sizes / links[:, :1]
    weights = situation.weights
    busy_s = np.maximum((links[:, 1:] + sending_s)[:, None], backlogs_s[:, :, None])
    costs_s: Array = busy_s + (tails_s + weights.beta_s_per_joule * weights.transmit_watts * sending_s)[:, None]
    return costs_s


@lru_cache(maxsize=64)
def payload_sizes(manifest: Manifest, is_tensors_only: bool) -> tuple[NDArray[np.intp], Array]:
    """Cut and bytes of every payload that a device may send, one row per representation offered."""
    rows = [
        (cut.index, representation.mean_bytes)
        for cut in manifest.cuts[manifest.first_sent_cut(is_tensors_only=is_tensors_only) : manifest.held_segments + 1]
        if cut.index < manifest.segment_count
        for representation in cut.representations
        if representation.is_offered
    ]
    return np.array([cut for cut, _ in rows], dtype=np.intp), np.array([size for _, size in rows], dtype=np.float64)


def has_changed(told: Sequence[ListedEdge], now: Sequence[ListedEdge]) -> bool:
    """Whether a device that was told one list is to be told the other: its members have changed, or one has become
    much busier or idler. A list of one edge is told only in place of a longer one: the plan names it anyway."""
    if len(now) < 2 and len(told) < 2:
        return False
    before = {edge.edge_id: edge for edge in told}
    if {(edge.edge_id, edge.address) for edge in told} != {(edge.edge_id, edge.address) for edge in now}:
        return True
    return any(_has_moved(before[edge.edge_id].backlog.mean_s, edge.backlog.mean_s) for edge in now)


def _has_moved(before_s: float, now_s: float) -> bool:
    return abs(now_s - before_s) > max(_NOTICEABLE_MEAN_S, _NOTICEABLE_MEAN_SHARE * before_s)


_NOTICEABLE_MEAN_S = 0.05
_NOTICEABLE_MEAN_SHARE = 0.5


def _drawn(device_id: str, turn: int, count: int) -> set[int]:
    """Some of ``count`` places, others for each device and turn."""
    drawn = blake2b(f"{device_id}/{turn}".encode(), digest_size=8 * _DRAWN).digest()
    return {int.from_bytes(drawn[at : at + 8], "big") % count for at in range(0, len(drawn), 8)}


def _drawn_share(device_id: str, edge_id: str) -> float:
    """A number from 0 to 1 that belongs to a device and an edge."""
    return int.from_bytes(blake2b(f"{device_id}/{edge_id}".encode(), digest_size=4).digest(), "big") / 2**32
