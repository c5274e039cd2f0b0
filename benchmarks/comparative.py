"""``twinsplit bench testbed``: rules on a scenario with real processes, over several seeds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comparison import Comparison, compared, expected_s, planned_runs
from benchmarks.demo import emulation
from benchmarks.demo_view import view_for
from benchmarks.provenance import ended, provenance
from benchmarks.results import ResultFile
from benchmarks.rule_figures import rule_figures
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.streams import stream_seed
from benchmarks.testbed.emulated import check_testbed
from benchmarks.testbed.result import RunResult
from benchmarks.testbed.speeds import measured_speeds
from benchmarks.verdict import PRODUCT, failures, sentence
from twin_service.decision.rules import rule_named


def run_testbed(
    scenario: Scenario,
    rules: Sequence[str],
    polled_rule: str | None,
    seeds: Sequence[int],
    json_path: Path | None,
    console: Console,
) -> None:
    """Compare the rules on every seed, in an order drawn anew for each, and print and write what was found.

    Raises:
        SettingsError: a rule that does not exist, or a scenario for the simulator alone.
        StorageError: ``json_path`` cannot be written; found out before anything runs.
        TwinsplitError: a service cannot start or ends by itself.
    """
    check_testbed(scenario)
    by_seed = [planned_runs(changed_scenario(scenario, seed=seed), ordered(rules, seed), polled_rule) for seed in seeds]
    result_file = None if json_path is None else ResultFile(json_path)
    about = provenance(seeds=seeds)
    comparisons: list[Comparison] = []
    try:
        console.print(emulation(scenario), soft_wrap=True)
        console.print(f"About {sum(map(expected_s, by_seed)):.0f} s.")
        speeds = measured_speeds(scenario)
        for number, (seed, runs) in enumerate(zip(seeds, by_seed, strict=True), start=1):
            view = view_for(console)
            view.says(f"seed {seed}, {number} of {len(seeds)}")
            with view:
                comparison = compared(runs, view, speeds)
            names = [rule_named(rule).name for rule in rules]
            results = sorted(comparison.results, key=lambda result: names.index(result.rule))
            comparison = replace(comparison, results=tuple(results))
            comparisons.append(comparison)
            view.closes(comparison.results)
            for line in (*failures(comparison.results), sentence(comparison.results)):
                view.says(line)
        if len(seeds) > 1:
            for line in seed_lines(comparisons):
                console.print(line, soft_wrap=True)
        console.print(ended(about))
        if result_file is not None:
            about["digests"] = {"model": comparisons[0].results[0].model_digest}
            result_file.write(document(comparisons, scenario, about))
    finally:
        if result_file is not None:
            result_file.discard()


def ordered(rules: Sequence[str], seed: int) -> list[str]:
    """``rules`` in an order of this seed's own, so that what drifts on the machine favours none."""
    found = list(rules)
    random.Random(stream_seed(seed, "order of rules")).shuffle(found)
    return found


def document(comparisons: Sequence[Comparison], scenario: Scenario, about: dict[str, Any]) -> dict[str, Any]:
    """The same as ``twinsplit sim run`` writes, and what only real processes have."""
    runs = {r.title: [_same(c, r.rule, is_polled=r.is_polled) for c in comparisons] for r in comparisons[0].results}
    figures = rule_figures(runs)
    for title, by_seed in runs.items():
        hits = [run.summary.accuracy for run in by_seed if run.summary.accuracy is not None]
        accuracies = [run.mirror_accuracy for run in by_seed if run.mirror_accuracy is not None]
        figures[title]["testbed"] = {
            "accuracy_by_labels": sum(hits) / len(hits) if hits else None,
            "mirror_accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
            "degraded": sum(run.summary.degraded for run in by_seed),
            "rule_failures": sum(run.rule_failures for run in by_seed),
            "by_seed": {str(c.scenario.seed): run.document() for c, run in zip(comparisons, by_seed, strict=True)},
        }
    return {"provenance": about, "scenario": scenario.described(), "rules": figures, "tasks_per_second": None}


def seed_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Mean cost of every rule over the seeds, and how often the product's rule cost least."""
    means = {
        r.title: sum(_same(c, r.rule, is_polled=r.is_polled).summary.cost_s for c in comparisons) / len(comparisons)
        for r in comparisons[0].results
    }
    lines = [f"{title:<24} {mean:.3f} s per task" for title, mean in means.items()]
    if PRODUCT in means and len(means) > 1:
        wins = sum(_is_cheapest(comparison) for comparison in comparisons)
        lines.append(f"{PRODUCT} cost least on {wins} of {len(comparisons)} seeds.")
    return [f"Over {len(comparisons)} seeds:", *lines]


def _same(comparison: Comparison, rule: str, *, is_polled: bool) -> RunResult:
    found = comparison.of(rule, is_polled=is_polled)
    assert found is not None, "every seed runs every rule"
    return found


def _is_cheapest(comparison: Comparison) -> bool:
    rules = [r for r in comparison.results if not r.is_polled]
    return min(rules, key=lambda r: r.summary.cost_s).rule == PRODUCT
