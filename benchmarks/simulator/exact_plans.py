"""What a simulated device decides by with exact state, and the reporter of a device that nobody listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.simulator.deciding import Deciding, Standing, representation_of
from device.plan_keeping import Choice, Observed, PlanKeeper
from device.reporting import Reporter
from device.task import Task
from twinsplit.model.manifest import Manifest
from twinsplit.types import Decision, Payloads, Reason, TaskRecord

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice

_CHOICES = (
    Choice(Decision.CONTINUE, Reason.NOT_WORTH_IT, None, False),
    Choice(Decision.EXIT, Reason.EXIT_CONFIDENT, None, False),
    Choice(Decision.OFFLOAD_TENSOR, Reason.OFFLOAD_PAYS, None, False),
    Choice(Decision.OFFLOAD_INPUT, Reason.OFFLOAD_PAYS, None, False),
)


class ExactPlans(PlanKeeper):
    """The backlog is the edge's own, and decisions come from a :class:`Deciding`."""

    def __init__(
        self, manifest: Manifest, model_digest: str, payloads: Payloads, device: SimulatedDevice, deciding: Deciding
    ) -> None:
        super().__init__(
            manifest,
            model_digest,
            payloads=payloads,
            fixed_edge_address=device.edge.address,
            is_plan_expected=False,
        )
        self.observes_each_epoch = deciding.observes_each_epoch
        self._device = device
        self._deciding = deciding
        self._standing: Standing | None = None
        self._task: Task | None = None

    def backlog_s(self, now_s: float) -> float:
        return self._device.edge.backlog_s(now_s)

    def exits_run(self, now_s: float) -> tuple[bool, ...]:
        return self._stands(now_s).exits_run

    def representation(self, epoch: int, decision: Decision) -> int:
        return representation_of(self._stands(self._device.world.now_s), epoch, decision)

    def choose(
        self,
        now_s: float,
        epoch: int,
        evidence: int,
        observed: Observed,
        hindrance: Reason | None = None,
        *,
        does_edge_answer: bool = False,
    ) -> Choice:
        device = self._device
        if hindrance is not None:
            # What a plan does whose edge is out of reach: its exits, else go on.
            decision = self._contingent(self._default, epoch, evidence, False)
            return self._choice(decision, hindrance)
        if self.observes_each_epoch or device.task is not self._task:
            self._task = device.task
            self._standing = self._deciding.standing(device, now_s)
        return _CHOICES[self._deciding.decision(device, now_s, epoch, evidence, observed)]

    def _stands(self, now_s: float) -> Standing:
        if self._standing is None:
            self._standing = self._deciding.standing(self._device, now_s)
        return self._standing


class SilentReporter(Reporter):
    """Nobody listens: nothing is ever due, and nothing is kept."""

    def service_started(self, task_id: int, now_s: float, first_epoch: int) -> None:
        pass

    def epoch_reached(self, epoch: int, now_s: float) -> None:
        pass

    def service_ended(self) -> None:
        pass

    def task_ended(self, record: TaskRecord) -> None:
        pass

    def is_due(self, now_s: float) -> bool:
        return False
