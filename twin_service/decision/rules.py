"""Stopping rules behind one interface (names of design section 2).

A rule turns situations into tables. The engine is the same for all that optimise: ``open-loop`` sees evidence and
looks again at every epoch; ``load-only`` looks again but sees mean accuracies; ``one-time`` sees mean accuracies and
decides at service start; ``one-time-myopic`` also ignores the waiting it causes. The others are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.deadline import TimedPayoffs, exits_worth_running, timed_payoffs
from twin_service.decision.reduction import Pruning, ceiling_s
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array, Statistics, statistics_of, statistics_without_evidence
from twin_service.decision.stopping import PresentPayoffs, present_payoffs, start_values
from twin_service.decision.tables import QUEUES, PlanTable, banded
from twin_service.decision.utility import Batch, Representations, batch_of
from twin_service.decision.value_net import ValueNet
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import QUEUE_LEVELS, Observation
from twinsplit.types import Decision

GRID_POINTS = 20
_GRID_SHARES = np.linspace(0.0, 1.0, GRID_POINTS) ** 2.5
"""Points lie dense where backlogs are short: where they begin to exceed the way of a payload its payoff bends."""
MAX_BACKLOG_S = 30.0
"""Top of the backlog grid where no alternative limits it."""
_MAX_ENUMERATED_EXITS = 4
_WEIGHED_BACKLOGS = np.array([0.0, 0.7, 2.0, 4.0, 8.0])
"""Backlogs at which exits are weighed, in parts of its mean. The long ones are rare, but where all sets offload at once
at the others only they tell them apart."""


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
        return replace(self, own=None, _reckoned={})


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


class _Single:
    """``table`` in terms of ``evaluate``."""

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        raise TypeError("a rule defines evaluate")

    def table(self, situation: Situation) -> PlanTable:
        return self.evaluate([situation])[0].plan_table


Correcting = Callable[[Sequence[Situation], Batch, PresentPayoffs, Array], PresentPayoffs]
"""What is learned, put upon the payoffs of situations on their backlog grids (D, G)."""


@dataclass(frozen=True)
class Optimising(_Single):
    """Backward induction; the flags take away what a simpler rule does not know."""

    name: str = "open-loop"
    has_evidence: bool = True
    observation: Observation = Observation.EACH_EPOCH
    is_myopic: bool = False
    is_reduced: bool = True
    correct: Correcting | None = None

    def evaluate(self, situations: Sequence[Situation], exits_run: NDArray[np.bool_] | None = None) -> list[Evaluation]:
        """``exits_run`` (D, X): which exits are run; ``None``: those worth it."""
        if any(s.weights.deadline_s is not None for s in situations):
            return self._evaluate_apart(situations, exits_run)
        if self.is_myopic:
            situations = [replace(s, is_caused_waiting_counted=False) for s in situations]
        manifest = situations[0].manifest
        if exits_run is None:
            batch = self._with_exits_worth_running(situations)
        else:
            batch = batch_of(situations, self._statistics(manifest), exits_run)
        payoffs, backlog_s = self._payoffs(situations, batch, is_reduced=self.is_reduced)
        evaluations = []
        for device, situation in enumerate(situations):
            table, edges = banded(payoffs, device, backlog_s[device])
            plan_table = self._plan_table(manifest, batch, device, table, edges)
            # What is pruned is worth less than it is.
            own = None if self.is_reduced else partial(self._dense, manifest, payoffs, device, backlog_s[device])
            evaluations.append(Evaluation(plan_table, payoffs.pruning, partial(self._payoffs_with, situation), own=own))
        return evaluations

    def _plan_table(
        self,
        manifest: Manifest,
        batch: Batch,
        device: int,
        table: NDArray[np.uint8],
        band_edges_s: tuple[float, ...],
        age_edges_s: tuple[float, ...] = (),
    ) -> PlanTable:
        return PlanTable(
            table if self.has_evidence else table[:, _spread(manifest)],
            band_edges_s,
            tuple(bool(run) for run in batch.exits_run[device]),
            tuple(int(r) for r in batch.tensor.representation[device]),
            tuple(int(r) for r in batch.input.representation[device]),
            self.observation,
            tuple(float(t) for t in batch.reached_s[device, 1:]),
            age_edges_s,
        )

    def _evaluate_apart(self, situations: Sequence[Situation], exits_run: NDArray[np.bool_] | None) -> list[Evaluation]:
        """Situations with a deadline one by one."""
        evaluations = []
        for device, s in enumerate(situations):
            run = None if exits_run is None else exits_run[[device]]
            deadline_s = s.weights.deadline_s
            if deadline_s is None:
                evaluations += self.evaluate([s], run)
                continue
            counted = replace(s, is_caused_waiting_counted=False) if self.is_myopic else s
            run = self.exits_run([counted]) if run is None else run
            batch = batch_of([counted], self._statistics(s.manifest), run)
            bands = timed_payoffs(batch, counted, self.observation).table()
            plan_table = self._plan_table(s.manifest, batch, 0, *bands)
            evaluations.append(Evaluation(plan_table, Pruning(), timed_with=partial(self._timed_with, counted)))
        return evaluations

    def _statistics(self, manifest: Manifest) -> Statistics:
        return statistics_of(manifest) if self.has_evidence else statistics_without_evidence(manifest)

    def exits_run(self, situations: Sequence[Situation]) -> NDArray[np.bool_]:
        """Which exits are worth running: value at service start over a few queue lengths and backlogs.  # (D, X)"""
        if len(situations) > 1 and any(s.weights.deadline_s is not None for s in situations):
            return np.concatenate([self.exits_run([s]) for s in situations])
        return self._with_exits_worth_running(situations).exits_run

    def _with_exits_worth_running(self, situations: Sequence[Situation]) -> Batch:
        """``situations`` with these exits run; one alone where there is a deadline."""
        statistics = self._statistics(situations[0].manifest)
        sets = exit_sets(len(statistics.exit_epochs))
        every = [s for s in situations for _ in sets]
        batch = batch_of(every, statistics, np.tile(sets, (len(situations), 1)))
        if situations[0].weights.deadline_s is not None:
            return batch.rows(np.array([exits_worth_running(batch, situations[0])]))
        backlog_s = batch.backlog_mean_s[:, None] * _WEIGHED_BACKLOGS
        value = start_values(batch, QUEUES[:2], backlog_s).mean(axis=(1, 2)).reshape(len(situations), len(sets))
        return batch.rows(np.arange(len(situations)) * len(sets) + value.argmax(axis=1))

    def backlog_grid_s(self, batch: Batch) -> Array:
        """Backlogs at which payoffs are reckoned: from none to where no decision depends on it.  # (D, G)"""
        top = ceiling_s(batch, QUEUES)
        if self.observation is Observation.SERVICE_START:
            top = top + batch.reached_s[:, -1]  # it drains until a later epoch looks at what was seen at the start
        top = np.clip(top, 0.01, MAX_BACKLOG_S)
        grid: Array = top[:, None] * _GRID_SHARES
        return grid

    def _payoffs(
        self, situations: Sequence[Situation], batch: Batch, *, is_reduced: bool
    ) -> tuple[PresentPayoffs, Array]:
        """Payoffs and their backlog grid (D, G)."""
        backlog_s = self.backlog_grid_s(batch)
        payoffs = present_payoffs(batch, QUEUES, backlog_s, self.observation, is_reduced=is_reduced)
        if self.correct is not None:
            payoffs = self.correct(situations, batch, payoffs, backlog_s)
        return payoffs, backlog_s

    def _payoffs_with(self, situation: Situation, like: PlanTable) -> tuple[Array, Array]:
        manifest = situation.manifest
        sent = Representations(like.tensor_representations, like.input_representations)
        batch = batch_of([situation], self._statistics(manifest), like.exits_run, sent)
        payoffs, backlog_s = self._payoffs([situation], batch, is_reduced=False)
        return self._dense(manifest, payoffs, 0, backlog_s[0])

    def _dense(self, manifest: Manifest, payoffs: PresentPayoffs, device: int, backlog_s: Array) -> tuple[Array, Array]:
        dense = payoffs.dense(device)
        return dense if self.has_evidence else dense[..., _spread(manifest)], backlog_s

    def _timed_with(self, situation: Situation, like: PlanTable) -> TimedPayoffs:
        sent = Representations(like.tensor_representations, like.input_representations)
        batch = batch_of([situation], self._statistics(situation.manifest), like.exits_run, sent)
        payoffs = timed_payoffs(batch, situation, self.observation)
        return payoffs if self.has_evidence else payoffs.spread(_spread(situation.manifest))


def exit_sets(count: int) -> NDArray[np.bool_]:
    """Sets of exits that are weighed: all subsets of few, else none, all and each alone.  # (sets, X)"""
    if count <= _MAX_ENUMERATED_EXITS:
        return np.array(list(product((False, True), repeat=count)), dtype=bool).reshape(2**count, count)
    return np.concatenate((np.zeros((1, count), bool), np.ones((1, count), bool), np.eye(count, dtype=bool)))


def _spread(manifest: Manifest) -> NDArray[np.int64]:
    """Column of the one-bin statistics for every full evidence state."""
    bins = manifest.bin_count
    return np.array([0] + [1 + (e - 1) // bins for e in range(1, manifest.evidence_count)])


@dataclass(frozen=True)
class Fixed(_Single):
    """Offload at cut ``cut`` (``None``: never), leave at an exit whose calibrated P(right) reaches ``threshold``."""

    name: str
    cut: int | None
    threshold: float | None = None

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        return [Evaluation(self._fixed(s), Pruning()) for s in situations]

    def _fixed(self, s: Situation) -> PlanTable:
        manifest = s.manifest
        statistics = statistics_of(manifest)
        exits_run = (self.threshold is not None,) * len(manifest.exits)
        batch = batch_of([s], statistics, exits_run)
        table = np.full(
            (manifest.held_segments + 1, manifest.evidence_count, QUEUE_LEVELS, 1), Decision.CONTINUE, dtype=np.uint8
        )
        if self.threshold is not None:
            table |= exit_cells(manifest, self.threshold)[:, :, None, None]
        if self.cut is not None:
            self._offload_from(table, batch, self.cut)
        return PlanTable(
            table,
            (),
            exits_run,
            tuple(int(r) for r in batch.tensor.representation[0]),
            tuple(int(r) for r in batch.input.representation[0]),
            Observation.EACH_EPOCH,
            tuple(float(t) for t in batch.reached_s[0, 1:]),
        )

    def _offload_from(self, table: NDArray[np.uint8], batch: Batch, cut: int) -> None:
        """OFFLOAD at ``cut`` or, where nothing may be sent there, at the first epoch after it that can send."""
        for epoch in range(cut, len(table)):
            row = table[epoch]
            if batch.tensor.is_available[0, epoch]:
                row[row == Decision.CONTINUE] = Decision.OFFLOAD_TENSOR
                return
            if epoch == 0 and batch.input.is_available[0, 0]:
                row[...] = Decision.OFFLOAD_INPUT
                return


def exit_cells(manifest: Manifest, threshold: float) -> NDArray[np.uint8]:
    """EXIT where the last exit's calibrated P(right) reaches ``threshold``, at the epoch of that exit.  # (K, E)"""
    cells = np.zeros((manifest.held_segments + 1, manifest.evidence_count), dtype=np.uint8)
    for e in manifest.exits:
        if e.after_segment <= manifest.held_segments:
            for bin_index, p_right in enumerate(e.p_right):
                if p_right >= threshold:
                    cells[e.after_segment, 1 + e.index * manifest.bin_count + bin_index] = Decision.EXIT
    return cells


@dataclass(frozen=True)
class OneTimeThreshold(_Single):
    """``one-time``, but every exit on the way is run and left at when its calibrated P(right) reaches ``threshold``."""

    name: str
    threshold: float

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        evaluations = ONE_TIME.evaluate(situations)
        for device, s in enumerate(situations):
            if s.weights.deadline_s is not None:  # then the time of the exits decides what is in time
                every = np.ones((1, len(s.manifest.exits)), dtype=bool)
                evaluations[device] = ONE_TIME.evaluate([s], every)[0]
        return [self._with_exits(e, s) for e, s in zip(evaluations, situations, strict=True)]

    def _with_exits(self, evaluation: Evaluation, s: Situation) -> Evaluation:
        base = evaluation.plan_table
        table = base.table.copy()
        exits = exit_cells(s.manifest, self.threshold)
        table[exits == Decision.EXIT] = Decision.EXIT
        exits_run = (True,) * len(s.manifest.exits)
        reached = batch_of([s], statistics_of(s.manifest), exits_run).reached_s[0, 1:]
        changed = replace(base, table=table, exits_run=exits_run, boundaries_s=tuple(float(t) for t in reached))
        return Evaluation(changed, evaluation.pruning)


OPEN_LOOP = Optimising()
LOAD_ONLY = Optimising("load-only", has_evidence=False)
ONE_TIME = Optimising("one-time", has_evidence=False, observation=Observation.SERVICE_START)
ONE_TIME_MYOPIC = replace(ONE_TIME, name="one-time-myopic", is_myopic=True)

_NAMED: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        OPEN_LOOP,
        LOAD_ONLY,
        ONE_TIME,
        ONE_TIME_MYOPIC,
        Fixed("device-only", None),
        Fixed("edge-only", 0),
    )
}

LEARNED_RULES = ("multi-step", "learned")
"""Both are open-loop until weights have been promoted; ``multi-step`` is the product's default."""
_WITH_CUT_AND_THRESHOLD = "threshold-static:"
RULE_FORMS = (*_NAMED, *LEARNED_RULES, "static:K", "one-time-threshold:T", "threshold-static:K,T")
"""Built-in rules that :func:`rule_named` understands: K a cut, T a calibrated probability."""


def rule_names(text: str) -> list[str]:
    """Names of a list such as ``one-time,threshold-static:2,0.8,my_file.py:MyRule``, where one name has a comma."""
    names: list[str] = []
    for name in text.split(","):
        if names and names[-1].startswith(_WITH_CUT_AND_THRESHOLD) and "," not in names[-1]:
            names[-1] += f",{name.strip()}"
        elif name.strip():
            names.append(name.strip())
    return names


def rule_named(
    name: str, *, is_reduced: bool = True, net_of: Callable[[Manifest], ValueNet | None] = lambda _manifest: None
) -> Rule:
    """The rule of a name such as ``open-loop``, ``static:2`` or ``one-time-threshold:0.9``, or one's own: such as
    ``my_file.py:MyRule``, or a name of the entry point group ``twinsplit.rules``.

    ``is_reduced``: whether R1 and R2 rule decisions out, in rules that look at every epoch. ``net_of``: weights in
    force for a model, of ``multi-step`` and ``learned``; ``None``: it has none, and they are open-loop.

    Raises:
        SettingsError: no such rule, its parameter does not fit, or a rule of one's own that cannot be loaded.
    """
    if name in _NAMED:
        rule = _NAMED[name]
        return replace(rule, is_reduced=is_reduced) if isinstance(rule, Optimising) else rule
    if name in LEARNED_RULES:
        from twin_service.decision.learned import Learned  # it is built upon this module

        return Learned(name, net_of, is_reduced=is_reduced)
    head, _, tail = name.partition(":")
    try:
        if head == "static":
            return Fixed(name, _cut(tail))
        if head == "one-time-threshold":
            return OneTimeThreshold(name, _probability(tail))
        if head == "threshold-static":
            cut, threshold = tail.split(",")
            return Fixed(name, _cut(cut), _probability(threshold))
    except ValueError:
        raise SettingsError(f"rule {name!r}: give K as a cut from 0 and T as a probability in 0..1") from None
    return _own_rule(name)


def _own_rule(name: str) -> Rule:
    # Rules of one's own are built upon this module.
    from twin_service.decision.loading import FILE_FORM, installed_names, installed_rule, is_file_form, load_rule

    rule = load_rule(name) if is_file_form(name) else installed_rule(name)
    if rule is not None and rule.name in (*_NAMED, *LEARNED_RULES):
        raise SettingsError(f"rule {name!r}: {rule.name!r} is the name of a built-in rule; give it another name")
    if rule is not None:
        return rule
    forms = ", ".join((*RULE_FORMS, *installed_names(), FILE_FORM))
    raise SettingsError(f"no rule is called {name!r}; there are {forms}")


def _cut(text: str) -> int:
    cut = int(text)
    if cut < 0:
        raise ValueError(text)
    return cut


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(text)
    return value
