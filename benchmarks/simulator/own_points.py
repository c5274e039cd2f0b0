"""A rule of one's own asked at the very point where a task stands: no table is folded, and much less is asked."""

from __future__ import annotations

from benchmarks.simulator.deciding import Deciding
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.world import World
from device.plan_keeping import Observed
from twin_service.decision.own import OwnRule
from twin_service.decision.situation import Situation
from twin_service.decision.values import OpenLoopValues
from twinsplit.types import Decision


class OwnPoints(Deciding):
    """Asks ``rule`` at every epoch, with exact queue, backlog and uplink.

    Raises (while a world runs):
        RuleError: the rule fails, or decides what is unknown or impossible.
    """

    def __init__(self, rule: OwnRule) -> None:
        self._rule = rule
        self._values: dict[int, OpenLoopValues] = {}
        self._situations: list[Situation] = []
        self._standing: dict[int, OpenLoopValues] = {}

    @property
    def name(self) -> str:
        return self._rule.name

    def begin(self, world: World) -> None:
        self._standing = {}

    def standing(self, device: SimulatedDevice, now_s: float) -> OpenLoopValues:
        situation = device.situation(now_s)
        # By identity: the grid makes each situation once and keeps it; so does this list.
        values = self._values.get(id(situation))
        if values is None:
            values = self._values[id(situation)] = self._rule.values(situation)
            self._situations.append(situation)
        self._standing[device.index] = values
        return values

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        values = self._standing[device.index]
        busy_s = device.link.busy_s(now_s)
        return self._rule.decision_at(values, epoch, evidence, observed.queue_length, observed.backlog_s, busy_s)
