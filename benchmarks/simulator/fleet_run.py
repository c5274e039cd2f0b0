"""One run of a fleet as a document and for people: what its twin cost, how devices spread over edges, what was kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.scenario import Scenario
from benchmarks.simulator.fleet import FleetPlans, Progress
from benchmarks.simulator.world import World
from twin_service.decision.rules import rule_named

_WITHIN = ("rule",)
"""Kinds whose time is part of another kind's."""


def fleet_run(scenario: Scenario, rule: str, progress: Progress = lambda _text: None) -> dict[str, Any]:
    """The figures of one run on the scenario's seed.

    Raises:
        SettingsError: the rule is none, or the scenario leaves open what a simulation needs.
    """
    with TemporaryDirectory(prefix="twinsplit-fleet-") as folder:
        deciding = FleetPlans(rule_named(rule), Path(folder), progress)
        try:
            began_s = time.process_time()
            world = World(scenario, scenario.seed, deciding)
            run = world.run()
            core_s = time.process_time() - began_s
            found = deciding.figures()
            first, last = deciding.first_named, deciding.named
            answered = {edge.edge_id: deciding.ended_at[edge.edge_id] for edge in world.edges}
        finally:
            deciding.close()
    return {
        "scenario": scenario.described(),
        "rule": rule,
        "devices": scenario.devices,
        "edges": scenario.edges,
        "tasks": run.simulated_tasks,
        "simulated_s": run.simulated_s,
        "core_s": core_s,
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
        "cost_s": run.cost_s,
        "latency_mean_s": run.latency_mean_s,
        "latency_p95_s": run.summary.latency_p95_s,
        "share_answered": run.summary.share_answered,
        "outcomes": run.summary.outcomes,
        "ends": run.summary.ends,
        "twin_core_share": core_share(found["served"], run.simulated_s),
        "refused": deciding.refused,
        "errors": deciding.errors.means(),
        "by_edge": {
            "devices_first": spread_of(list(first.values())),
            "devices_last": spread_of(list(last.values())),
            "tasks_answered": spread_of(list(answered.values())),
        },
    } | found


def core_share(served: Mapping[str, Mapping[str, float]], seconds: float) -> float:
    """Share of one core that what was served in ``seconds`` took."""
    return sum(kind["seconds"] for name, kind in served.items() if name not in _WITHIN) / seconds


def spread_of(counts: list[int]) -> dict[str, float]:
    """Least, mean and most."""
    return {"least": min(counts), "mean": sum(counts) / len(counts), "most": max(counts)}


def fleet_lines(found: Mapping[str, Any]) -> list[str]:
    """For people."""
    rate_per_s = found["tasks"] / found["simulated_s"]
    attached = found["attached"]
    attach_s = sum(attached[kind]["seconds"] for kind in attached if kind not in _WITHIN)
    store = found["store"]
    lines = [
        f"{found['devices']:,} devices, {found['edges']} edges: {found['tasks']:,} tasks in {found['simulated_s']:.1f} "
        f"simulated seconds ({rate_per_s:,.0f}/s), {found['core_s']:.0f} s of one core, {found['memory_mb']:.0f} MB",
        f"cost {found['cost_s']:.4f} s, answered {found['share_answered']:.4f}, at an edge "
        f"{found['outcomes']['edge'] / sum(found['outcomes'].values()):.3f}",
        f"attaching and planning all: {attach_s:.1f} s of a core, {1e3 * attach_s / found['devices']:.2f} ms a device",
        f"serving: {found['twin_core_share']:.2f} of a core, {1e3 * found['twin_core_share'] / rate_per_s:.2f} ms "
        "a task",
    ]
    if (settled := found["settled"]) is not None:
        took_s = core_share(settled["served"], settled["tasks"])
        lines.append(f"the same of the {settled['tasks']:,} tasks after the warm-up: {1e3 * took_s:.2f} ms a task")
    for kind, took in found["served"].items():
        lines.append(
            f"  {kind:<18} {took['calls']:>8,} x {1e3 * took['seconds'] / took['calls']:.3f} ms, longest "
            f"{1e3 * took['longest_s']:.0f} ms"
        )
    spread = found["by_edge"]
    for name, title in (("devices_last", "devices planned for it"), ("tasks_answered", "tasks answered by it")):
        each = spread[name]
        lines.append(f"by edge, {title}: {each['least']:.0f} to {each['most']:.0f}, mean {each['mean']:.1f}")
    save = found["served"].get("save")
    if save is not None:
        lines.append(
            f"store: {store['documents_written']:,} documents of {store['document_mean_bytes']:.0f} bytes and "
            f"{store['replay_written']:,} replayed tasks written in {save['seconds']:.2f} s, "
            f"{store['written_bytes'] / 1e6:.1f} MB handed to the file system, {store['size_bytes'] / 1e6:.1f} MB in "
            "the end"
        )
    return lines
