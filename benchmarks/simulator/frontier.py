"""What signalling buys: cost against messages for plans, polling and periodic status, beside exact state; and what
noise, delay, loss and disorder do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.rule_figures import interval, ratio_interval
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.result import SimulatedRun
from benchmarks.simulator.running import Progress, spread
from benchmarks.simulator.signalling import Scheme, Signalling
from benchmarks.simulator.world import World
from twin_service.decision.rules import rule_named
from twin_service.planner import PlannerSettings
from twinsplit.errors import SettingsError

EXACT = "exact state"
_PERIODS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_JITTERS = (0.05, 0.15, 0.3)
_DELAYS_S = (0.001, 0.01, 0.05, 0.2)
_LOSSES = (0.01, 0.05, 0.2)
# (threshold, patience) of an edge's reports, seconds, and the device's report threshold; the product's own lie between.
_THRESHOLDS = ((0.01, 0.0, 0.001), (0.05, 0.01, 0.005), (0.2, 0.05, 0.02), (0.4, 0.2, 0.05))
_EVERY_CHANGE = ", every change of a decision"
_TOLD = ("report_threshold_s", "backlog_threshold_s", "backlog_patience_s", "period_s", "delay_s", "loss_share")
"""Of a variant's signalling, for figures."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of signalling in one kind of world."""

    name: str
    group: str
    signalling: Signalling
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the scenario."""


@dataclass(frozen=True, slots=True)
class SignalledRun:
    """One run, and what it took."""

    run: SimulatedRun
    messages: dict[str, int]
    bytes: int
    lost: int
    refused: int
    errors: dict[str, float]
    """Mean absolute error of what the twin predicts, by field."""


def variants_of(*, is_quick: bool) -> list[Variant]:
    """The variants of a frontier."""
    product = Signalling()
    polled = replace(product, scheme=Scheme.POLLED)
    found = [Variant("plans", "scheme", product), Variant("polled", "scheme", polled)]
    periods_s = _PERIODS_S[1::2] if is_quick else _PERIODS_S
    found += [
        Variant(f"periodic, {period_s:g} s", "scheme", replace(product, scheme=Scheme.PERIODIC, period_s=period_s))
        for period_s in periods_s
    ]
    if is_quick:
        return found
    for threshold_s, patience_s, report_threshold_s in _THRESHOLDS:
        told = replace(
            product,
            backlog_threshold_s=threshold_s,
            backlog_patience_s=patience_s,
            report_threshold_s=report_threshold_s,
        )
        name = f"plans, edge {threshold_s:g} s for {patience_s:g} s, device {report_threshold_s:g} s"
        found.append(Variant(name, "threshold", told))
    every_change = PlannerSettings(update_threshold_s=0.0)
    for variant in (found[0], found[-len(_THRESHOLDS)]):
        told = replace(variant.signalling, planner=every_change)
        found.append(Variant(variant.name + _EVERY_CHANGE, "threshold", told))
    for base, word in ((product, "plans"), (polled, "polled")):
        found += [
            Variant(f"{word}, jitter {jitter:g}", "jitter", base, {"service_jitter": jitter}) for jitter in _JITTERS
        ]
        found += [Variant(f"{word}, delay {d:g} s", "delay", replace(base, delay_s=d)) for d in _DELAYS_S]
        found += [Variant(f"{word}, {loss:.0%} lost", "loss", replace(base, loss_share=loss)) for loss in _LOSSES]
        disorder = replace(base, delay_s=0.01, delay_jitter_s=0.05, is_ordered=False)
        found.append(Variant(f"{word}, out of order", "disorder", disorder))
    return found


def variants_named(variants: Sequence[Variant], names: str) -> list[Variant]:
    """Those of ``variants`` that ``names``, separated by commas, name.

    Raises:
        SettingsError: one that there is not.
    """
    by_name = {variant.name.replace(",", ""): variant for variant in variants}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in by_name]:
        raise SettingsError(f"--only: there is no {unknown[0]!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def frontier(
    scenario: Scenario,
    rule: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> list[dict[str, Any]]:
    """Figures of every variant; costs are compared with exact state in the same world, seed by seed."""
    worlds = [changed_scenario(scenario, **variant.changes) for variant in variants]
    distinct = list(dict.fromkeys([scenario, *worlds]))
    jobs: list[tuple[Scenario, str, Signalling | None, int]] = [
        (world, rule, None, seed) for world in distinct for seed in seeds
    ]
    jobs += [
        (world, rule, variant.signalling, seed)
        for world, variant in zip(worlds, variants, strict=True)
        for seed in seeds
    ]
    runs: list[SignalledRun] = spread(_signalled, jobs, workers=workers, progress=progress)
    count = len(seeds)
    by_variant = [runs[i : i + count] for i in range(0, len(runs), count)]
    exact = dict(zip(distinct, by_variant, strict=False))
    found = [_figures(EXACT, "scheme", exact[scenario], exact[scenario])]
    for variant, world, signalled in zip(variants, worlds, by_variant[len(distinct) :], strict=True):
        told = {name: getattr(variant.signalling, name) for name in _TOLD}
        found.append(_figures(variant.name, variant.group, signalled, exact[world]) | {"signalling": told})
    return found


def frontier_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """For people."""
    table = Table(box=None, pad_edge=False)
    table.add_column("signalling", no_wrap=True)
    for title in ("cost s", "of exact", "messages", "bytes", "backlog error s", "epoch wrong"):
        table.add_column(title, justify="right")
    for row in found:
        errors = row["errors"]
        table.add_row(
            row["name"],
            f"{row['cost_s']:.4f}",
            f"{row['cost_ratio_to_exact']:.3f}",
            f"{row['messages_per_task']:.2f}",
            f"{row['bytes_per_task']:.0f}",
            f"{errors['backlog_s']:.3f}" if errors else "",
            f"{errors['epoch']:.3f}" if "epoch" in errors else "",
        )
    return table


def _signalled(scenario: Scenario, rule: str, signalling: Signalling | None, seed: int) -> SignalledRun:
    if signalling is None:
        return SignalledRun(World(scenario, seed, ByTable(rule_named(rule))).run(), {}, 0, 0, 0, {})
    deciding = ByPlans(rule_named(rule), signalling)
    run = World(scenario, seed, deciding).run()
    courier = deciding.courier
    return SignalledRun(
        run,
        dict(courier.messages),
        courier.bytes.total(),
        courier.lost,
        deciding.refused,
        deciding.errors.means(),
    )


def _figures(name: str, group: str, runs: Sequence[SignalledRun], exact: Sequence[SignalledRun]) -> dict[str, Any]:
    costs = np.array([signalled.run.cost_s for signalled in runs])
    base = np.array([signalled.run.cost_s for signalled in exact])
    tasks = sum(signalled.run.simulated_tasks for signalled in runs)
    kinds = sorted({kind for signalled in runs for kind in signalled.messages})
    by_kind = {kind: sum(signalled.messages.get(kind, 0) for signalled in runs) / tasks for kind in kinds}
    return {
        "name": name,
        "group": group,
        "cost_s": float(costs.mean()),
        "cost_ci_s": interval(costs),
        "cost_ratio_to_exact": float(costs.mean() / base.mean()),
        "cost_ratio_ci": ratio_interval(costs, base),
        "messages_per_task": sum(by_kind.values()),
        "messages_by_kind": by_kind,
        "bytes_per_task": sum(signalled.bytes for signalled in runs) / tasks,
        "lost_per_task": sum(signalled.lost for signalled in runs) / tasks,
        "refused": sum(signalled.refused for signalled in runs),
        "errors": _mean_errors([signalled.errors for signalled in runs]),
    }


def _mean_errors(by_run: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A run in which no task was ever met in service has no error of the epoch."""
    fields = sorted({field for errors in by_run for field in errors})
    return {field: float(np.mean([errors[field] for errors in by_run if field in errors])) for field in fields}
