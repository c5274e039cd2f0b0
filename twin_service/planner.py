"""When a device gets a new plan, and which (design section 7). Sans-IO.

Communication is bought by its value: a new plan is sent only when keeping the old one would cost more than
``plan_threshold_s`` of expected utility per task. Weighing that takes an evaluation of the rule, so a device is weighed
only when something it is planned by has moved noticeably since the last time, and many devices of one model are weighed
in one batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twin_service.break_points import PlanBreakPoints
from twin_service.contingency import contingency_of
from twin_service.decision.evaluation import Evaluation, Rule
from twin_service.decision.regret import backlog_regret, regret_s, start_value_s
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.tables import PlanTable
from twin_service.device_twin import Challenge, DeviceTwin, StandingPlan
from twin_service.edge_choice import Choice, EdgeChooser, Link
from twin_service.edge_twin import EdgeTwin
from twin_service.edges import Edges
from twin_service.messages import PlanMessage, Send
from twinsplit.errors import RuleError
from twinsplit.plan import Plan


class Cause(str, Enum):
    """What makes a plan necessary: the reason label of plan revisions."""

    ATTACHED = "attached"
    EDGE_FOUND = "edge-found"
    EDGE_LOST = "edge-lost"
    EDGE_BETTER = "edge-better"
    WEIGHTS = "weights"
    TASK_RATE = "task-rate"
    BUSY_SHARE = "busy-share"
    GOODPUT = "goodput"
    UPLINK = "uplink"
    DEVICE_PROFILE = "device-profile"
    EDGE_PROFILE = "edge-profile"
    BACKLOG_STATISTICS = "backlog-statistics"
    CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """When plans and updates are worth a message."""

    plan_threshold_s: float = 0.001
    """Expected utility per task, seconds, that keeping an old plan must cost before a new one is sent."""
    edge_threshold_s: float = 0.005
    """Likewise, that an edge must cost before a plan names a better one."""
    noticeable_share: float = 0.2
    """Relative move of a number since the last weighing from which a plan is weighed again."""
    shortest_weighing_s: float = 0.5
    """A device is weighed again at most so often, however much its numbers move."""
    update_threshold_s: float = 0.001
    """Expected utility, seconds, that the decisions ahead must lose without the newest backlog before it is sent."""
    lease_s: float = 10.0
    assumed_goodput_bytes_per_s: float = 1_250_000.0
    """Used until the device has measured its uplink (10 Mbit/s)."""
    assumed_round_trip_s: float = 0.005
    """Likewise."""


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule of one's own failed on a device."""

    device_id: str
    cause: str


class _Prospect(NamedTuple):
    """What a plan with one edge would be."""

    edge: EdgeTwin | None
    situation: Situation
    evaluation: Evaluation | None
    """``None``: the rule failed."""


class Planner:
    """Makes plans and says who gets a new one."""

    def __init__(
        self, rule: Rule, weights: Weights, settings: PlannerSettings, next_plan_id: Callable[[], int]
    ) -> None:
        self.rule = rule
        self.weights = weights
        self.settings = settings
        self.chooser = EdgeChooser(self.situation, self.link, settings.edge_threshold_s)
        self._next_plan_id = next_plan_id
        self.weighed = 0
        """Devices weighed so far."""
        self.considered_pairs = 0
        """(Epoch, payload) choices looked at so far."""
        self.pruned_pairs = 0
        """Of these, removed by the necessary conditions."""
        self.rule_failures = 0
        """Devices that could not be weighed, since the rule failed on them; the plans that they hold stand."""
        self.last_failures: list[RuleFailure] = []
        """Those of the latest weighing."""

    def cause(self, device: DeviceTwin, edges: Edges, now_s: float) -> Cause | None:
        """Why the plan of ``device`` should be weighed again; ``None``: nothing has moved noticeably."""
        if now_s < device.rule_failed_at_s + self.settings.shortest_weighing_s:
            return None
        standing = device.standing
        if standing is None:
            return Cause.ATTACHED
        if now_s < self.looks_away_until_s(device) and self.chooser.stands(device, edges):
            return None
        choice = self.chooser.choice(device, edges, now_s)
        if not _names(standing.plan, choice.edge):
            return _change_of_edge(standing.plan, choice.edge)
        if self.chooser.is_challenged(standing, choice, now_s):
            return Cause.EDGE_BETTER
        return _largest_move(
            standing.weighed, self.situation(device, choice.edge, now_s), self.settings.noticeable_share
        )

    def looks_away_until_s(self, device: DeviceTwin) -> float:
        """Instant up to which nothing that moves calls for a weighing, since there was one just before."""
        standing = device.standing
        return -math.inf if standing is None else standing.weighed_at_s + self.settings.shortest_weighing_s

    def edges_changed(self, device: DeviceTwin, edges: Edges, now_s: float) -> Cause | None:
        """Why the plan of ``device`` should be weighed, now that an edge has come or gone; ``None``: no need."""
        standing = device.standing
        if standing is None:
            return Cause.ATTACHED
        choice = self.chooser.choice(device, edges, now_s)
        if not _names(standing.plan, choice.edge):
            return _change_of_edge(standing.plan, choice.edge)
        return Cause.EDGE_BETTER if self.chooser.is_challenged(standing, choice, now_s) else None

    def edge_of(self, device: DeviceTwin, edges: Edges, now_s: float) -> EdgeTwin | None:
        """The edge that a plan made now would name, unless a challenger turns out to be better."""
        return self.chooser.choice(device, edges, now_s).edge

    def forget(self, device: DeviceTwin) -> None:
        """The plan of ``device`` stands no longer."""
        if device.standing is not None:
            self.chooser.plan_gone(device.device_id, device.standing.plan.edge_id)
            device.standing = None

    def situation(self, device: DeviceTwin, edge: EdgeTwin | None, now_s: float) -> Situation:
        """What the rule is told about ``device``."""
        status = device.status
        assert status.manifest is not None
        reading, edge_id = (None, None) if edge is None else (edge.reading, edge.edge_id)
        link = self.link(device, edge_id)
        return Situation(
            manifest=status.manifest,
            weights=device.weights(self.weights),
            segment_s=status.segment_s,
            exit_s=status.exit_s,
            encode_s=status.encode_s(),
            tail_s=None if edge is None else edge.tail_s(status.hello.model_digest),
            goodput_bytes_per_s=link.goodput_bytes_per_s,
            overhead_s=link.round_trip_s,
            task_rate_per_s=status.task_rate_per_s(now_s),
            busy_share=status.busy_share(now_s),
            uplink_busy_s=status.uplink_busy_s(now_s),
            uplink_busy_share=status.uplink_busy_share(now_s),
            is_tensors_only=status.hello.is_tensors_only,
            backlog_mean_s=0.0 if reading is None else reading.mean_s,
            backlog_time_constant_s=1.0 if reading is None else reading.time_constant_s,
            arrived_work_s=(0.0, 0.0, 0.0) if edge is None else edge.arrived_work_s,
        )

    def link(self, device: DeviceTwin, edge_id: str | None) -> Link:
        """The way from ``device`` to an edge, assumed where nothing is known of it."""
        status, settings = device.status, self.settings
        round_trip_s = status.round_trip_to(edge_id)
        return Link(
            status.goodput_to(edge_id) or settings.assumed_goodput_bytes_per_s,
            settings.assumed_round_trip_s if round_trip_s is None else round_trip_s,
        )

    def weigh(self, devices: Sequence[tuple[DeviceTwin, Cause]], edges: Edges, now_s: float) -> list[Send]:
        """Weigh all of ``devices`` in batches of one model; the plans to be sent.

        A device on which the rule fails keeps its plan; the others are weighed.
        """
        self.last_failures = []
        by_model: dict[str, list[tuple[DeviceTwin, Cause]]] = defaultdict(list)
        for device, cause in devices:
            by_model[device.status.hello.model_digest].append((device, cause))
        sends: list[Send] = []
        for group in by_model.values():
            choices = self.chooser.choices([device for device, _ in group], edges, now_s)
            situations = [self.situation(d, c.edge, now_s) for (d, _), c in zip(group, choices, strict=True)]
            challenged = [k for k, choice in enumerate(choices) if self._is_challenged(group[k][0], choice, now_s)]
            situations += [self.situation(group[k][0], choices[k].challenger, now_s) for k in challenged]
            devices_of = [device for device, _ in group] + [group[k][0] for k in challenged]
            evaluations = self._evaluated(devices_of, situations, now_s)
            self.weighed += len(group)
            for pruning in {id(e.pruning): e.pruning for e in evaluations if e is not None}.values():
                self.considered_pairs += pruning.considered
                self.pruned_pairs += pruning.pruned
            challengers = {
                k: _Prospect(choices[k].challenger, situations[place], evaluations[place])
                for place, k in enumerate(challenged, start=len(group))
            }
            for k, (device, cause) in enumerate(group):
                own = _Prospect(choices[k].edge, situations[k], evaluations[k])
                other = challengers.get(k)
                # Others of this batch may have left the edge just now: then this device may follow later.
                if other is not None and own.edge is not None and self.chooser.may_leave(own.edge.edge_id, now_s):
                    if self._is_better(device, own, other, choices[k].needed_s, now_s):
                        sends += self._weighed(device, Cause.EDGE_BETTER, other, now_s)
                        continue
                    self._has_lost(device, other, choices[k], now_s)
                sends += self._weighed(device, self._own_cause(device, cause, own), own, now_s)
        return sends

    @staticmethod
    def _own_cause(device: DeviceTwin, cause: Cause, own: _Prospect) -> Cause:
        """What a plan with the same edge is sent for where another edge was weighed and not found better."""
        if cause is not Cause.EDGE_BETTER or device.standing is None:
            return cause
        return _largest_move(device.standing.weighed, own.situation, 0.0) or Cause.BACKLOG_STATISTICS

    def _is_challenged(self, device: DeviceTwin, choice: Choice, now_s: float) -> bool:
        return device.standing is not None and self.chooser.is_challenged(device.standing, choice, now_s)

    def _is_better(self, device: DeviceTwin, own: _Prospect, other: _Prospect, needed_s: float, now_s: float) -> bool:
        """Whether plans with the other edge are worth more by the margin; of rules that do not say what decisions are
        worth: whether the other edge is quicker by it."""
        if own.evaluation is None or other.evaluation is None or own.edge is None or other.edge is None:
            return False
        own_s, other_s = (self._value_s(device, prospect, now_s) for prospect in (own, other))
        if own_s is None or other_s is None:
            own_s, other_s = (-self.chooser.quickest_s(device, edge, now_s) for edge in (own.edge, other.edge))
        return other_s > own_s + needed_s

    @staticmethod
    def _has_lost(device: DeviceTwin, other: _Prospect, choice: Choice, now_s: float) -> None:
        if other.edge is not None and device.standing is not None:
            device.standing.challenge = Challenge(other.edge.edge_id, choice.bound_s, now_s)

    def _value_s(self, device: DeviceTwin, prospect: _Prospect, now_s: float) -> float | None:
        assert prospect.evaluation is not None
        assert prospect.edge is not None
        return start_value_s(
            prospect.evaluation,
            prospect.situation,
            backlog_s=self.chooser.backlog_s(device, prospect.edge, now_s),
            queue_length=device.status.queue_length,
        )

    def _weighed(self, device: DeviceTwin, cause: Cause, prospect: _Prospect, now_s: float) -> list[Send]:
        edge, situation, evaluation = prospect
        if evaluation is None:
            return []
        if self._is_worth_sending(device, edge, situation, evaluation, now_s):
            return [self._plan(device, cause, edge, situation, evaluation, now_s)]
        if (standing := device.standing) is not None:
            standing.weighed, standing.weighed_at_s = situation, now_s
            # What a wrong backlog costs moves with the queue and the load, though no decision of the plan does.
            standing.points = _break_points(standing.table, evaluation, situation)
        return []

    def _evaluated(
        self, devices: Sequence[DeviceTwin], situations: Sequence[Situation], now_s: float
    ) -> Sequence[Evaluation | None]:
        """One evaluation per device; ``None``: the rule failed on it."""
        try:
            return self.rule.evaluate(situations)
        except RuleError as error:
            if len(devices) > 1:
                return [self._evaluated([d], [s], now_s)[0] for d, s in zip(devices, situations, strict=True)]
            devices[0].rule_failed_at_s = now_s
            self.rule_failures += 1
            self.last_failures.append(RuleFailure(devices[0].device_id, str(error)))
            return [None]

    def _is_worth_sending(
        self, device: DeviceTwin, edge: EdgeTwin | None, situation: Situation, evaluation: Evaluation, now_s: float
    ) -> bool:
        standing = device.standing
        if standing is None:
            return True
        if not _names(standing.plan, edge):
            return True
        lost_s = regret_s(
            standing.table,
            evaluation,
            situation,
            backlog_s=0.0 if edge is None else edge.backlog_s(now_s),
            queue_length=device.status.queue_length,
            enough_s=self.settings.plan_threshold_s,
        )
        return lost_s > self.settings.plan_threshold_s

    def _plan(
        self,
        device: DeviceTwin,
        cause: Cause,
        edge: EdgeTwin | None,
        situation: Situation,
        evaluation: Evaluation,
        now_s: float,
    ) -> Send:
        table = evaluation.plan_table
        plan = Plan(
            plan_id=self._next_plan_id(),
            model_digest=device.status.hello.model_digest,
            rule=self.rule.name,
            edge_id=None if edge is None else edge.edge_id,
            edge_address=None if edge is None else edge.address,
            exits_run=table.exits_run,
            band_edges_s=table.band_edges_s,
            table=table.table,
            tensor_representations=table.tensor_representations,
            input_representations=table.input_representations,
            lease_s=self.settings.lease_s,
            contingency=contingency_of(situation, table),
            observation=table.observation,
            age_edges_s=table.age_edges_s,
            attachment_epoch=device.attachment_epoch,
            busy_uplink=table.busy_uplink,
        )
        points = _break_points(table, evaluation, situation)
        reading = None if edge is None else edge.reading
        before = None if device.standing is None else device.standing.plan.edge_id
        self.chooser.named(device, before, edge, now_s)
        if cause is Cause.EDGE_BETTER and before is not None and before != plan.edge_id:
            self.chooser.left_for_better(device.device_id, before, now_s)
        held = device.standing.held if device.standing and before == plan.edge_id else None
        device.standing = StandingPlan(plan, table, points, situation, now_s, evaluation.without_payoffs(), held)
        if reading is not None:
            device.standing.hears(reading)
        device.status.plan_stands(plan.exits_run, now_s)
        device.document.plan_revisions[cause.value] += 1
        return Send(device.device_id, PlanMessage(plan, reading))


def _names(plan: Plan, edge: EdgeTwin | None) -> bool:
    """Whether ``plan`` names ``edge``, as it is reached now."""
    named = (None, None) if edge is None else (edge.edge_id, edge.address)
    return named == (plan.edge_id, plan.edge_address)


def _change_of_edge(plan: Plan, edge: EdgeTwin | None) -> Cause:
    is_lost = plan.edge_id is not None and (edge is None or edge.edge_id != plan.edge_id)
    return Cause.EDGE_LOST if is_lost else Cause.EDGE_FOUND


def _break_points(table: PlanTable, evaluation: Evaluation, situation: Situation) -> PlanBreakPoints:
    return PlanBreakPoints(table.band_edges_s, backlog_regret(table, evaluation, situation))


def _largest_move(before: Situation, now: Situation, share: float) -> Cause | None:
    """What has moved most in relation to what it must move by; ``None``: nothing moved so much."""
    if before.weights != now.weights:
        return Cause.WEIGHTS
    whole_s = sum(now.segment_s)
    # (cause, before, now, value below which moves are of no account)
    moves = (
        # What a rate changes is the tasks that come while one is served.
        (Cause.TASK_RATE, whole_s * before.task_rate_per_s, whole_s * now.task_rate_per_s, 0.2),
        (Cause.BUSY_SHARE, before.busy_share, now.busy_share, 0.2),
        (Cause.GOODPUT, before.goodput_bytes_per_s, now.goodput_bytes_per_s, 1.0),
        (Cause.UPLINK, before.overhead_s, now.overhead_s, 0.02),
        (Cause.UPLINK, before.uplink_busy_s, now.uplink_busy_s, 0.05),
        (Cause.UPLINK, before.uplink_busy_share or 0.0, now.uplink_busy_share or 0.0, 0.1),
        (Cause.DEVICE_PROFILE, sum(before.segment_s), whole_s, 0.001),
        (Cause.EDGE_PROFILE, sum(before.tail_s or ()), sum(now.tail_s or ()), 0.001),
        (Cause.BACKLOG_STATISTICS, before.backlog_mean_s, now.backlog_mean_s, 0.05),
        (Cause.BACKLOG_STATISTICS, before.backlog_time_constant_s, now.backlog_time_constant_s, 0.5),
    )
    found, most = None, share
    for cause, old, new, floor in moves:
        if new == old:
            continue
        moved = abs(new - old) / max(abs(old), floor)
        if moved > most:
            found, most = cause, moved
    return found
