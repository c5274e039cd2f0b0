"""Deadlines in the simulator: how many answers are in time, and how many of them right, under open-loop and under the
best rule that decides once, both told the same deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.rule_figures import Array, interval, ratio_interval, rule_figures
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.running import Comparison, Progress, compare
from twinsplit.errors import SettingsError

RULE = "open-loop"
RIVAL = "one-time-best"
"""one-time, or one-time-threshold:T with the T that costs least on the tuning seeds at that deadline."""
RULES = ("one-time", RIVAL, RULE)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of open-loop less the same of its rival; intervals of 95 %, paired by seed."""

    mean: float
    ci: list[float] | None
    """``None``: one seed has no interval."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One deadline."""

    comparison: Comparison

    @property
    def deadline_s(self) -> float:
        """The deadline of its scenario."""
        deadline_s = self.comparison.scenario.deadline_s
        assert deadline_s is not None
        return deadline_s

    def figures(self) -> dict[str, dict[str, Any]]:
        """Of every rule, with what was tuned."""
        rules = rule_figures(self.comparison.runs)
        for name, tuned in self.comparison.tuned.items():
            rules[name]["tuned_to"] = tuned
        return rules

    def difference(self, figure: str) -> Difference:
        """Of ``share_in_time`` or ``accuracy_in_time``."""
        ours, theirs = (
            np.array([getattr(run.summary, figure) for run in self.comparison.runs[rule]]) for rule in (RULE, RIVAL)
        )
        return Difference(float((ours - theirs).mean()), interval(ours - theirs))

    def document(self) -> dict[str, Any]:
        """As it is written."""
        ours, theirs = self._costs_s(RULE), self._costs_s(RIVAL)
        against: dict[str, Any] = {
            "cost_ratio": float(ours.mean() / theirs.mean()) if theirs.mean() > 0.0 else None,
            "cost_ratio_ci": ratio_interval(ours, theirs),
        }
        for figure in ("share_in_time", "accuracy_in_time"):
            difference = self.difference(figure)
            against |= {f"{figure}_gain": difference.mean, f"{figure}_gain_ci": difference.ci}
        return {"deadline_s": self.deadline_s, "rules": self.figures(), f"{RULE}_against_{RIVAL}": against}

    def _costs_s(self, rule: str) -> Array:
        return np.array([run.cost_s for run in self.comparison.runs[rule]])


def deadlines_named(text: str) -> list[float]:
    """Deadlines in seconds of a list such as ``0.1,0.15``.

    Raises:
        SettingsError: not numbers above 0, one twice, or none.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len(set(found)) != len(found) or not all(0.0 < each < float("inf") for each in found):
        raise SettingsError(f"--deadlines {text}: give seconds above 0, each once, separated by commas")
    return found


def sweep(
    scenario: Scenario,
    deadlines_s: Sequence[float],
    seeds: Sequence[int],
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> list[Cell]:
    """Run all rules on every seed at every deadline; the rival is tuned anew for each.

    Raises:
        TwinsplitError: what a run raises.
    """
    scenarios = [changed_scenario(scenario, deadline_s=deadline_s) for deadline_s in deadlines_s]
    return [Cell(found) for found in compare(scenarios, RULES, seeds, workers=workers, progress=progress)]


def sweep_document(cells: Sequence[Cell]) -> dict[str, Any]:
    """``scenario`` (its deadline apart), ``deadlines`` and ``tasks_per_second``."""
    runs = [run for cell in cells for by_seed in cell.comparison.runs.values() for run in by_seed]
    return {
        "scenario": cells[0].comparison.scenario.model_copy(update={"deadline_s": None}).described(),
        "deadlines": [cell.document() for cell in cells],
        "tasks_per_second": sum(run.simulated_tasks for run in runs) / sum(run.core_s for run in runs),
    }


def sweep_table(cells: Sequence[Cell]) -> Table:
    """For people: each deadline a line for every rule, the rival by what it was tuned to; accuracy is that in time,
    gains are percentage points."""
    table = Table("within s", "rule", box=None, pad_edge=False)
    for title in ("in time", "gain", "accuracy", "gain", "cost s"):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in cells:
        for rule, figures in cell.figures().items():
            gains = ["", ""]
            if rule == RULE:
                gains = [_gain(cell.difference(figure)) for figure in ("share_in_time", "accuracy_in_time")]
            table.add_row(
                f"{cell.deadline_s:g}",
                figures.get("tuned_to", rule),
                f"{figures['share_in_time']:.4f}",
                gains[0],
                f"{figures['accuracy_in_time']:.4f}",
                gains[1],
                f"{figures['cost_s']:.4f}",
            )
    return table


def _gain(difference: Difference) -> str:
    text = f"{100.0 * difference.mean:+.1f}"
    return text if difference.ci is None else f"{text} ± {50.0 * (difference.ci[1] - difference.ci[0]):.1f}"
