"""A rule of one's own: a decision for every place where a task may stand, folded into the table of a plan.

    class Hasty(OwnRule):
        name = "hasty"

        def decide(self, cell: Cell) -> Decision:
            return Decision.EXIT if Decision.EXIT in cell.possible else Decision.CONTINUE

The twin asks the rule for every cell when it makes a plan, never a device while a task runs. Where decisions change
with the backlog is found by halving: between two backlogs with the same decision nothing is assumed to happen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from twin_service.decision.evaluation import Evaluation
from twin_service.decision.optimising import MAX_BACKLOG_S
from twin_service.decision.reduction import Pruning
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.tables import PlanTable, merged
from twin_service.decision.values import OpenLoopValues, Payoffs, values_of
from twinsplit.errors import RuleError
from twinsplit.plan import NO_REPRESENTATION, QUEUE_LEVELS, Observation
from twinsplit.types import NO_EVIDENCE, Decision

_TABLES_KEPT = 256
_FIRST_STEP_S = 0.01
_STEP_RATIO = 1.5
_LEAST_CHANGE_S = 0.001
_LEAST_CHANGE_SHARE = 0.005
"""A change of decision is located to within the larger of a millisecond and this share of the backlog."""


@dataclass(slots=True)
class Cell:
    """Where a task may stand: what a rule of one's own decides upon. Times and payoffs in seconds."""

    situation: Situation
    """The device: its measured times, weights, task rate and everything else the twin knows."""
    epoch: int
    """Segments done, 0..held; at the last epoch CONTINUE means that the task is finished here."""
    evidence: int
    """Evidence state, see :func:`twinsplit.types.evidence_state`."""
    exit_index: int | None
    """The last exit that ran; ``None``: none has."""
    p_exit_right: float | None
    """Calibrated probability that this exit's answer is right; ``None``: there is none."""
    p_whole_right: float
    """Likewise that the whole network's would be, given the evidence."""
    queue_length: int
    """Tasks that wait; in a plan 3 stands for 3 and more."""
    backlog_s: float
    """Unfinished work at the edge."""
    possible: tuple[Decision, ...]
    """What can be decided here."""
    _payoffs: Callable[[], Payoffs]
    _found: Payoffs | None = None

    @property
    def payoffs(self) -> Payoffs:
        """Expected utility to go of every decision by the open loop: ``tensor``, ``input``, ``exit``, ``going_on``."""
        if self._found is None:
            self._found = self._payoffs()
        return self._found


class OwnRule:
    """Base class of a rule of one's own: define ``name`` and :meth:`decide`.

    A rule is made without arguments. It must decide alike whenever it is asked the same, and take microseconds: a plan
    asks some ten thousand times.
    """

    name: str = ""
    """As in results, plans and messages; empty: the name of the class."""

    def decide(self, cell: Cell) -> Decision:
        """What a task that stands at ``cell`` does; one of ``cell.possible``."""
        raise NotImplementedError("a rule of one's own defines decide(cell)")

    def exits_run(self, situation: Situation) -> Sequence[bool] | None:
        """Which exits run, one per exit of the manifest; ``None``: those that the open loop would run."""
        return None

    # The interface of twin_service.decision.rules.Rule.

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        """One table per situation.

        Raises:
            RuleError: the rule fails, or decides what is unknown or impossible; names the rule and the cell.
        """
        return [Evaluation(self.table(s), Pruning()) for s in situations]

    def table(self, situation: Situation) -> PlanTable:
        """The table for one situation.

        Raises:
            RuleError: see :meth:`evaluate`.
        """
        return _folded(self, self.values(situation))

    def values(self, situation: Situation) -> OpenLoopValues:
        """The open loop's payoffs with the exits that this rule runs.

        Raises:
            RuleError: :meth:`exits_run` fails, or is not one bool per exit.
        """
        return values_of(situation, _exits_run(self, situation))

    def decision_at(
        self,
        values: OpenLoopValues,
        epoch: int,
        evidence: int,
        queue_length: float,
        backlog_s: float,
        uplink_busy_s: float,
    ) -> Decision:
        """What a task that stands just there does, without a table.

        Raises:
            RuleError: see :meth:`evaluate`.
        """
        place = _Place(self, values, epoch, evidence, int(queue_length))
        return place.decision(backlog_s, uplink_busy_s)


class _Place:
    """One epoch, evidence and queue length at any backlog."""

    def __init__(self, rule: OwnRule, values: OpenLoopValues, epoch: int, evidence: int, queue_length: int) -> None:
        manifest = values.situation.manifest
        statistics = statistics_of(manifest)
        has_evidence = evidence != NO_EVIDENCE
        self._rule = rule
        self._values = values
        self._epoch, self._evidence, self._queue_length = epoch, evidence, queue_length
        self._exit_index = (evidence - 1) // manifest.bin_count if has_evidence else None
        self._p_exit_right = float(statistics.p_exit_right[evidence]) if has_evidence else None
        self._p_whole_right = float(statistics.p_whole_right[evidence])
        self._possible = _possible(values, epoch, evidence)

    def decision(self, backlog_s: float, uplink_busy_s: float | None = None) -> Decision:
        """Asks the rule and checks what it says."""
        busy_s = self._values.situation.uplink_busy_s if uplink_busy_s is None else uplink_busy_s
        cell = Cell(
            self._values.situation,
            self._epoch,
            self._evidence,
            self._exit_index,
            self._p_exit_right,
            self._p_whole_right,
            self._queue_length,
            backlog_s,
            self._possible,
            lambda: self._values.at(self._epoch, self._evidence, self._queue_length, backlog_s, busy_s),
        )
        try:
            found: object = self._rule.decide(cell)
        except (Exception, SystemExit) as error:
            raise self._error(backlog_s, f"raised {type(error).__name__}: {error}") from error
        if not isinstance(found, Decision) or found not in self._possible:
            raise self._error(backlog_s, self._why_not(found))
        return found

    def _why_not(self, found: object) -> str:
        if not isinstance(found, Decision):
            return f"decided {found!r}, which is no Decision; there are {', '.join(d.name for d in Decision)}"
        if found is Decision.EXIT:
            return "decided EXIT, but no exit has run yet"
        return f"decided {found.name}, but that payload cannot be sent here; ask whether it is in cell.possible"

    def _error(self, backlog_s: float, cause: str) -> RuleError:
        evidence = "no evidence"
        if self._exit_index is not None:
            bins = self._values.situation.manifest.bin_count
            evidence = f"evidence {self._evidence} (exit {self._exit_index + 1}, bin {(self._evidence - 1) % bins})"
        return RuleError(
            f"rule {self._rule.name!r} at epoch {self._epoch}, {evidence}, queue length {self._queue_length}, backlog "
            f"{backlog_s:.3f} s",
            cause,
        )


def _possible(values: OpenLoopValues, epoch: int, evidence: int) -> tuple[Decision, ...]:
    found = [Decision.CONTINUE]
    if evidence != NO_EVIDENCE:
        found.append(Decision.EXIT)
    if values.tensor_representations[epoch] != NO_REPRESENTATION:
        found.append(Decision.OFFLOAD_TENSOR)
    if values.input_representations[epoch] != NO_REPRESENTATION:
        found.append(Decision.OFFLOAD_INPUT)
    return tuple(found)


def _exits_run(rule: OwnRule, situation: Situation) -> tuple[bool, ...] | None:
    try:
        found = rule.exits_run(situation)
        chosen = None if found is None else tuple(bool(run) for run in found)
    except (Exception, SystemExit) as error:
        raise RuleError(f"rule {rule.name!r}", f"exits_run raised {type(error).__name__}: {error}") from error
    count = len(situation.manifest.exits)
    if chosen is not None and len(chosen) != count:
        raise RuleError(f"rule {rule.name!r}", f"exits_run gave {len(chosen)} for the {count} exits of this model")
    return chosen


@lru_cache(maxsize=_TABLES_KEPT)
def _folded(rule: OwnRule, values: OpenLoopValues) -> PlanTable:
    """The table of ``rule``: break points of all places merged, each band decided as at its middle."""
    manifest = values.situation.manifest
    seen = statistics_of(manifest).seen
    grid_s = _grid_s()
    courses = {}
    for epoch, evidence, queue in product(
        range(manifest.held_segments + 1), range(manifest.evidence_count), range(QUEUE_LEVELS)
    ):
        if seen[epoch, evidence]:
            place = _Place(rule, values, epoch, evidence, queue)
            courses[epoch, evidence, queue] = _course(place.decision, grid_s)
    points = np.sort(np.concatenate([np.array(edges) for edges, _ in courses.values()]))
    edges_s = [float(edge) for edge in merged(points)] if len(points) else []
    middles_s = [(low + high) / 2.0 for low, high in pairwise([0.0, *edges_s])]
    middles_s.append((edges_s[-1] + max(edges_s[-1], grid_s[-1])) / 2.0 if edges_s else 0.0)
    shape = (manifest.held_segments + 1, manifest.evidence_count, QUEUE_LEVELS, len(middles_s))
    table = np.full(shape, Decision.CONTINUE, dtype=np.uint8)
    for place_index, (changes_s, decisions) in courses.items():
        table[place_index] = [decisions[bisect_right(changes_s, middle_s)] for middle_s in middles_s]
    return PlanTable(
        table,
        tuple(edges_s),
        values.exits_run,
        values.tensor_representations,
        values.input_representations,
        Observation.EACH_EPOCH,
        values.reached_s[1:],
    )


def _grid_s() -> list[float]:
    """Backlogs that are looked at in any case, ascending from 0 to the top of all grids."""
    grid = [0.0]
    step_s = _FIRST_STEP_S
    while step_s < MAX_BACKLOG_S:
        grid.append(step_s)
        step_s *= _STEP_RATIO
    return [*grid, MAX_BACKLOG_S]


def _course(decide: Callable[[float], Decision], grid_s: Sequence[float]) -> tuple[list[float], list[Decision]]:
    """Backlogs at which the decision changes, ascending, and the decisions between them (one more)."""
    changes_s: list[float] = []
    decisions = [decide(grid_s[0])]
    before = decisions[0]
    for low_s, high_s in pairwise(grid_s):
        after = decide(high_s)
        for change_s, decision in _changes(decide, low_s, before, high_s, after):
            changes_s.append(change_s)
            decisions.append(decision)
        before = after
    return changes_s, decisions


def _changes(
    decide: Callable[[float], Decision], low_s: float, below: Decision, high_s: float, above: Decision
) -> Iterator[tuple[float, Decision]]:
    if below is above:
        return
    middle_s = (low_s + high_s) / 2.0
    if high_s - low_s <= max(_LEAST_CHANGE_S, _LEAST_CHANGE_SHARE * low_s):
        yield middle_s, above
        return
    between = decide(middle_s)
    yield from _changes(decide, low_s, below, middle_s, between)
    yield from _changes(decide, middle_s, between, high_s, above)
