"""Deciding at exact points: open-loop payoffs there and then, with learned corrections where there are weights.

A plan's table is cut into bands and made for one context; here nothing is rounded but the situation. This is how
``learned`` decides with exact state.
"""

from __future__ import annotations

from benchmarks.simulator.deciding import Deciding
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.world import World
from device.plan_keeping import Observed
from twin_service.decision.learned import NO_CORRECTION, correction_at, decide
from twin_service.decision.situation import Situation
from twin_service.decision.value_net import ValueNet
from twin_service.decision.values import OpenLoopValues, values_of
from twinsplit.types import Decision


class ByPoint(Deciding):
    """Stops iff what stopping brings, corrected, is worth at least what going on is, corrected.

    Args:
        name: in results.
        net: weights; ``None``: none, so open loop without a table.
    """

    def __init__(self, name: str, net: ValueNet | None) -> None:
        self._name = name
        self._net = net
        self._values: dict[int, OpenLoopValues] = {}
        self._situations: list[Situation] = []
        self._standing: dict[int, OpenLoopValues] = {}

    @property
    def name(self) -> str:
        return self._name

    def begin(self, world: World) -> None:
        self._standing = {}

    def standing(self, device: SimulatedDevice, now_s: float) -> OpenLoopValues:
        situation = device.situation(now_s)
        # By identity: the grid makes each situation once and keeps it; so does this list.
        values = self._values.get(id(situation))
        if values is None:
            values = self._values[id(situation)] = values_of(situation)
            self._situations.append(situation)
        self._standing[device.index] = values
        return values

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        values = self._standing[device.index]
        queue, backlog_s = observed.queue_length, observed.backlog_s
        uplink_busy_s = device.link.busy_s(now_s)
        payoffs = values.at(epoch, evidence, queue, backlog_s, uplink_busy_s)
        if self._net is None:
            return decide(payoffs, NO_CORRECTION)
        arrived_s = device.edge.reading(now_s).arrived_work_s
        correction = correction_at(
            self._net, values, payoffs, epoch, evidence, queue, backlog_s, uplink_busy_s, arrived_s
        )
        return decide(payoffs, correction)
