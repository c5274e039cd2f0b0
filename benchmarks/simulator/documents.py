"""Comparisons for files and people: the JSON that issue and report are checked by, a table, every task as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.books import Books, whole_accuracy_of
from benchmarks.rule_figures import rule_figures
from benchmarks.scenario import Scenario
from benchmarks.simulator.contenders import ALL, BASELINE, check_titles
from benchmarks.simulator.optimum import check_setting
from benchmarks.simulator.running import Comparison
from benchmarks.simulator.world import model_of
from twin_service.decision.rules import rule_names
from twinsplit.errors import SettingsError

_COLUMNS = (
    "rule",
    "seed",
    "task",
    "outcome",
    "reason",
    "stop_epoch",
    "exit",
    "payload",
    "latency_s",
    "accuracy",
    "whole_accuracy",
    "energy_joules",
    "cost_s",
)


def rules_named(text: str) -> list[str]:
    """Contenders of a list such as ``one-time,open-loop`` or ``all``; one-time is always among them.

    Raises:
        SettingsError: one that there is not, two of one title, or none at all.
    """
    names = [name for part in rule_names(text) for name in (ALL if part == "all" else (part,))]
    check_titles(names)
    return names if BASELINE in names else [BASELINE, *names]


def check_known(names: Sequence[str], scenario: Scenario) -> None:
    """Whether every one of ``names`` can be run on ``scenario``, before any is.

    Raises:
        SettingsError: the optimum is not known there, or a rule offloads at a cut that the model lacks.
    """
    manifest, _ = model_of(scenario.model)
    if "optimum" in names:
        check_setting(scenario, manifest)
    for name in names:
        head, _, tail = name.partition(":")
        cut = tail.partition(",")[0]
        if head in ("static", "threshold-static") and cut.isdigit() and int(cut) >= manifest.segment_count:
            raise SettingsError(f"rule {name!r}: the model has cuts 0 to {manifest.segment_count - 1} to offload at")


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """``scenario``, ``rules`` and ``tasks_per_second``; a rule that was tuned says to what."""
    rules = rule_figures(comparison.runs)
    for name, figures in rules.items():
        runs = comparison.runs[name]
        figures["cost_s_by_seed"] = {str(run.seed): run.cost_s for run in runs}
        figures["tasks_per_second"] = sum(r.simulated_tasks for r in runs) / sum(r.core_s for r in runs)
        if name in comparison.tuned:
            figures["tuned_to"] = comparison.tuned[name]
    return {
        "scenario": comparison.scenario.described(),
        "rules": {title_of(comparison, name): figures for name, figures in rules.items()},
        "tasks_per_second": comparison.tasks_per_second,
    }


def title_of(comparison: Comparison, name: str) -> str:
    """What a rule calls itself; of one's own it was named by its file, which is of no use to a reader."""
    return comparison.runs[name][0].rule


def table_of(comparison: Comparison) -> Table:
    """For people."""
    table = Table(box=None, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for title in ("cost s", "± 95 %", "of one-time", "mean s", "p95 s", "answered", "accuracy", "joules"):
        table.add_column(title, justify="right")
    if comparison.tuned:
        table.add_column("tuned to", no_wrap=True)
    for name, figures in rule_figures(comparison.runs).items():
        interval = figures["cost_ci_s"]
        table.add_row(
            title_of(comparison, name),
            f"{figures['cost_s']:.4f}",
            "" if interval is None else f"{(interval[1] - interval[0]) / 2.0:.4f}",
            _text(figures["cost_ratio_to_one_time"], ".3f"),
            _text(figures["latency_mean_s"], ".3f"),
            _text(figures["latency_p95_s"], ".3f"),
            f"{figures['share_answered']:.3f}",
            f"{figures['accuracy']:.4f}",
            f"{figures['energy_joules']:.3f}",
            *([comparison.tuned.get(name, "")] if comparison.tuned else []),
        )
    return table


def tasks_text(comparison: Comparison) -> str:
    """Every task in the books as CSV with a head line; tasks are numbered by arrival, the warm-up included."""
    scenario = comparison.scenario
    manifest, _ = model_of(scenario.model)
    books = Books(scenario.weights, whole_accuracy_of(manifest))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, runs in comparison.runs.items():
        title = title_of(comparison, name)
        for run in runs:
            for entry in run.entries:
                writer.writerow(
                    (
                        title,
                        run.seed,
                        entry.task_id,
                        entry.outcome.value,
                        entry.reason,
                        entry.stop_epoch,
                        entry.exit_index,
                        None if entry.payload is None else entry.payload.value,
                        entry.latency_s,
                        entry.accuracy,
                        entry.whole_accuracy,
                        entry.energy_joules,
                        books.cost_s(entry),
                    )
                )
    return out.getvalue()


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
