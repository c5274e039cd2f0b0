"""Comparisons: every contender on every seed of every scenario, spread over processes. The result depends on neither
their number nor their pace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.contenders import TUNING_SEEDS, TUNING_TASKS, contender_named, deciding_for
from benchmarks.simulator.result import SimulatedRun
from benchmarks.simulator.world import World, model_of

Progress = Callable[[int, int], None]
"""Told (runs done, runs known so far)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of one scenario."""

    scenario: Scenario
    runs: dict[str, list[SimulatedRun]]
    """By rule, one per seed, seeds in the order asked for."""
    tuned: dict[str, str]
    """Best of its grid, by rule that was tuned."""

    @property
    def tasks_per_second(self) -> float:
        """Tasks simulated per second of one core, all rules together, tuning left out."""
        runs = [run for by_seed in self.runs.values() for run in by_seed]
        return sum(run.simulated_tasks for run in runs) / sum(run.core_s for run in runs)


def compare(
    scenarios: Sequence[Scenario],
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    workers: int | None = None,
    keeps_entries: bool = False,
    progress: Progress = lambda _done, _known: None,
) -> list[Comparison]:
    """Run every contender on every seed of every scenario.

    Args:
        workers: processes; 1: this one; ``None``: one per core.
        keeps_entries: results list every task.

    Raises:
        TwinsplitError: what a run raises; nothing is left running.
    """
    count = workers or os.cpu_count() or 1
    counted = _Counted(progress)
    with _executor(count) as executor:
        prepared = [_prepared(executor, counted, scenario, names) for scenario in scenarios]
        size = _chunk(len(scenarios) * len(names), len(seeds), count)
        chunks = [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]
        futures = [
            [
                [executor.submit(_runs, scenario, name, ready[name], chunk, keeps_entries) for chunk in chunks]
                for name in names
            ]
            for scenario, ready in zip(scenarios, prepared, strict=True)
        ]
        counted.follow([(f, len(c)) for cell in futures for rule in cell for f, c in zip(rule, chunks, strict=True)])
        return [
            Comparison(
                scenario,
                {
                    name: [run for future in by_chunk for run in future.result()]
                    for name, by_chunk in zip(names, cell, strict=True)
                },
                {name: ready[name] for name in names if contender_named(name).stages},
            )
            for scenario, ready, cell in zip(scenarios, prepared, futures, strict=True)
        ]


def spread(
    act: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> list[Any]:
    """``act(*job)`` of every job, in the order of the jobs; arguments as for :func:`compare`."""
    if workers == 1:
        found = []
        for job in jobs:
            found.append(act(*job))
            progress(len(found), len(jobs))
        return found
    with _executor(workers or os.cpu_count() or 1) as executor:
        futures = [executor.submit(act, *job) for job in jobs]
        _Counted(progress).follow([(future, 1) for future in futures])
        return [future.result() for future in futures]


def tuning_scenario(scenario: Scenario) -> Scenario:
    """The shorter scenario on which grids are searched."""
    if scenario.tasks is None or scenario.tasks <= TUNING_TASKS:
        return scenario
    return changed_scenario(scenario, tasks=TUNING_TASKS, warm_up_tasks=min(scenario.warm_up_tasks, TUNING_TASKS // 10))


class _Counted:
    """Counts runs for whoever watches."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = 0
        self._known = 0

    def follow(self, futures: Sequence[tuple[Future[Any], int]]) -> None:
        """Wait for all of ``futures``, each with the number of its runs."""
        self._known += sum(count for _, count in futures)
        self._progress(self._done, self._known)
        counts = dict(futures)
        for future in as_completed(counts):
            future.result()
            self._done += counts[future]
            self._progress(self._done, self._known)


def _prepared(executor: Executor, counted: _Counted, scenario: Scenario, names: Sequence[str]) -> dict[str, Any]:
    """What every contender needs, by name."""
    manifest, _ = model_of(scenario.model)
    tuning = tuning_scenario(scenario)
    contenders = {name: contender_named(name) for name in names}
    found: dict[str, Any] = dict.fromkeys(names)
    for stage in range(max((c.stages for c in contenders.values()), default=0)):
        trials = [
            (name, candidate, executor.submit(_mean_cost_s, tuning, candidate))
            for name, contender in contenders.items()
            if stage < contender.stages
            for candidate in contender.candidates(stage, found[name], manifest)
        ]
        counted.follow([(future, len(TUNING_SEEDS)) for _, _, future in trials])
        best: dict[str, tuple[float, str]] = {}
        for name, candidate, future in trials:
            best[name] = min(best.get(name, (float("inf"), "")), (future.result(), candidate))
        found |= {name: candidate for name, (_, candidate) in best.items()}
    needed = {name: executor.submit(contender.prepare, scenario) for name, contender in contenders.items()}
    return {name: found[name] if contenders[name].stages else needed[name].result() for name in names}


def _mean_cost_s(scenario: Scenario, name: str) -> float:
    costs = [run.cost_s for run in _runs(scenario, name, None, TUNING_SEEDS, False)]
    return sum(costs) / len(costs)


def _runs(
    scenario: Scenario, name: str, prepared: Any, seeds: Sequence[int], keeps_entries: bool
) -> list[SimulatedRun]:
    """One contender on several seeds, one after the other: they share what it evaluates."""
    deciding = deciding_for(name, scenario, prepared)
    return [World(scenario, seed, deciding).run(keeps_entries=keeps_entries) for seed in seeds]


def _chunk(pairs: int, seeds: int, workers: int) -> int:
    """Seeds that one job takes: all, unless that leaves workers idle."""
    if workers == 1 or pairs >= 2 * workers:
        return seeds
    return max(1, seeds * pairs // (2 * workers))


@contextmanager
def _executor(workers: int) -> Iterator[Executor]:
    if workers == 1:
        yield _Here()
        return
    # One core each; threads of numpy's own would only get in one another's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class _Here(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
