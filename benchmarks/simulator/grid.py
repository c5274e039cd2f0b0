"""The grid: many scenarios around the demo's, every rule on each, and what is claimed of them as one document.

Cells do not depend on one another, so each is one job: what a worker evaluates for a cell it uses again within it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.rule_figures import ratio_interval
from benchmarks.scenario import Scenario, changed_scenario, read_scenario
from benchmarks.simulator.contenders import ALL, BLIND
from benchmarks.simulator.documents import comparison_document
from benchmarks.simulator.running import Comparison, compare

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
RATES_PER_S = (1.5, 3.0, 5.0)
LOADS = (0.3, 0.5, 0.7, 0.9)
BURSTS_S = (0.6, 2.0)
LINKS_BYTES_PER_S = (10_000.0, 20_000.0, 40_000.0)
"""Half, equal to and double of the demo's."""
TASKS = 1_600
WARM_UP_TASKS = 100
QUICK_TASKS = 400
BUSY_LOAD = 0.5
"""Edge load from which on the larger claim holds."""
FORESIGHT_RULES = ("one-time", "open-loop", "learned", *BLIND, "clairvoyant")
"""What tells how much of the gap to the clairvoyant is foresight, and of what."""
_FORESIGHT_CELLS = (
    "slow-device",
    "heavy-tailed",
    "rate 1.5, load 0.3, burst 0.6 s, link 40 kB/s",
    "rate 5, load 0.7, burst 0.6 s, link 20 kB/s",
)
"""Those in which the least of the gap is closed, and the demo's."""

Cell = tuple[str, Scenario]
Progress = Callable[[int, int], None]


def grid_cells(*, is_quick: bool) -> list[Cell]:
    """Named scenarios: every combination of rate, load, burst length and link on the demo's device and edge, then those
    that differ in kind. ``is_quick``: one in a few of them, and shorter."""
    demo = read_scenario(SCENARIOS / "demo.yaml")
    cells = [
        (
            f"rate {rate:g}, load {load:g}, burst {burst_s:g} s, link {link / 1e3:g} kB/s",
            changed_scenario(
                demo, task_rate_per_s=rate, load_share=load, load_burst_s=burst_s, uplink_bytes_per_s=link
            ),
        )
        for rate, load, burst_s, link in product(RATES_PER_S, LOADS, BURSTS_S, LINKS_BYTES_PER_S)
    ]
    others = [(name, read_scenario(SCENARIOS / f"{name}.yaml")) for name in _OTHERS]
    # The demo with one thing changed.
    others += [
        (name, changed_scenario(demo, **changes))
        for name, changes in (
            ("demo, heavy-tailed bursts", {"load_pattern": "heavy"}),
            ("demo, heavy-tailed jobs", {"load_sizes": "heavy", "load_mean_s": 0.03}),
            ("demo, tensors only", {"payloads": "tensors-only"}),
            ("demo, service times vary by 20 %", {"service_jitter": 0.2}),
            ("demo, slow device", {"device_whole_s": 0.4, "task_rate_per_s": 1.5, "uplink_bytes_per_s": 8_000.0}),
            ("demo, fast link", {"uplink_bytes_per_s": 200_000.0}),
            (
                "demo, load and link change",
                {"step_at_s": 100.0, "step_load_share": 0.9, "load_share": 0.3}
                | {"uplink_bytes_per_s": 40_000.0, "step_uplink_bytes_per_s": 15_000.0},
            ),
        )
    ]
    every = cells + others
    if is_quick:
        every = [cells[7], cells[39], cells[68], others[0], others[5]]
    tasks = QUICK_TASKS if is_quick else TASKS
    return [(name, _sized(scenario, tasks)) for name, scenario in every]


def foresight_cells(*, is_quick: bool) -> list[Cell]:
    """Cells of the grid in which the gap to the clairvoyant is taken apart; ``is_quick``: one, shorter."""
    by_name = dict(grid_cells(is_quick=False))
    found = [(name, by_name[name]) for name in _FORESIGHT_CELLS]
    return [(name, _sized(scenario, QUICK_TASKS)) for name, scenario in found[:1]] if is_quick else found


def run_grid(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    *,
    names: Sequence[str] = ALL,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> Iterator[dict[str, Any]]:
    """The document of every cell, as they end."""
    # One core each; threads of numpy's own would only get in one another's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=get_context("spawn")) as executor:
        futures = [executor.submit(_cell_document, index, cell, names, seeds) for index, cell in enumerate(cells)]
        progress(0, len(futures))
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                progress(done, len(futures))
                yield future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def claims(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was claimed, beside what was found. Shares of cost: 0.25 is a quarter less than one-time."""
    gains = [1.0 - cell["rules"]["learned"]["cost_ratio_to_one_time"] for cell in cells]
    busy = [gain for gain, cell in zip(gains, cells, strict=True) if _load(cell) >= BUSY_LOAD]
    closed = [cell["rules"]["learned"]["gap_closed"] for cell in cells]
    known = [share for share in closed if share is not None]
    against_open_loop = [cell["learned_over_open_loop"]["ratio"] - 1.0 for cell in cells]
    against_tuned = [cell["learned_over_one_time_threshold_best"] for cell in cells]
    worse_than_tuned = [
        cell["name"]
        for cell, pair in zip(cells, against_tuned, strict=True)
        if (pair["ci"] or [pair["ratio"]])[0] > 1.0
    ]
    return {
        "gain_over_one_time_median": _found(median(gains), at_least=0.25),
        "gain_over_one_time_least_at_busy_edge": _found(min(busy), at_least=0.15),
        "gain_over_one_time_least": _found(min(gains), at_least=0.0),
        "cells_worse_than_one_time_threshold_best": _found(len(worse_than_tuned), at_most=0),
        "gap_closed_median": _found(median(known) if known else math.nan, at_least=0.93),
        "gap_closed_least": _found(min(known, default=math.nan), at_least=0.88),
        "cost_over_open_loop_most": _found(max(against_open_loop), at_most=0.005),
    }


def _found(value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    is_met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    goal = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    return {"found": value, **goal, "is_met": is_met}


def _load(cell: dict[str, Any]) -> float:
    return float(cell["scenario"]["load_share"])


def _sized(scenario: Scenario, tasks: int) -> Scenario:
    changes: dict[str, Any] = {"tasks": tasks, "warm_up_tasks": min(WARM_UP_TASKS, tasks // 5)}
    if scenario.step_at_s is not None:
        changes["step_at_s"] = tasks / 2 / (scenario.task_rate_per_s * scenario.devices)
    return changed_scenario(scenario, **changes)


def _cell_document(index: int, cell: Cell, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    name, scenario = cell
    found = compare([scenario], names, seeds, workers=1)[0]
    document = {"index": index, "name": name} | comparison_document(found)
    for base in ("open-loop", "one-time-threshold-best"):
        if {"learned", base} <= set(names):
            document[f"learned_over_{base.replace('-', '_')}"] = _pair(found, "learned", base)
    return document


def _pair(found: Comparison, rule: str, base: str) -> dict[str, Any]:
    """Ratio of two rules' costs and its paired interval over seeds."""
    costs, base_costs = (np.array([run.cost_s for run in found.runs[name]]) for name in (rule, base))
    return {"ratio": float(costs.mean() / base_costs.mean()), "ci": ratio_interval(costs, base_costs)}


_OTHERS = ("heavy-tailed", "slow-device", "regime-change", "tensors-only")
