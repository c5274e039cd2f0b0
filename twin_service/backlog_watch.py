"""When a device gets a backlog update: only when it changes a decision that is still ahead (design section 7). Sans-IO.

The twin knows what each device reckons with, so it can tell whether the newest reading would decide otherwise. It asks
that of a device only when the device said something, when a report of its edge leaves the interval within which both
decide alike, or when an idle device's own reckoning crosses a break point.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

from twin_service.break_points import SortedIntervals
from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.edge_twin import EdgeTwin, backlog_needed_s, crossing_s
from twin_service.messages import BacklogUpdate
from twin_service.planner import PlannerSettings
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState, predicted_backlog_s


class _Decision(NamedTuple):
    epoch: int
    queue_length: int
    at_s: float


class BacklogWatch:
    """Who would decide otherwise if it knew the newest backlog.

    A device in service has its decisions at known instants: its interval is kept as *instants at which the edge would
    run empty*, which do not move while the backlog drains, and is made so narrow that no reversion to the mean can hide
    a changed decision. An idle device may decide at any instant: its interval is one of backlog, good until its own
    reckoning leaves it.
    """

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._in_service: dict[str, SortedIntervals] = defaultdict(SortedIntervals)
        self._idle: dict[str, SortedIntervals] = defaultdict(SortedIntervals)

    def touched_by(self, edge: EdgeTwin) -> list[str]:
        """Devices that the newest report of ``edge`` may concern."""
        reading = edge.reading
        empty_at_s = reading.at_s + reading.backlog_s
        return self._in_service[edge.edge_id].left_by(empty_at_s) + self._idle[edge.edge_id].left_by(reading.backlog_s)

    def forget(self, device: DeviceTwin) -> None:
        """No report concerns ``device`` any more."""
        if device.standing is not None and device.standing.plan.edge_id is not None:
            self._in_service[device.standing.plan.edge_id].discard(device.device_id)
            self._idle[device.standing.plan.edge_id].discard(device.device_id)

    def forget_edge(self, edge_id: str) -> None:
        """An edge is forgotten, and with it who watched it."""
        self._in_service.pop(edge_id, None)
        self._idle.pop(edge_id, None)

    def look(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> BacklogUpdate | None:
        """The update that ``device`` should get now, if any; it counts as sent."""
        standing = device.standing
        if standing is None or standing.plan.edge_id != edge.edge_id or device.status.hello.is_polled:
            return None
        newest = edge.reading
        if standing.held is not None and (standing.held is newest or standing.held.at_s > newest.at_s):
            return None
        for epoch, queue_length, at_s in self._decisions_ahead(device, edge, now_s):
            newest_s = predicted_backlog_s(newest, at_s)
            if standing.points.is_changed(epoch, queue_length, _held_s(standing, at_s), newest_s):
                standing.hears(newest)
                return BacklogUpdate(newest)
        return None

    def watch(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> float:
        """Note from which backlog on ``device`` is to be looked at again.

        Returns:
            The instant at which it must be looked at whatever the edge reports; ``inf``: none.
        """
        self.forget(device)
        standing = device.standing
        if standing is None or standing.held is None or device.status.hello.is_polled:
            return math.inf
        decisions = self._decisions_ahead(device, edge, now_s)
        if decisions and decisions[0].at_s <= now_s:
            low_s, high_s = _neighbours_s(standing, decisions[0])
            self._idle[edge.edge_id].put(device.device_id, low_s, high_s)
            return min(crossing_s(standing.held, low_s), crossing_s(standing.held, high_s))
        low_s, high_s = -math.inf, math.inf
        for decision in decisions:
            below_s, above_s = _neighbours_s(standing, decision)
            low_s = max(low_s, decision.at_s + below_s)
            if above_s < math.inf:
                high_s = min(high_s, _least_empty_at_s(edge.reading, above_s, now_s, decision.at_s))
        self._in_service[edge.edge_id].put(device.device_id, low_s, high_s)
        return math.inf

    def _decisions_ahead(self, device: DeviceTwin, edge: EdgeTwin, now_s: float) -> list[_Decision]:
        """Decisions that an update could still change and that are likely enough to be taken: those of the task in
        service, each weighed by the share of samples that get there, and the next task's first."""
        status, standing = device.status, device.standing
        assert standing is not None
        decisions: list[_Decision] = []
        end_s = now_s
        if status.task is not None:
            reach = 1.0
            for epoch in range(status.first_epoch, len(status.task.boundaries_s) + 1):
                end_s = status.task.reached_at_s(epoch)
                if end_s > now_s and standing.plan.observation is Observation.EACH_EPOCH:
                    decisions.append(_Decision(epoch, status.queue_length, end_s))
                reach *= standing.points.share_going_on(epoch, status.queue_length, _held_s(standing, end_s))
                if reach < self._settings.update_share:
                    break
        # Whoever is idle, or has very likely left the device, makes room for a task that may start at any instant.
        start_s = max(end_s, now_s)
        within_s = start_s - now_s if start_s > now_s else edge.time_to_next_report_s(now_s)
        if status.queue_length > 0 or self._has_chance(device, within_s, now_s):
            decisions.append(_Decision(0, max(status.queue_length - 1, 0), start_s))
        return decisions

    def _has_chance(self, device: DeviceTwin, within_s: float, now_s: float) -> bool:
        """Whether a task is likely enough to enter ``within_s``."""
        chance = 1.0 - math.exp(-device.status.task_rate_per_s(now_s) * within_s)
        return chance >= self._settings.idle_update_chance


def _held_s(standing: StandingPlan, at_s: float) -> float:
    """Backlog that the device itself expects at ``at_s``."""
    return 0.0 if standing.held is None else predicted_backlog_s(standing.held, at_s)


def _neighbours_s(standing: StandingPlan, decision: _Decision) -> tuple[float, float]:
    """Break points around what the device expects at ``decision``."""
    return standing.points.around(decision.epoch, decision.queue_length, _held_s(standing, decision.at_s))


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
