"""With and without the factor 1 / (1 - rho_d) on caused waiting, by load of the device (design section 5).

The factor belongs to decisions alone: both are booked by the same account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.rule_figures import interval, ratio_interval
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.contenders import deciding_for
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.running import Progress, spread
from benchmarks.simulator.world import Listener, World
from twinsplit.types import TaskRecord

RULES = ("open-loop", "one-time")
LOADED = {"demo": (2.0, 4.0, 8.0, 12.0), "tensors-only": (2.0, 4.0, 6.0, 8.0)}
"""Task rates per second by scenario: the device is lightly loaded to busy."""


def waiting_priced(
    scenario: Scenario,
    rates_per_s: Sequence[float],
    seeds: Sequence[int],
    *,
    tasks: int,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> list[dict[str, Any]]:
    """Costs of :data:`RULES` with the factor and without at every task rate, paired by seed."""
    cells = [(rule, rate) for rate in rates_per_s for rule in RULES]
    jobs = [
        (_sized(scenario, rate, tasks, is_priced_up), rule, seeds)
        for rule, rate in cells
        for is_priced_up in (True, False)
    ]
    found: list[tuple[list[float], float]] = spread(_costs_s, jobs, workers=workers, progress=progress)
    return [_row(*cell, *found[2 * place : 2 * place + 2]) for place, cell in enumerate(cells)]


def prices_table(rows: Sequence[dict[str, Any]]) -> Table:
    """For people."""
    table = Table(box=None, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for title in ("tasks/s", "device load", "cost s", "without", "ratio", "95 %"):
        table.add_column(title, justify="right")
    for row in rows:
        ci = row["cost_ratio_ci"]
        table.add_row(
            row["rule"],
            f"{row['task_rate_per_s']:g}",
            f"{row['device_load']:.2f}",
            f"{row['cost_s']:.4f}",
            f"{row['cost_without_s']:.4f}",
            f"{row['cost_ratio']:.3f}",
            "" if ci is None else f"{ci[0]:.3f}..{ci[1]:.3f}",
        )
    return table


class _Busy(Listener):
    """Adds up how long devices worked."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        self.seconds += (record.stages.compute or 0.0) + (record.stages.encode or 0.0)


def _sized(scenario: Scenario, rate: float, tasks: int, is_priced_up: bool) -> Scenario:
    return changed_scenario(
        scenario,
        task_rate_per_s=rate,
        tasks=tasks,
        warm_up_tasks=min(scenario.warm_up_tasks, tasks // 10),
        is_waiting_priced_up=is_priced_up,
    )


def _costs_s(scenario: Scenario, rule: str, seeds: Sequence[int]) -> tuple[list[float], float]:
    """Mean cost by seed, and the share of time in which a device worked."""
    deciding = deciding_for(rule, scenario, None)
    costs_s, shares = [], []
    for seed in seeds:
        busy = _Busy()
        run = World(scenario, seed, deciding, listeners=[busy]).run()
        costs_s.append(run.cost_s)
        shares.append(busy.seconds / (run.simulated_s * scenario.devices))
    return costs_s, float(np.mean(shares))


def _row(rule: str, rate: float, priced: tuple[list[float], float], plain: tuple[list[float], float]) -> dict[str, Any]:
    costs, without = np.array(priced[0]), np.array(plain[0])
    return {
        "rule": rule,
        "task_rate_per_s": rate,
        "device_load": priced[1],
        "device_load_without": plain[1],
        "cost_s": float(costs.mean()),
        "cost_ci_s": interval(costs),
        "cost_without_s": float(without.mean()),
        "cost_without_ci_s": interval(without),
        "cost_ratio": float(costs.mean() / without.mean()),
        "cost_ratio_ci": ratio_interval(costs, without),
    }
