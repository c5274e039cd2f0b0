"""Documents of results as small as the report can be made of; their figures mean nothing."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

from benchmarks.simulator.mirror_errors import FIELDS

COSTS_S = {
    "device-only": 0.9,
    "one-time": 0.2,
    "threshold-static-best": 0.19,
    "one-time-threshold-best": 0.18,
    "open-loop": 0.15,
    "learned-one-head": 0.149,
    "learned-factual": 0.142,
    "learned": 0.14,
    "clairvoyant": 0.136,
}
RULES = tuple(COSTS_S)


def about(command: str, seeds: int = 2) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "commit": "0" * 40 + "-dirty",
        "command": command,
        "seeds": list(range(1, seeds + 1)),
        "machine": {"processor": "A", "cores": 2, "memory_gb": 8.0, "system": "6", "load_average": 0.1},
        "versions": {"python": "3.11"},
        "digests": {},
        "written_at": "2026-11-24T20:00:00+00:00",
    }


def rule_figures(costs_s: dict[str, float]) -> dict[str, Any]:
    base, best = costs_s["one-time"], costs_s.get("clairvoyant", 0.0)
    return {
        rule: {
            "cost_s": cost,
            "cost_ci_s": [0.9 * cost, 1.1 * cost],
            "cost_ratio_to_one_time": cost / base,
            "cost_ratio_ci": [0.95 * cost / base, 1.05 * cost / base],
            "latency_mean_s": 0.1,
            "latency_p95_s": 0.2,
            "share_answered": 1.0,
            "accuracy": 0.9,
            "energy_joules": 0.2,
            "messages_per_task": None,
            "stops": {"exit 1": 0.5, "edge, input": 0.3, "edge, tensor of cut 2": 0.1, "device": 0.1},
            "gap_closed": (base - cost) / (base - best),
            "cost_s_by_seed": {"1": 0.99 * cost, "2": 1.01 * cost},
            "tasks_per_second": 5000.0,
        }
        for rule, cost in costs_s.items()
    }


def cell(name: str, load: float, rate: float, **costs_s: float) -> dict[str, Any]:
    costs = COSTS_S | {rule.replace("_", "-"): cost for rule, cost in costs_s.items()}
    pair = {"ratio": costs["learned"] / costs["open-loop"], "ci": [0.9, 1.0]}
    return {
        "name": name,
        "scenario": {
            "task_rate_per_s": rate,
            "load_share": load,
            "load_burst_s": 0.6,
            "uplink_bytes_per_s": 20_000.0,
            "load_pattern": "onoff",
            "load_sizes": "heavy" if "heavy" in name else "fixed",
        },
        "rules": rule_figures(costs),
        "tasks_per_second": 4000.0,
        "learned_over_open_loop": pair,
        "learned_over_one_time_threshold_best": {"ratio": 0.8, "ci": [0.7, 0.9]},
    }


def grid(**costs_s: float) -> dict[str, Any]:
    from benchmarks.simulator.grid import claims

    cells = [cell(f"rate {rate}, load {load}", load, rate) for rate, load in product((1.0, 2.0), (0.3, 0.7))]
    cells.append(cell("heavy-tailed", 0.7, 2.0, **costs_s))
    return {
        "provenance": about("twinsplit sim grid --seeds 2 --workers 1 --json /somewhere/grid.json"),
        "claims": claims(cells),
        "cells": cells,
    }


def foresight() -> dict[str, Any]:
    kinds = ("blind-to-arrivals", "blind-to-load", "blind-to-uplink", "blind")
    blind = {kind: 0.150 + 0.001 * place for place, kind in enumerate(kinds)}
    costs_s = {rule: COSTS_S[rule] for rule in ("one-time", "learned", "clairvoyant")} | blind
    cells = [{"name": name, "rules": rule_figures(costs_s)} for name in ("slow-device", "heavy-tailed", "demo")]
    return {"provenance": about("twinsplit sim foresight"), "cells": cells}


def optimum() -> dict[str, Any]:
    rules = rule_figures({rule: COSTS_S[rule] for rule in ("one-time", "learned", "clairvoyant")} | {"optimum": 0.139})
    return {"provenance": about("twinsplit sim run"), "rules": rules, "tasks_per_second": 2000.0}


def learning() -> dict[str, Any]:
    def point(tasks: int, off: float) -> dict[str, Any]:
        return {
            "tasks": tasks,
            "error_off": off,
            "error_off_ci": [off - 0.01, off + 0.01],
            "utility_over_open_loop_s": off / 10.0,
            "utility_over_open_loop_ci_s": None,
        }

    reached = {"tasks": 150.0, "more_than_tasks": None, "factor": 1.0, "factor_more_than": None}
    never = {"tasks": None, "more_than_tasks": 200, "factor": None, "factor_more_than": 13.3}
    late = {"tasks": 1800.0, "more_than_tasks": None, "factor": 12.0, "factor_more_than": None}
    curves = {
        "learned": [point(100, -0.1), point(200, 0.1)],
        "learned-one-head": [point(100, -0.2), point(200, 0.05)],
        "learned-factual": [point(100, -9.0), point(200, -0.5)],
    }
    needed = {"learned": reached, "learned-one-head": reached, "learned-factual": never}
    rows = [
        {"share_of_gain": -0.2, "error": 0.2, "needed": needed | {"learned-factual": late}},
        {"share_of_gain": 0.5, "error": 0.1, "needed": needed},
    ]
    scenario = {"name": "heavy-tailed", "curves": curves, "tasks_needed": rows}
    return {"provenance": about("twinsplit sim learning"), "scenarios": [scenario]}


def pruning(different: int = 0) -> dict[str, Any]:
    time = {"ratio": 0.9, "ratio_ci": [0.8, 1.0]}
    lost = {
        "cost_s": 0.2,
        "cost_without_s": 0.19,
        "utility_lost_s": 0.01,
        "utility_lost_ci_s": [0.0, 0.02],
        "utility_lost_share": 0.05,
    }
    reduction = {
        "name": "demo",
        "situations": 3,
        "pruned_share": 0.4,
        "decisions": {rule: {"compared": 1000, "different": different} for rule in ("open-loop", "learned")},
        "offloads_above_ceiling": {"compared": 100, "different": 0},
        "plans": {"compared": 1000, "different": 2},
        "planning_time": {"table": time, "induction": time},
        "utility": {"open-loop": lost, "learned": lost},
    }
    rows = [
        {
            "rule": rule,
            "task_rate_per_s": rate,
            "device_load": rate / 10.0,
            "cost_s": 0.2,
            "cost_ci_s": [0.1, 0.3],
            "cost_without_s": 0.21,
            "cost_without_ci_s": None,
            "cost_ratio": 0.95,
            "cost_ratio_ci": [0.9, 1.0],
        }
        for rule, rate in product(("open-loop", "one-time"), (2.0, 4.0))
    ]
    prices = [{"name": "demo", "rows": rows}]
    return {"provenance": about("twinsplit sim pruning"), "reduction": [reduction], "price_of_waiting": prices}


def regime() -> dict[str, Any]:
    span = {"cost_s": 0.2, "cost_ci_s": [0.1, 0.3], "ratio": 1.0, "ratio_ci": [0.9, 1.1]}
    figures = {
        "spans": dict.fromkeys(("before", "after", "later"), span),
        "windows_s": [None, 0.1, 0.3],
        "windows_ci_s": [None, [0.05, 0.15], [0.1, 0.9]],
    }
    track = {
        "before": 2.0,
        "after": 1.0,
        "near_since_step_s": 30.0,
        "spread_later": 0.1,
        "mean_by_second": {"from_s": -2.0, "values": [2.0, None, 1.5, 1.0]},
    }
    names = ("task_rate_per_s", "goodput_bytes_per_s", "backlog_mean_s")
    events = [
        {"at_s": at_s, "result": result, "version": 1} for at_s, result in ((90.0, "promoted"), (130.0, "refused"))
    ]
    return {
        "provenance": about("twinsplit sim regime"),
        "scenario": {"step_at_s": 100.0},
        "window_s": 50.0,
        "windows_from_s": [-100.0, -50.0, 0.0],
        "rules": {
            rule: copy.deepcopy(figures)
            for rule in ("one-time", "open-loop", "learned-online", "learned-frozen", "clairvoyant")
        },
        "learning_on": {key: {"ratio": 1.0, "ratio_ci": [0.9, 1.1]} for key in figures["spans"]},
        "tracked": dict.fromkeys(names, track) | {"task_rate_per_s": track | {"near_since_step_s": None}},
        "weights": {
            "counts": {"before": {"promoted": 1}, "after": {}},
            "serving_at_step": [1, 0],
            "events": {"1": events, "2": []},
        },
    }


def variant(name: str, group: str, messages: float, ratio: float, **told: float) -> dict[str, Any]:
    usual = {"report_threshold_s": 0.01, "backlog_threshold_s": 0.05, "backlog_patience_s": 0.5}
    return {
        "name": name,
        "group": group,
        "cost_ratio_to_exact": ratio,
        "cost_ratio_ci": [ratio - 0.1, ratio + 0.1],
        "messages_per_task": messages,
        "bytes_per_task": 100.0 * messages,
        "errors": dict.fromkeys(FIELDS, 0.1) | {"device_backlog_s": 0.2, "queue_length": 0.3},
        "signalling": usual | {"period_s": 1.0, "delay_s": 0.002, "loss_share": 0.0} | told,
    }


def signalling(*, plans: float = 2.0, ratio: float = 1.01, is_quick: bool = False) -> dict[str, Any]:
    exact = variant("exact state", "scheme", 0.0, 1.0)
    exact["errors"] = {}
    found = [
        exact,
        variant("plans", "scheme", plans, ratio),
        variant("polled", "scheme", 8.0, 1.1),
        variant("periodic, 0.5 s", "scheme", 1.3, 1.05, period_s=0.5),
    ]
    if not is_quick:
        found += [
            variant("plans, edge 0.02 s", "threshold", 4.0, 1.02, backlog_threshold_s=0.02),
            variant("plans, edge 0.02 s, every change of a decision", "threshold", 5.0, 1.0, backlog_threshold_s=0.02),
        ]
        for word in ("plans", "polled"):
            found += [
                variant(f"{word}, jitter 0.1", "jitter", 3.0, 1.1),
                variant(f"{word}, delay 0.01 s", "delay", 3.0, 1.2, delay_s=0.01),
                variant(f"{word}, 5% lost", "loss", 3.0, 3.0, loss_share=0.05),
                variant(f"{word}, out of order", "disorder", 3.0, 1.4),
            ]
    scenario = {"devices": 10_000}
    return {
        "provenance": about("twinsplit sim signalling"),
        "scenario": scenario,
        "rule": "open-loop",
        "variants": found,
    }


def signalling_testbed(*, planned: float = 2.5, planned_s: float = 0.19) -> dict[str, Any]:
    def run(messages: float, cost_s: float) -> dict[str, Any]:
        kinds = {"device task": 0.5 * messages, "device-2 task": 0.25 * messages, "twin plan": 0.25 * messages}
        by_kind = {kind: round(100 * each) for kind, each in kinds.items()}
        return {"tasks": 100, "cost_s": cost_s, "messages_per_task": messages, "messages_by_kind": by_kind}

    costs_s = {"one-time": 0.3, "multi-step": planned_s, "multi-step, polled": 0.2}
    rules = rule_figures(costs_s | {"clairvoyant": 0.1})
    del rules["clairvoyant"]
    for title, messages in (("one-time", 2.4), ("multi-step", planned), ("multi-step, polled", 8.0)):
        by_seed = {str(seed): run(messages, factor * costs_s[title]) for seed, factor in ((1, 0.9), (2, 1.1))}
        is_asked = title.endswith("polled")
        rules[title] |= {
            "messages_per_task": messages,
            "testbed": {"mirror_accuracy": None if is_asked else 0.97, "degraded": 0, "by_seed": by_seed},
        }
    return {"provenance": about("twinsplit bench testbed"), "scenario": {"devices": 4}, "rules": rules}


def fidelity(*, is_within: bool = True) -> dict[str, Any]:
    sides = {"testbed": 0.1, "simulator": 0.11}
    latency = {side: {"mean": s, "p10": 0.5 * s, "p50": s, "p95": 2.0 * s} for side, s in sides.items()}
    found = {
        "tasks": {"testbed": 60, "simulator": 61},
        "latency_s": latency,
        "ks_distance": 0.1,
        "ks_by_chance": 0.2,
        "stops": {"exit 1": {"testbed": 0.7, "simulator": 0.6}, "device": {"testbed": 0.3, "simulator": 0.4}},
        "largest_share_difference": 0.1,
        "cost_s": sides,
        "stages_mean_s": {"queue": sides, "upload": {"testbed": None, "simulator": 0.1}},
        "is_within": {"share": True, "median": is_within, "p95": True, "cost": True, "ks": True},
    }
    bounds = {"share": 0.1, "median": 0.1, "p95": 0.25, "cost": 0.15, "ks": 0.15}
    return {"provenance": about("twinsplit bench fidelity"), "bounds": bounds, "rules": {"multi-step": found}}


def deadlines() -> dict[str, Any]:
    cells = []
    for deadline_s in (0.1, 0.2):
        rules = rule_figures({"one-time": 0.2, "one-time-best": 0.18, "open-loop": 0.15})
        for figures in rules.values():
            figures |= {"share_in_time": 0.9, "accuracy_in_time": 0.8}
        rules["one-time-best"]["tuned_to"] = "one-time-threshold:0.7"
        against = {
            "cost_ratio": 0.8,
            "cost_ratio_ci": [0.7, 0.9],
            "share_in_time_gain": 0.01,
            "share_in_time_gain_ci": [0.0, 0.02],
            "accuracy_in_time_gain": 0.02,
            "accuracy_in_time_gain_ci": [0.01, 0.03],
        }
        cells.append({"deadline_s": deadline_s, "rules": rules, "open-loop_against_one-time-best": against})
    return {"provenance": about("twinsplit sim deadlines"), "deadlines": cells, "tasks_per_second": 3000.0}


def every() -> dict[str, dict[str, Any]]:
    """One of each, by name."""
    return {
        "grid": grid(),
        "foresight": foresight(),
        "optimum": optimum(),
        "learning-curve": learning(),
        "regime": regime(),
        "regime-heavy-tailed": regime(),
        "regime-kind": regime(),
        "pruning": pruning(),
        "signalling": signalling(),
        "signalling-fleet": signalling(is_quick=True),
        "signalling-fleet-slow-links": signalling(is_quick=True),
        "signalling-testbed": signalling_testbed(),
        "fidelity": fidelity(),
        "deadlines": deadlines(),
    }
