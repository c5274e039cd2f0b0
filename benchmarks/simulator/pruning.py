"""What the necessary conditions R1-R3 change: decisions, planning time, utility (design section 5).

Situations are those that devices really meet in runs of open-loop. R1 and R2 are what the switch ``is_reduced`` takes
away. R3 is the top of every backlog grid; it is tested by looking for offloads above it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rule_figures import interval, ratio_interval
from benchmarks.samples import described, ms
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.running import Progress, spread
from benchmarks.simulator.teaching import recorded
from benchmarks.simulator.world import World, model_of
from device.task import Task
from twin_service.decision.evaluation import Evaluation, Rule
from twin_service.decision.learned import Learned, corrected, reachable
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.reduction import Pruning, ceiling_s
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import PresentPayoffs, present_payoffs
from twin_service.decision.tables import QUEUES, PlanTable
from twin_service.decision.utility import batch_of
from twin_service.decision.value_net import ValueNet
from twin_service.learning.lesson import learn
from twinsplit.types import Decision

PLAN_BATCH = 16
"""Devices that the twin plans at one tick."""
_BEYOND_CEILING = 1.2
_ABOVE_S = 1e-9
_SAME_S = 1e-9
_NOTED_SEED = 5_000_001


@dataclass(frozen=True, slots=True)
class PruningSizes:
    """How much is compared."""

    noted_tasks: int = 2000
    """Of the run whose situations are looked at."""
    most_situations: int = 150
    """Per scenario."""
    backlogs: int = 200
    """At which decisions are compared, per situation."""
    timed: int = 60
    """Situations per scenario whose planning is timed."""
    repeats: int = 5
    """The least of so many times counts."""
    learnt_from: int = 4000
    tasks: int = 800
    """Of each run for utility."""

    @classmethod
    def quick(cls) -> PruningSizes:
        """For a look."""
        return cls(500, 30, 100, 10, 3, 800, 150)


@dataclass(slots=True)
class Compared:
    """Decisions at the same points with and without R1 and R2."""

    points: int = 0
    different: int = 0

    def add(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
        self.points += one.size
        self.different += int((one != other).sum())

    def as_document(self) -> dict[str, int]:
        return {"compared": self.points, "different": self.different}


def pruned_and_not(
    scenario: Scenario,
    seeds: Sequence[int],
    sizes: PruningSizes,
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> dict[str, Any]:
    """All figures of one scenario.

    Raises:
        TrainingError: torch is not installed, or training diverged.
    """
    situations = met_situations(scenario, sizes.noted_tasks, sizes.most_situations)
    manifest, _ = model_of(scenario.model)
    _, report = learn(recorded(scenario, sizes.learnt_from), manifest)
    net = report.candidate
    assert net is not None, "so many tasks do for a lesson"
    rules: tuple[Rule, ...] = (OPEN_LOOP, Learned("learned", lambda _: net))
    jobs = [
        (scenario, sizes.tasks, seed, None if rule is OPEN_LOOP else net, is_reduced)
        for rule in rules
        for is_reduced in (True, False)
        for seed in seeds
    ]
    costs_s = np.array(spread(_cost_s, jobs, workers=workers, progress=progress)).reshape(len(rules), 2, len(seeds))
    return {
        "scenario": scenario.described(),
        "situations": len(situations),
        "pruned_share": pruned_share(situations).share,
        "decisions": {
            "open-loop": compared_decisions(situations, None, sizes.backlogs).as_document(),
            "learned": compared_decisions(situations, net, sizes.backlogs).as_document(),
        },
        "continuation_lowered": lowered_continuation(situations, sizes.backlogs),
        "offloads_above_ceiling": above_ceiling(situations, sizes.backlogs).as_document(),
        "plans": compared_plans(situations, sizes.backlogs).as_document(),
        "planning_time": planning_time(situations[: sizes.timed], sizes.repeats),
        "is_promoted": report.refused_because is None,
        "refused_because": report.refused_because,
        "utility": {rule.name: _utility(*costs_s[place]) for place, rule in enumerate(rules)},
    }


def met_situations(scenario: Scenario, tasks: int, most: int) -> list[Situation]:
    """Different situations of the devices in a run of open-loop; a random part where there are more than ``most``."""
    noted = _Noted(OPEN_LOOP)
    run = changed_scenario(scenario, tasks=tasks, warm_up_tasks=min(scenario.warm_up_tasks, tasks // 10))
    World(run, _NOTED_SEED, ByTable(noted)).run()
    met = list({id(situation): situation for situation in noted.situations}.values())
    random.Random(_NOTED_SEED).shuffle(met)
    return met[:most]


def pruned_share(situations: Sequence[Situation]) -> Pruning:
    """Choices ahead considered and pruned in the tables of open-loop."""
    found, rule = Pruning(), replace(OPEN_LOOP, is_reduced=True)
    for situation in situations:
        pruning = rule.evaluate([situation])[0].pruning
        found.considered += pruning.considered
        found.pruned += pruning.pruned
    return found


def compared_decisions(situations: Sequence[Situation], net: ValueNet | None, backlogs: int) -> Compared:
    """Decisions at the present epoch at every point that a task can meet, by the payoffs there and then."""
    found = Compared()
    for situation in situations:
        cells, pruned, whole = _payoffs(situation, backlogs, net)
        found.add(_best(pruned)[cells], _best(whole)[cells])
    return found


def lowered_continuation(situations: Sequence[Situation], backlogs: int) -> dict[str, float]:
    """At what share of those points R1 and R2 lower C0, and by how much at most. It wins at none of them in open loop,
    but corrections are learnt upon the C0 that is not lowered."""
    lowered_s = []
    for situation in situations:
        cells, pruned, whole = _payoffs(situation, backlogs)
        lowered_s.append((whole.going_on[0] - pruned.going_on[0])[cells].ravel())
    every = np.concatenate(lowered_s)
    return {"share": float((every > _SAME_S).mean()), "most_s": float(every.max())}


def above_ceiling(situations: Sequence[Situation], backlogs: int) -> Compared:
    """Decisions without R1 and R2 between the ceiling of R3 and twice that: those that offload are different."""
    found = Compared()
    for situation in situations:
        batch = batch_of([situation], statistics_of(situation.manifest), OPEN_LOOP.exits_run([situation])[0])
        ceiling = float(ceiling_s(batch, QUEUES)[0])
        if not np.isfinite(ceiling):
            continue
        backlog_s = np.linspace([ceiling + _ABOVE_S], [2.0 * ceiling + _ABOVE_S], backlogs, axis=1)
        epochs, evidence = np.nonzero(reachable(batch, batch.exits_run[0]))
        best = _best(present_payoffs(batch, QUEUES, backlog_s, is_reduced=False))[epochs, :, :, evidence]
        found.add(best, np.where(best >= Decision.OFFLOAD_TENSOR, np.uint8(Decision.CONTINUE), best))
    return found


def compared_plans(situations: Sequence[Situation], backlogs: int) -> Compared:
    """The same of tables as plans carry them, whose break points are interpolated between the points of a grid."""
    found = Compared()
    for situation in situations:
        statistics = statistics_of(situation.manifest)
        tables = [replace(OPEN_LOOP, is_reduced=is_reduced).table(situation) for is_reduced in (True, False)]
        batch = batch_of([situation], statistics, tables[0].exits_run)
        at_s = np.linspace(0.0, _BEYOND_CEILING * OPEN_LOOP.backlog_grid_s(batch)[0, -1], backlogs)
        epochs, evidence = np.nonzero(reachable(batch, batch.exits_run[0]))
        bands = (np.searchsorted(table.band_edges_s, at_s, side="right") for table in tables)
        found.add(*(t.table[epochs, evidence][..., band] for t, band in zip(tables, bands, strict=True)))
    return found


def planning_time(situations: Sequence[Situation], repeats: int) -> dict[str, Any]:
    """Processor time of planning with R1 and R2 and without, in random order: a whole table, one of a batch, and the
    backward induction alone."""
    ways: dict[str, Callable[[int, bool], Callable[[], object]]] = {
        "table": lambda place, is_reduced: _table(situations[place : place + 1], is_reduced),
        f"table, {PLAN_BATCH} at once": lambda place, is_reduced: _table(
            [situations[(place + i) % len(situations)] for i in range(PLAN_BATCH)], is_reduced
        ),
        "induction": lambda place, is_reduced: _induction(situations[place], is_reduced),
    }
    rng = random.Random(1)
    found = {}
    for name, way in ways.items():
        times_s: dict[bool, list[float]] = {True: [], False: []}
        for place in range(len(situations)):
            acts = {is_reduced: way(place, is_reduced) for is_reduced in (True, False)}
            taken_s: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(repeats):
                for is_reduced in rng.sample((True, False), 2):
                    began_s = time.thread_time()
                    acts[is_reduced]()
                    taken_s[is_reduced].append(time.thread_time() - began_s)
            for is_reduced, seconds in taken_s.items():
                times_s[is_reduced].append(min(seconds))
        with_s, without_s = np.array(times_s[True]), np.array(times_s[False])
        found[name] = {
            "with": described(times_s[True]),
            "without": described(times_s[False]),
            "ratio": float(with_s.mean() / without_s.mean()),
            "ratio_ci": ratio_interval(with_s, without_s),
        }
    return found


def pruning_lines(name: str, found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{name}: {found['pruned_share']:.0%} of the choices ahead pruned in {found['situations']} situations"]
    for rule, decisions in found["decisions"].items():
        lines.append(f"  {rule}: {decisions['different']} of {decisions['compared']:,} decisions differ")
    above, lowered = found["offloads_above_ceiling"], found["continuation_lowered"]
    lines.append(f"  {above['different']} of {above['compared']:,} decisions above the ceiling of R3 offload")
    lines.append(f"  C0 is lowered at {lowered['share']:.1%} of the points, by {lowered['most_s']:.2f} s at most")
    for way, times in found["planning_time"].items():
        taken = f"{ms(times['with']['median_s'])} ms with, {ms(times['without']['median_s'])} ms without"
        lines.append(f"  {way}: {taken}; ratio {times['ratio']:.2f}")
    for rule, utility in found["utility"].items():
        lines.append(f"  {rule}: {1e3 * utility['utility_lost_s']:+.2f} ms of utility lost ({_share_text(utility)})")
    return lines


class ByTaskTable(ByTable):
    """A table for every task, made at its service start, so that a learned rule also sees what has arrived at the edge;
    on the grid of situations there is no such number."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._rule_of_tasks = rule
        self._made_for: dict[int, tuple[Task | None, PlanTable]] = {}

    def begin(self, world: World) -> None:
        super().begin(world)
        self._made_for = {}

    def standing(self, device: SimulatedDevice, now_s: float) -> PlanTable:
        made = self._made_for.get(device.index)
        if made is None or made[0] is not device.task:
            arrived_s = device.edge.reading(now_s).arrived_work_s
            table = self._rule_of_tasks.table(replace(device.situation(now_s), arrived_work_s=arrived_s))
            made = self._made_for[device.index] = (device.task, table)
        self._standing[device.index] = made[1]
        return made[1]


class _Noted:
    """A rule that keeps the situations it was asked about."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.name = rule.name
        self.situations: list[Situation] = []

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        self.situations += situations
        return self._rule.evaluate(situations)

    def table(self, situation: Situation) -> PlanTable:
        return self.evaluate([situation])[0].plan_table


_Cells = tuple[NDArray[np.int64], slice, slice, NDArray[np.int64]]


def _payoffs(
    situation: Situation, backlogs: int, net: ValueNet | None = None
) -> tuple[_Cells, PresentPayoffs, PresentPayoffs]:
    """Cells (epoch, queue, backlog, evidence) that a task can meet, and payoffs with R1 and R2 and without; ``net``:
    corrections upon them."""
    batch = batch_of([situation], statistics_of(situation.manifest), OPEN_LOOP.exits_run([situation])[0])
    backlog_s = np.linspace(0.0, _BEYOND_CEILING * OPEN_LOOP.backlog_grid_s(batch)[:, -1], backlogs, axis=1)
    pruned, whole = (present_payoffs(batch, QUEUES, backlog_s, is_reduced=is_reduced) for is_reduced in (True, False))
    if net is not None:
        pruned, whole = (corrected(net, [situation], batch, payoffs, backlog_s) for payoffs in (pruned, whole))
    epochs, evidence = np.nonzero(reachable(batch, batch.exits_run[0]))
    return (epochs, slice(None), slice(None), evidence), pruned, whole


def _best(payoffs: PresentPayoffs) -> NDArray[np.uint8]:
    """Best decisions of the first device; ties as in tables: an exit first, going on last.  # (K, Q, G, E)"""
    dense = payoffs.dense(0)
    tensor, sent_input = dense[Decision.OFFLOAD_TENSOR], dense[Decision.OFFLOAD_INPUT]
    leave, going_on = dense[Decision.EXIT], dense[Decision.CONTINUE]
    sends = np.where(tensor >= sent_input, np.uint8(Decision.OFFLOAD_TENSOR), np.uint8(Decision.OFFLOAD_INPUT))
    remains = np.where(leave >= going_on, np.uint8(Decision.EXIT), np.uint8(Decision.CONTINUE))
    return np.where(np.maximum(tensor, sent_input) > np.maximum(going_on, leave), sends, remains)


def _table(situations: Sequence[Situation], is_reduced: bool) -> Callable[[], object]:
    rule = replace(OPEN_LOOP, is_reduced=is_reduced)
    return lambda: rule.evaluate(situations)


def _induction(situation: Situation, is_reduced: bool) -> Callable[[], object]:
    batch = batch_of([situation], statistics_of(situation.manifest), OPEN_LOOP.exits_run([situation])[0])
    backlog_s = OPEN_LOOP.backlog_grid_s(batch)
    return lambda: present_payoffs(batch, QUEUES, backlog_s, is_reduced=is_reduced)


def _cost_s(scenario: Scenario, tasks: int, seed: int, net: ValueNet | None, is_reduced: bool) -> float:
    """Mean cost of a task when tables are made with R1 and R2, or without; ``net`` ``None``: those of open-loop."""
    run = changed_scenario(scenario, tasks=tasks, warm_up_tasks=min(scenario.warm_up_tasks, tasks // 10))
    rule: Rule = replace(OPEN_LOOP, is_reduced=is_reduced)
    if net is not None:
        rule = Learned("learned", lambda _: net, is_learned_reduced=is_reduced)
    deciding = ByTable(rule) if net is None else ByTaskTable(rule)
    return World(run, seed, deciding).run().cost_s


def _utility(with_s: NDArray[np.float64], without_s: NDArray[np.float64]) -> dict[str, Any]:
    """Mean costs by seed (S,) of tables with R1 and R2 and without, and what they cost, paired."""
    lost_s = with_s - without_s
    return {
        "cost_s": float(with_s.mean()),
        "cost_without_s": float(without_s.mean()),
        "utility_lost_s": float(lost_s.mean()),
        "utility_lost_ci_s": interval(lost_s),
        "utility_lost_share": float(lost_s.mean() / without_s.mean()),
    }


def _share_text(utility: dict[str, Any]) -> str:
    ci = utility["utility_lost_ci_s"]
    half = "" if ci is None else f" ± {(ci[1] - ci[0]) / 2.0 / utility['cost_without_s']:.2%}"
    return f"{utility['utility_lost_share']:+.2%}{half} of cost"
