"""``twinsplit bench testbed``: rules on any scenario, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comparison import Comparison, compared, expected_s, planned_runs
from benchmarks.demo import emulation
from benchmarks.demo_view import view_for
from benchmarks.provenance import provenance
from benchmarks.results import ResultFile
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.verdict import PRODUCT, difference, sentence


def run_testbed(
    scenario: Scenario,
    rules: Sequence[str],
    polled_rule: str | None,
    seeds: Sequence[int],
    json_path: Path | None,
    console: Console,
) -> None:
    """Compare the rules on every seed, and print and write what was found.

    Raises:
        SettingsError: a rule that does not exist.
        StorageError: ``json_path`` cannot be written; found out before anything runs.
        TwinsplitError: a service cannot start or ends by itself.
    """
    by_seed = [planned_runs(changed_scenario(scenario, seed=seed), rules, polled_rule) for seed in seeds]
    result_file = None if json_path is None else ResultFile(json_path)
    about = provenance(seeds=seeds, scenario=scenario.described())
    comparisons: list[Comparison] = []
    try:
        console.print(emulation(scenario), soft_wrap=True)
        console.print(f"About {sum(map(expected_s, by_seed)):.0f} s.")
        for seed, runs in zip(seeds, by_seed, strict=True):
            view = view_for(console)
            with view:
                comparison = compared(runs, view)
            comparisons.append(comparison)
            view.says(f"seed {seed}")
            view.closes(comparison.results)
            view.says(sentence(comparison.results))
        if len(seeds) > 1:
            for line in seed_lines(comparisons):
                console.print(line, soft_wrap=True)
        if result_file is not None:
            about["digests"] = {"model": comparisons[0].results[0].model_digest}
            result_file.write({"provenance": about, "seeds": {str(c.scenario.seed): _document(c) for c in comparisons}})
    finally:
        if result_file is not None:
            result_file.discard()


def seed_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Mean cost of every rule over the seeds, and how often the product's rule cost least."""
    titles = [r.title for r in comparisons[0].results]
    means = {
        title: sum(c.results[index].summary.cost_s for c in comparisons) / len(comparisons)
        for index, title in enumerate(titles)
    }
    lines = [f"{title:<24} {mean:.3f} s per task" for title, mean in means.items()]
    wins = sum(_is_cheapest(comparison) for comparison in comparisons)
    return [f"Over {len(comparisons)} seeds:", *lines, f"{PRODUCT} cost least on {wins} of {len(comparisons)} seeds."]


def _is_cheapest(comparison: Comparison) -> bool:
    rules = [r for r in comparison.results if not r.is_polled]
    return min(rules, key=lambda r: r.summary.cost_s).rule == PRODUCT


def _document(comparison: Comparison) -> dict[str, Any]:
    product = comparison.of(PRODUCT)
    found: dict[str, Any] = {}
    for result in comparison.results:
        document = result.document()
        if product is not None and result is not product:
            mean_s, error_s = difference(result, product)
            document["cost_above_multi_step_s"] = {"mean": mean_s, "standard_error": error_s}
        found[result.title] = document
    return found
