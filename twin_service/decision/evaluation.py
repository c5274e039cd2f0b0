"""What a stopping rule is, and what it says of a device's situation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from twin_service.decision.deadline import TimedPayoffs
from twin_service.decision.reduction import Pruning
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array
from twin_service.decision.tables import PlanTable
from twinsplit.plan import BusyUplink


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A table and how to weigh another one against it."""

    plan_table: PlanTable
    pruning: Pruning
    payoffs_with: Callable[[PlanTable], tuple[Array, Array]] | None = None
    """Payoffs (decision, K, Q, G, E) of every decision, seconds, and their backlog grid (G,), with the exits and
    representations of the table that is given. Without pruning: a pruned continuation value decides alike but is worth
    less. ``None``: the rule does not optimise.
    """
    timed_with: Callable[[PlanTable], TimedPayoffs] | None = None
    """The same with a deadline, by age; then ``payoffs_with`` is ``None``."""
    own: Callable[[], tuple[Array, Array]] | None = None
    """What ``payoffs_with(plan_table)`` says, without reckoning it anew; it holds the arrays of the whole batch.
    ``None``: they are not there (any more)."""
    start_values: Callable[[Sequence[PlanTable], Array], Array] | None = None
    """What a task is worth at service start with the exits and representations of each table, used as well as can be,
    by queue length at given backlogs, seconds (tables, Q, backlogs). ``None``: only ``payoffs_with`` says it."""
    busy: Evaluation | None = None
    """The same while earlier payloads keep the uplink busy, where ``plan_table`` tells that apart."""
    _reckoned: dict[PlanTable, tuple[Array, Array]] = field(default_factory=dict)

    def payoffs_of(self, table: PlanTable) -> tuple[Array, Array] | None:
        """``payoffs_with(table)``, reckoned once; ``None``: the rule does not optimise."""
        if self.payoffs_with is None:
            return None
        if table not in self._reckoned:
            is_own = self.own is not None and self.plan_table.sends_as(table)
            self._reckoned[table] = self.own() if is_own and self.own is not None else self.payoffs_with(table)
        return self._reckoned[table]

    def without_payoffs(self) -> Evaluation:
        """The same to be kept, small."""
        busy = None if self.busy is None else self.busy.without_payoffs()
        return replace(self, own=None, busy=busy, _reckoned={})

    def told_apart(self, from_s: float, busy: Evaluation) -> Evaluation:
        """The same with what holds while the uplink is busy for ``from_s`` or longer."""
        there = busy.plan_table
        part = BusyUplink(from_s, there.band_edges_s, there.table)
        return replace(self, plan_table=replace(self.plan_table, busy_uplink=part), busy=busy)


class Rule(Protocol):
    """A stopping rule."""

    @property
    def name(self) -> str: ...

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        """One evaluation per situation. All situations hold the same manifest."""
        ...

    def table(self, situation: Situation) -> PlanTable:
        """The table for one situation."""
        ...


class BatchRule:
    """Evaluates situations together; ``table`` is a batch of one."""

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        raise TypeError("a rule defines evaluate")

    def table(self, situation: Situation) -> PlanTable:
        return self.evaluate([situation])[0].plan_table
