"""How simulated devices decide with exact state: every choice sees the device's own queue and the edge's own backlog.

To add a way of deciding, subclass :class:`Deciding`. One object serves all devices of a world; it may read everything
that the world holds (a clairvoyant does), and must change nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from device.plan_keeping import Observed
from twin_service.decision.evaluation import Rule
from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import Decision

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice
    from benchmarks.simulator.world import World
    from device.plan_keeping import PlanKeeper
    from device.reporting import Reporter
    from device.reports import Report
    from device.task import AskTwin

_DECISIONS = tuple(Decision)


class Standing(Protocol):
    """What stands at a device apart from its decisions, such as a :class:`PlanTable`."""

    @property
    def exits_run(self) -> tuple[bool, ...]: ...

    @property
    def tensor_representations(self) -> tuple[int, ...]: ...

    @property
    def input_representations(self) -> tuple[int, ...]: ...


class Deciding(ABC):
    """How the devices of one world decide."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the rule, as results call it."""

    @property
    def observes_each_epoch(self) -> bool:
        """False: queue and backlog are those at service start, and what stands then stands for the whole task."""
        return True

    @property
    def messages(self) -> int | None:
        """Signalling messages sent so far; ``None``: exact state needs none."""
        return None

    @property
    def hears_edges(self) -> bool:
        """Whether answers of an edge tell its backlog to the device."""
        return False

    @property
    def asks_twin(self) -> bool:
        """Whether devices ask at every epoch and wait for :meth:`Pipeline.polled`."""
        return False

    def begin(self, world: World) -> None:  # noqa: B027 - most have nothing to begin
        """A world begins; nothing has happened in it."""

    def equip(self, device: SimulatedDevice) -> tuple[PlanKeeper, Reporter] | None:
        """What the device's pipeline decides by and reports with; ``None``: exact state, and nobody listens."""
        return None

    def told(self, device: SimulatedDevice, message: Report | AskTwin) -> None:  # noqa: B027 - exact state hears nothing
        """A device has something to tell its twin."""

    @abstractmethod
    def standing(self, device: SimulatedDevice, now_s: float) -> Standing:
        """What stands from now on; asked at service start, and at every epoch where each is observed."""

    @abstractmethod
    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        """The decision at ``epoch`` of the task in service (``device.task``), under what stands there."""


class ByTable(Deciding):
    """Tables of a rule, one for every situation on the grid, looked up with exact queue and backlog."""

    def __init__(self, rule: Rule, name: str | None = None) -> None:
        """``name``: in results; ``None``: the rule's own."""
        self._rule = rule
        self._name = rule.name if name is None else name
        self._observes_each_epoch = True
        self._tables: dict[int, PlanTable] = {}
        self._situations: list[Situation] = []
        self._standing: dict[int, PlanTable] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def observes_each_epoch(self) -> bool:
        return self._observes_each_epoch

    @property
    def evaluations(self) -> int:
        """Tables made so far."""
        return len(self._tables)

    def begin(self, world: World) -> None:
        self._standing = {}
        first = self._rule.table(world.devices[0].idle_situation())
        self._observes_each_epoch = first.observation is Observation.EACH_EPOCH

    def standing(self, device: SimulatedDevice, now_s: float) -> PlanTable:
        table = self._standing[device.index] = self._table(device.situation(now_s))
        return table

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        table = self._standing[device.index]
        return decision_of(table, epoch, evidence, observed)

    def _table(self, situation: Situation) -> PlanTable:
        # By identity: the grid makes each situation once and keeps it; so does this list.
        table = self._tables.get(id(situation))
        if table is None:
            table = self._tables[id(situation)] = self._rule.table(situation)
            self._situations.append(situation)
        return table


def decision_of(table: PlanTable, epoch: int, evidence: int, observed: Observed) -> Decision:
    """Look-up as :meth:`twinsplit.plan.Plan.decision` does it."""
    queue = min(observed.queue_length, QUEUE_LEVELS - 1)
    band = 0
    for edge_s in table.band_edges_s:
        if edge_s > observed.backlog_s:
            break
        band += 1
    if table.age_edges_s:
        age_band = bisect_right(table.age_edges_s, observed.age_s)
        return _DECISIONS[table.table.item(epoch, evidence, queue, band, age_band)]
    return _DECISIONS[table.table.item(epoch, evidence, queue, band)]


class Forced(Deciding):
    """One task goes on to ``epoch`` and takes ``decision`` there; everything else decides as ``base`` does."""

    def __init__(self, base: Deciding, *, device: int, task_id: int, epoch: int, decision: Decision) -> None:
        self._base = base
        self._device = device
        self._task_id = task_id
        self._epoch = epoch
        self._decision = decision

    @property
    def name(self) -> str:
        return f"{self._base.name}, forced"

    @property
    def observes_each_epoch(self) -> bool:
        return self._base.observes_each_epoch

    def begin(self, world: World) -> None:
        self._base.begin(world)

    def standing(self, device: SimulatedDevice, now_s: float) -> Standing:
        return self._base.standing(device, now_s)

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        task = device.task
        if task is None or device.index != self._device or task.task_id != self._task_id or epoch > self._epoch:
            return self._base.decision(device, now_s, epoch, evidence, observed)
        return self._decision if epoch == self._epoch else Decision.CONTINUE


def representation_of(standing: Standing, epoch: int, decision: Decision) -> int:
    """Position of the representation in which ``decision`` sends its payload at ``epoch``."""
    chosen: Sequence[int] = (
        standing.tensor_representations if decision is Decision.OFFLOAD_TENSOR else standing.input_representations
    )
    return chosen[epoch]
