"""Which edge a device's plan names, and which others it is told of (design section 7). Sans-IO.

Two edges differ in what sending each payload costs: the way there, the wait, the tail, the energy of sending. A task is
sent once at most, so two plans that differ in nothing else differ in expected utility by no more than the largest of
these differences. Where that bound is within the margin nothing else is looked at; only beyond it is the rule evaluated
for both edges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.situation import Situation
from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.edge_twin import EdgeTwin
from twinsplit.edge_list import MOST_LISTED, ListedEdge
from twinsplit.model.manifest import Manifest

Array = NDArray[np.float64]
SituationAt = Callable[[DeviceTwin, "EdgeTwin | None", float], Situation]

ANY_BACKLOG_S = (0.0, 1000.0)
"""A backlog hides the way to an edge: at whatever backlog two edges have alike, what a payload costs by them differs by
something between what it does where both are idle and where both are never idle."""
_HORIZON_S = 2.0
"""Backlogs are compared as they are expected to be over this time: a plan stands longer than a burst."""
_CHALLENGE_S = 30.0
"""An edge that was not found better is weighed again after this time, or when the bound has grown by"""
_CHALLENGE_GROWTH = 1.2
"""this factor."""
_PACE_SHARE = 0.125
"""Share of an edge's devices that may leave it for a better one within"""
_PACE_S = 1.0
"""this time, one at least: the backlogs must show what the first ones did before the others follow."""


@dataclass(frozen=True, slots=True)
class Way:
    """One edge as a device sees it."""

    edge: EdgeTwin
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


class EdgeChooser:
    """Chooses for every device among the edges that hold its model."""

    def __init__(self, situation: SituationAt, margin_s: float) -> None:
        """
        Args:
            situation: what a rule is told about a device with an edge.
            margin_s: expected utility per task, seconds, that another edge must promise more before plans change to it.
        """
        self._situation = situation
        self._margin_s = margin_s
        self._named: Counter[str] = Counter()
        self._left: dict[str, tuple[float, int]] = {}
        """By edge: since when, and how many devices have left it for a better one."""

    def devices_at(self, edge_id: str) -> int:
        """Devices whose standing plan names that edge."""
        return self._named[edge_id]

    def choices(self, devices: Iterable[DeviceTwin], edges: Sequence[EdgeTwin], now_s: float) -> list[Choice]:
        """As :meth:`choice`, for devices that get their plans together: those that have no edge yet share the edges
        that promise the same as if they came one after the other."""
        chosen: Counter[str] = Counter()
        found = []
        for device in devices:
            choice = self.choice(device, edges, now_s, chosen)
            if choice.edge is not None and (device.standing is None or device.standing.plan.edge_id is None):
                chosen[choice.edge.edge_id] += 1
            found.append(choice)
        return found

    def choice(
        self, device: DeviceTwin, edges: Iterable[EdgeTwin], now_s: float, chosen: Mapping[str, int] | None = None
    ) -> Choice:
        """The edge of the standing plan while it can be used, and a challenger; else the most promising edge.

        Edges that promise the same within the margin share the devices that have none yet.

        Args:
            chosen: by edge, devices whose plans are about to name it.
        """
        usable = usable_edges(device, edges)
        reachable = [edge for edge in usable if device.status.reaches(edge.edge_id)] or usable
        current_id = None if device.standing is None else device.standing.plan.edge_id
        current = next((edge for edge in reachable if edge.edge_id == current_id), None)
        if len(reachable) <= 1:
            return Choice(reachable[0] if reachable else None)
        ways = self._ways(device, reachable, now_s)
        if current is None:
            quickest_s = min(way.quickest_s for way in ways)
            alike = [way for way in ways if way.quickest_s <= quickest_s + self._margin_s]
            counts = self._named if chosen is None else self._named + Counter(chosen)
            return Choice(min(alike, key=lambda way: (counts[way.edge.edge_id], way.quickest_s)).edge)
        own = next(way for way in ways if way.edge is current)
        best = min((way for way in ways if way is not own), key=lambda way: way.quickest_s)
        bound_s = float((own.costs_s - best.costs_s).max(initial=0.0))
        if bound_s <= self._margin_s or not self.may_leave(current.edge_id, now_s):
            return Choice(current)
        return Choice(current, best.edge, bound_s)

    @staticmethod
    def stands(device: DeviceTwin, edges: Iterable[EdgeTwin]) -> bool:
        """Whether the edge of the standing plan can be used as the plan says; a plan without an edge stands while there
        is none."""
        assert device.standing is not None
        plan, usable = device.standing.plan, usable_edges(device, edges)
        if plan.edge_id is None:
            return not usable
        return any(
            (edge.edge_id, edge.address) == (plan.edge_id, plan.edge_address)
            and (len(usable) == 1 or device.status.reaches(edge.edge_id))
            for edge in usable
        )

    @staticmethod
    def is_challenged(standing: StandingPlan, choice: Choice, now_s: float) -> bool:
        """Whether a challenger is to be weighed that was not found wanting just before, by much the same numbers."""
        if choice.challenger is None:
            return False
        before = standing.challenge
        if before is None or before.edge_id != choice.challenger.edge_id or now_s > before.at_s + _CHALLENGE_S:
            return True
        return choice.bound_s > _CHALLENGE_GROWTH * before.bound_s

    def named(self, before: str | None, after: str | None) -> None:
        """A device's plan names ``after`` and no longer ``before``; ``None``: no edge."""
        self._named.update({before: -1} if before is not None else {})
        self._named.update({after: 1} if after is not None else {})
        if before is not None and self._named[before] <= 0:
            del self._named[before]

    def left_for_better(self, edge_id: str, now_s: float) -> None:
        """A device's plan names a better edge than this one from now on."""
        since_s, count = self._left.get(edge_id, (now_s, 0))
        self._left[edge_id] = (now_s, 1) if now_s >= since_s + _PACE_S else (since_s, count + 1)

    def forget(self, edge_id: str) -> None:
        """An edge is forgotten."""
        self._left.pop(edge_id, None)

    def listed(self, device: DeviceTwin, edges: Iterable[EdgeTwin], now_s: float) -> tuple[ListedEdge, ...]:
        """What a device is told of the edges that it may use: its plan's first, the others by promise."""
        # Of two edges that claim one address a device could not tell which one answers.
        usable = list({edge.address: edge for edge in usable_edges(device, edges)}.values())
        current_id = None if device.standing is None else device.standing.plan.edge_id
        if len(usable) > 1:
            ways = self._ways(device, usable, now_s)
            ways.sort(key=lambda way: (way.edge.edge_id != current_id, way.quickest_s))
            usable = [way.edge for way in ways[:MOST_LISTED]]
        digest = device.status.hello.model_digest
        return tuple(
            ListedEdge(edge.edge_id, edge.address, edge.tail_s(digest) or (), edge.reading_at(now_s)) for edge in usable
        )

    def _ways(self, device: DeviceTwin, edges: Sequence[EdgeTwin], now_s: float) -> list[Way]:
        """The ways to all ``edges``, in their order: those with the same link are reckoned at once, since a device
        knows few links apart, and the edges behind one differ in backlog and tails alone."""
        status = device.status
        by_link: dict[tuple[float | None, float | None], list[EdgeTwin]] = {}
        for edge in edges:
            link = (status.goodput_to(edge.edge_id), status.round_trip_to(edge.edge_id))
            by_link.setdefault(link, []).append(edge)
        found: dict[str, Way] = {}
        for alike in by_link.values():
            situation = self._situation(device, alike[0], now_s)
            cuts, sizes = payload_sizes(situation.manifest, situation.is_tensors_only)
            tails_s = np.array([edge.tail_s(status.hello.model_digest) for edge in alike])[:, cuts]
            backlogs_s = np.array([(edge.expected_backlog_s(now_s, _HORIZON_S), *ANY_BACKLOG_S) for edge in alike])
            costs_s = _costs_s(situation, backlogs_s, tails_s, sizes)
            reached_s = np.concatenate(([0.0], np.cumsum(situation.segment_s)))
            quickest_s = (reached_s[cuts] + costs_s[:, 0]).min(axis=1, initial=np.inf).tolist()
            for edge, costs, quickest in zip(alike, costs_s, quickest_s, strict=True):
                found[edge.edge_id] = Way(edge, costs, quickest)
        return [found[edge.edge_id] for edge in edges]

    def quickest_s(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
        """Service start to answer by an edge with the quickest payload, and the price of its energy, seconds."""
        return self._ways(device, [edge], now_s)[0].quickest_s

    def may_leave(self, edge_id: str, now_s: float) -> bool:
        """Whether one more device may leave an edge for a better one now."""
        since_s, count = self._left.get(edge_id, (now_s, 0))
        return now_s >= since_s + _PACE_S or count < max(1, int(_PACE_SHARE * self._named[edge_id]))


def usable_edges(device: DeviceTwin, edges: Iterable[EdgeTwin]) -> list[EdgeTwin]:
    """Attached edges that hold the device's model. A device that was told its edge gets that one or none."""
    hello, manifest = device.status.hello, device.status.manifest
    if manifest is None:
        return []
    found = []
    for edge in edges:
        tail_s = edge.models.get(hello.model_digest)
        if tail_s is None or len(tail_s) != manifest.segment_count or not edge.is_attached:
            continue
        if hello.fixed_edge_address is None or hello.fixed_edge_address in edge.addresses:
            found.append(edge)
    return found


def payload_costs_s(situation: Situation, backlogs_s: Array, cuts: NDArray[np.intp], sizes: Array) -> Array:
    """From the sending of each payload to its answer, and the price of the energy, seconds.  # (backlogs, payloads)"""
    assert situation.tail_s is not None
    costs_s: Array = _costs_s(situation, backlogs_s[None], np.array(situation.tail_s)[None, cuts], sizes)[0]
    return costs_s


def _costs_s(situation: Situation, backlogs_s: Array, tails_s: Array, sizes: Array) -> Array:
    """The same for edges (E, backlogs) with tails (E, payloads) behind one link.  # (E, backlogs, payloads)"""
    sending_s = sizes / situation.goodput_bytes_per_s
    weights = situation.weights
    busy_s = np.maximum(situation.overhead_s + sending_s, backlogs_s[:, :, None])
    costs_s: Array = busy_s + (tails_s + weights.beta_s_per_joule * weights.transmit_watts * sending_s)[:, None]
    return costs_s


@lru_cache(maxsize=64)
def payload_sizes(manifest: Manifest, is_tensors_only: bool) -> tuple[NDArray[np.intp], Array]:
    """Cut and bytes of every payload that a device may send, one row per representation offered."""
    rows = [
        (cut.index, representation.mean_bytes)
        for cut in manifest.cuts[: manifest.held_segments + 1]
        if cut.index < manifest.segment_count and not (is_tensors_only and cut.index == 0)
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
