"""One device as the twin service holds it: its status twin, its document, and what it was sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from twin_service.break_points import PlanBreakPoints
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.tables import PlanTable
from twin_service.documents import Desired, Document
from twin_service.edge_twin import EdgeTwin
from twin_service.status_twin import StatusTwin
from twinsplit.edge_list import ListedEdge
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState


class Challenge(NamedTuple):
    """Another edge was weighed and not found better enough."""

    edge_id: str
    bound_s: float
    """What it could have been better by at most, by the numbers of then."""
    at_s: float


@dataclass(slots=True)
class StandingPlan:
    """The plan that a device holds, as far as the twin knows."""

    plan: Plan
    table: PlanTable
    points: PlanBreakPoints
    weighed: Situation
    """The situation for which it was made, or keeping it was last found right."""
    weighed_at_s: float
    evaluation: Evaluation
    """What the rule made of the situation for which the plan was made."""
    held: BacklogState | None
    """The newest backlog reading that the device has: sent by the twin, or told by the edge in an answer."""

    challenge: Challenge | None = None
    """The newest weighing of another edge that did not win."""

    def hears(self, reading: BacklogState) -> None:
        """The device gets a reading; the newest one counts, as on the device itself."""
        if self.held is None or reading.at_s >= self.held.at_s:
            self.held = reading


@dataclass(slots=True)
class DeviceTwin:
    """A device that is or was attached."""

    document: Document
    status: StatusTwin
    device_id: str = field(init=False)
    is_attached: bool = True
    stream: int = 0
    """Number of the stream that speaks for the device; what an older one still says is stale. 0: none does."""
    attachment_epoch: int = 0
    """Number of its attachment, under which plans are made for it."""
    standing: StandingPlan | None = None
    seen_at_start: tuple[int, int, float, float, float] | None = None
    """Polled mode: (task, queue length, backlog, age) at its service start, for rules that decide there."""
    told_edges: tuple[ListedEdge, ...] = ()
    """The list of edges that it was sent last; empty: none."""
    edges_looked_at_s: float = -math.inf
    """Instant at which that list was last compared with what there is."""
    rule_failed_at_s: float = -math.inf
    """Instant at which the rule last failed on this device."""
    last_sent_s: float = 0.0
    """Instant of the newest message to it: every message renews the lease."""
    _weights: tuple[Desired, Weights, Weights] | None = None
    """What was desired, the default, and the weights that follow: asked for with every report."""

    def __post_init__(self) -> None:
        self.device_id = self.document.device_id

    @property
    def is_plannable(self) -> bool:
        """Whether a plan can be made and sent."""
        return self.is_attached and self.status.manifest is not None

    def plan_edge(self, edges: Mapping[str, EdgeTwin]) -> EdgeTwin | None:
        """Of ``edges``, the one that the standing plan names, while it is attached."""
        edge_id = None if self.standing is None else self.standing.plan.edge_id
        edge = None if edge_id is None else edges.get(edge_id)
        return edge if edge is not None and edge.is_attached else None

    def weights(self, default: Weights) -> Weights:
        """The weights of this device: desired ones and measured powers before ``default``."""
        desired, hello, known = self.document.desired, self.status.hello, self._weights
        if known is not None and known[0] is desired and known[1] is default:
            return known[2]
        weights = replace(
            default,
            alpha_s=_known(desired.alpha_s, default.alpha_s),
            beta_s_per_joule=_known(desired.beta_s_per_joule, default.beta_s_per_joule),
            deadline_s=default.deadline_s if desired.deadline_s is None else desired.deadline_s or None,
            compute_watts=_known(hello.compute_watts, default.compute_watts),
            transmit_watts=_known(hello.transmit_watts, default.transmit_watts),
        )
        self._weights = (desired, default, weights)
        return weights


def _known(value: float | None, default: float) -> float:
    return default if value is None else value
