"""When a device gets a backlog update: only when it is worth a message (design section 7). Sans-IO.

The twin knows what each device reckons with, so it can tell what the decisions still ahead are expected to lose without
the newest reading. It asks that of a device only when the device said something, when a report of its edge leaves the
interval within which that is too little, or when an idle device's own reckoning crosses a break point.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

from twin_service.break_points import (
    Points,
    SortedIntervals,
    lost_s,
    neighbours_s,
    queue_shares,
    queue_shares_at_start,
    tolerated_s,
)
from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.edge_twin import EdgeTwin, backlog_needed_s, crossing_s
from twin_service.messages import BacklogInterest, BacklogUpdate
from twin_service.planner import PlannerSettings
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState, predicted_backlog_s

_LEAST_CHANCE = 0.02
"""Decisions that a task is less likely to get to buy nothing."""
_GONE_SHARE = 0.2
"""A task of which less than this share would still be there makes room for the next one."""


_CEILING_MARGIN = 1.1
"""An edge is told a ceiling so much above the needed one, and told anew when that passes it, or falls to"""
_CEILING_FACTOR = 1.5
"""so much below."""

_ROUNDING_S = 1e-6
_UNBOUNDED = (-math.inf, math.inf)


class _Decision(NamedTuple):
    points: Points
    """Where it changes."""
    at_s: float
    held_s: float
    """Backlog that the device itself expects then."""
    chance: float
    """That it is taken."""


class BacklogWatch:
    """Whom it would cost too much not to know the newest backlog.

    A device in service has its decisions at known instants: its interval is kept as *instants at which the edge would
    run empty*, which do not move while the backlog drains, and is made so narrow that no reversion to the mean can hide
    a costly decision. An idle device may decide at any instant: its interval is one of backlog, good until its own
    reckoning leaves it or the newest one does.
    """

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._in_service: dict[str, SortedIntervals] = defaultdict(SortedIntervals)
        self._idle: dict[str, SortedIntervals] = defaultdict(SortedIntervals)
        self._needed: dict[str, SortedIntervals] = defaultdict(SortedIntervals)
        self._edge_ids: dict[str, str] = {}
        """By device, the edge that its plan names."""

    def touched_by(self, edge: EdgeTwin) -> list[str]:
        """Devices that the newest report of ``edge`` may concern."""
        reading = edge.reading
        empty_at_s = reading.at_s + reading.backlog_s
        return self._in_service[edge.edge_id].left_by(empty_at_s) + self._idle[edge.edge_id].left_by(reading.backlog_s)

    def planned(self, device: DeviceTwin) -> None:
        """A plan stands at ``device``, perhaps another one than before."""
        self.forget(device)
        if device.standing is not None and (edge_id := device.standing.plan.edge_id) is not None:
            self._edge_ids[device.device_id] = edge_id
            self._needed[edge_id].put(device.device_id, -math.inf, device.standing.points.ceiling_s)

    def interest(self, edge: EdgeTwin) -> BacklogInterest | None:
        """What the reports of ``edge`` are needed for, if it is to be told; it counts as told."""
        ceiling_s, told_s = self._needed[edge.edge_id].highest, edge.told_ceiling_s
        if ceiling_s is None or (told_s is not None and told_s / _CEILING_FACTOR <= ceiling_s <= told_s):
            return None
        edge.told_ceiling_s = ceiling_s * _CEILING_MARGIN
        return BacklogInterest(edge.told_ceiling_s)

    def forget(self, device: DeviceTwin) -> None:
        """No report concerns ``device`` any more."""
        edge_id = self._edge_ids.pop(device.device_id, None)
        for intervals in (self._in_service, self._idle, self._needed):
            if edge_id in intervals:
                intervals[edge_id].discard(device.device_id)

    def forget_edge(self, edge_id: str) -> None:
        """An edge is forgotten, and with it who watched it."""
        for intervals in (self._in_service, self._idle, self._needed):
            intervals.pop(edge_id, None)

    def look(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> tuple[BacklogUpdate | None, float]:
        """The update that ``device`` should get now, if any; it counts as sent. Then as :meth:`watch`."""
        standing = device.standing
        if standing is None or standing.plan.edge_id != edge.edge_id or device.status.hello.is_polled:
            return None, self.watch(device, edge, now_s)
        decisions = self._decisions_ahead(device, edge, now_s)
        if not self._is_update_worth_it(standing, decisions, edge.reading):
            return None, self._watch(device, edge, decisions, now_s)
        standing.hears(edge.reading)
        return BacklogUpdate(edge.reading), self.watch(device, edge, now_s)

    def watch(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
        """Note from which backlog on ``device`` is to be looked at again.

        Returns:
            The instant at which it must be looked at whatever the edge reports; ``inf``: none.
        """
        is_watched = device.standing is not None and not device.status.hello.is_polled
        return self._watch(device, edge, self._decisions_ahead(device, edge, now_s) if is_watched else [], now_s)

    def _is_update_worth_it(self, standing: StandingPlan, decisions: list[_Decision], newest: BacklogState) -> bool:
        if standing.held is not None and (standing.held is newest or standing.held.at_s > newest.at_s):
            return False
        loss_s = 0.0
        for points, at_s, held_s, chance in decisions:
            loss_s += chance * lost_s(points, held_s, predicted_backlog_s(newest, at_s))
        return loss_s > self._settings.update_threshold_s

    def _watch(self, device: DeviceTwin, edge: EdgeTwin, decisions: list[_Decision], now_s: float) -> float:
        idle_s = in_service_s = _UNBOUNDED
        look_at_s = math.inf
        standing = device.standing
        if standing is not None and standing.held is not None:
            for decision in decisions:
                below_s, above_s = self._tolerated_s(decision, len(decisions))
                if decision.at_s <= now_s:
                    idle_s = (below_s, above_s)
                    look_at_s = _leaves_at_s(standing, decision, edge.reading, idle_s, now_s)
                    continue
                low_s, high_s = in_service_s
                if above_s < math.inf:
                    high_s = min(high_s, _least_empty_at_s(edge.reading, above_s, now_s, decision.at_s))
                in_service_s = (max(low_s, decision.at_s + below_s), high_s)
        self._idle[edge.edge_id].put(device.device_id, *idle_s)
        self._in_service[edge.edge_id].put(device.device_id, *in_service_s)
        return look_at_s

    def _tolerated_s(self, decision: _Decision, count: int) -> tuple[float, float]:
        """Backlogs at ``decision`` that lose too little there for ``count`` such decisions to be worth a message."""
        loss_s = self._settings.update_threshold_s / (count * decision.chance)
        return tolerated_s(decision.points, decision.held_s, loss_s)

    def _decisions_ahead(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> list[_Decision]:
        """Decisions that an update could still change, each with the chance that it is taken: those of the task in
        service, by the share of samples that get there, and the next task's first."""
        status, standing = device.status, device.standing
        assert standing is not None
        decisions: list[_Decision] = []
        end_s = now_s
        if status.task is not None:
            chance, has_left = 1.0, False
            for epoch in range(status.first_epoch, len(status.task.boundaries_s) + 1):
                at_s = status.task.reached_at_s(epoch)
                queue = queue_shares(status.queue_length, status.arrivals_expected(at_s))
                held_s = _held_s(standing, at_s)
                if at_s > now_s and standing.plan.observation is Observation.EACH_EPOCH:
                    decisions.append(_Decision(standing.points.at(epoch, queue), at_s, held_s, chance))
                if not has_left:
                    end_s = at_s
                chance *= standing.points.share_going_on(epoch, queue, held_s)
                has_left = chance < _GONE_SHARE
                if chance < _LEAST_CHANCE:
                    break
        # Whoever is idle, or has very likely left the device, makes room for a task that may start at any instant.
        start_s = max(end_s, now_s)
        within_s = start_s - now_s if start_s > now_s else edge.time_to_next_report_s(now_s)
        chance = 1.0 if status.queue_length > 0 else _chance_of_start(device, within_s, now_s)
        if chance >= _LEAST_CHANCE:
            queue = queue_shares_at_start(status.queue_length, status.arrivals_expected(start_s))
            points = standing.points.at(0, queue)
            decisions.append(_Decision(points, start_s, _held_s(standing, start_s), chance))
        return decisions


def _chance_of_start(device: DeviceTwin, within_s: float, now_s: float) -> float:
    """That a task enters ``within_s``."""
    return 1.0 - math.exp(-device.status.task_rate_per_s(now_s) * within_s)


def _held_s(standing: StandingPlan, at_s: float) -> float:
    """Backlog that the device itself expects at ``at_s``."""
    return 0.0 if standing.held is None else predicted_backlog_s(standing.held, at_s)


def _leaves_at_s(
    standing: StandingPlan, decision: _Decision, newest: BacklogState, bounds_s: tuple[float, float], now_s: float
) -> float:
    """Instant at which a decision that may be taken from now on is to be weighed again: the device's own reckoning
    comes to a break point, or the newest one to the end of what is tolerated."""
    assert standing.held is not None
    around_s = neighbours_s(decision.points, decision.held_s)
    leaves_s = [crossing_s(standing.held, level_s) for level_s in around_s]
    leaves_s += [crossing_s(newest, level_s) for level_s in bounds_s]
    # At the instant itself rounding may hide that it has come: then it is looked at again right after.
    return min((at_s for at_s in leaves_s if at_s > now_s - _ROUNDING_S), default=math.inf)


def _least_empty_at_s(reading: BacklogState, level_s: float, now_s: float, at_s: float) -> float:
    """Least instant of running empty that any backlog, seen from ``now_s`` to ``at_s``, can have which is expected to
    be ``level_s`` or more at ``at_s``.

    The backlog needed for that falls, as time goes on, first faster and then slower than one that drains: the minimum
    lies where it falls at rate one.
    """
    excess_s, time_constant_s = level_s - reading.mean_s, reading.time_constant_s
    seen_at_s = now_s
    if excess_s > 0.0:
        seen_at_s = at_s - time_constant_s * max(math.log(time_constant_s / excess_s), 0.0)
    seen_at_s = min(max(seen_at_s, now_s), at_s)
    return seen_at_s + backlog_needed_s(reading, level_s, at_s - seen_at_s)
