"""An edge that is offered more than it holds, run in three ways: tails in a thread, in a process, all on one core.

Every point has an edge of its own, and points are taken in random order, so that a busy spell of the machine hits all.
The generators share the machine with the edge, but for the way with one core, which is theirs to keep off. What a way
costs where there is no load is seen with one device that has one task at a time.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load.cores import service_core
from benchmarks.load.edge_points import IN_FLIGHT, EdgeLoad, point_of, running_edge
from benchmarks.load.window import Say

THREAD, PROCESS, CORE = "thread", "process", "one core"
FACTORS = (0.75, 1.0, 1.5, 2.0)
"""Offered load over what the thread answers with all of its streams busy."""
QUIET_PER_S = 50.0
"""Tasks of the one device on an edge that has nothing else to do."""


def measure(model: Path, *, repeats: int = 3, seconds: float = 6.0, seed: int = 1, say: Say) -> dict[str, Any]:
    """Answers in time per second by way and offered load, and latencies by way without load."""
    load = replace(EdgeLoad(model, seed=seed), seconds=seconds)
    ways = _ways()
    with tempfile.TemporaryDirectory(prefix="twinsplit-ways-") as name:
        folder = Path(name)
        capacity: dict[str, float] = {}
        for way, arguments in ways.items():
            many = f"--queue-capacity={IN_FLIGHT * load.knee_devices}"
            with running_edge(load, folder, (*arguments, many)) as edge:
                found = point_of(load, edge, folder, load.knee_devices, None, has_own_core=way == CORE)
            capacity[way] = found["answers_per_s"]
            say(f"{way}: {capacity[way]:.0f} answers/s, all streams busy")
        quiet: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        order_of_quiet = [way for way in ways for _ in range(repeats)]
        random.Random(seed).shuffle(order_of_quiet)
        for way in order_of_quiet:
            with running_edge(load, folder, ways[way]) as edge:
                found = point_of(load, edge, folder, 1, QUIET_PER_S, has_own_core=way == CORE)
            quiet[way].append(found["latency_s"])
            say(f"{way}, one device: {found['latency_s']['p50'] * 1e3:.2f} ms")
        points: dict[str, dict[str, list[dict[str, Any]]]] = {way: {f"{f:g}": [] for f in FACTORS} for way in ways}
        order = [(way, factor) for way in ways for factor in FACTORS for _ in range(repeats)]
        random.Random(seed).shuffle(order)
        for number, (way, factor) in enumerate(order, start=1):
            with running_edge(load, folder, ways[way]) as edge:
                rate_per_s = factor * capacity[THREAD]
                found = point_of(load, edge, folder, load.knee_devices, rate_per_s, has_own_core=way == CORE)
            kept = {key: found[key] for key in ("in_time_per_s", "offered_per_s", "latency_s", "ended", "limits")}
            points[way][f"{factor:g}"].append(kept)
            say(f"{number} of {len(order)}: {way} at {factor:g}: {found['in_time_per_s']:.0f}/s in time")
    return {
        "devices": load.knee_devices,
        "deadline_s": load.deadline_s,
        "seconds": seconds,
        "capacity_per_s": capacity,
        "quiet_per_s": QUIET_PER_S,
        "quiet_latency_s": quiet,
        "points": points,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The comparison for people."""
    out = [f"{'':>10}" + "".join(f"{factor:>22}" for factor in next(iter(found["points"].values())))]
    for way, by_factor in found["points"].items():
        cells = [_cell([point["in_time_per_s"] for point in points]) for points in by_factor.values()]
        out.append(f"{way:>10}" + "".join(f"{cell:>22}" for cell in cells))
    last = f"{max(FACTORS):g}"
    thread, *others = found["points"]
    for way in others:
        ratio = _median(found["points"][way][last]) / max(_median(found["points"][thread][last]), 1e-9)
        out.append(f"offered {last} times what it holds, {way} answers {ratio:.2f} of what {thread} does in time")
    latencies = {way: [run["p50"] for run in runs] for way, runs in found["quiet_latency_s"].items()}
    alone = statistics.median(latencies[thread])
    for way in others:
        ratio = statistics.median(latencies[way]) / alone
        out.append(f"one device, one task at a time: {way} takes {ratio:.2f} of the {alone * 1e3:.2f} ms of {thread}")
    return out


def _ways() -> dict[str, tuple[str, ...]]:
    core = service_core()
    ways: dict[str, tuple[str, ...]] = {THREAD: ("--computing=thread",), PROCESS: ("--computing=process",)}
    return ways if core is None else ways | {CORE: (f"--core={core}",)}


def _median(points: list[dict[str, Any]]) -> float:
    return float(statistics.median(point["in_time_per_s"] for point in points))


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"
