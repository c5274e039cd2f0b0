"""One edge under load: what it holds by number of devices, then arrivals that do not wait, to twice that.

The edge has a core of its own (``--core``) where there is a second one for the generators: it then has as much of the
machine past the knee as before it. The points that matter are taken again without.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load.cores import on_cores, service_core
from benchmarks.load.edge_devices import MODULE
from benchmarks.load.window import Say, generators, limits, run_window, shares, summary
from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample
from twinsplit.errors import ErrorCode

CLEAN = frozenset({ErrorCode.EDGE_FULL.value, ErrorCode.DEADLINE.value})
"""Refusals that an edge under too much load is to make."""
FLAT = 0.9
"""Answers in time past the knee over the most of them, at least."""
IN_FLIGHT = 2
"""Tails that each device has under way while capacity is measured: one in service, one on its way."""
LARGEST_LAG_SHARE = 0.1
"""Of the deadline: a generator that is later than this is too busy."""


@dataclass(frozen=True, slots=True)
class EdgeLoad:
    """What is measured."""

    model: Path
    devices: tuple[int, ...] = (1, 8, 64, 256)
    knee_devices: int = 64
    factors: tuple[float, ...] = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
    """Offered load over the capacity measured at ``knee_devices``."""
    factors_on_any_core: tuple[float, ...] = (0.9, 1.0, 2.0)
    """The same for an edge without a core of its own."""
    cut: int = 0
    deadline_s: float = 0.25
    warm_up_s: float = 2.0
    seconds: float = 10.0
    """Of a point at which all that may be under way always is."""
    repeats: int = 3
    """Runs of a point at which arrivals wait for nothing; of each series in random order. Odd: one is the median."""
    run_seconds: float = 5.0
    generators: int = 2
    seed: int = 1


def quick(load: EdgeLoad) -> EdgeLoad:
    """The same in short: does it work?"""
    return replace(
        load,
        devices=(1, 8, 32),
        knee_devices=32,
        factors=(0.5, 1.0, 1.5, 2.0),
        factors_on_any_core=(2.0,),
        warm_up_s=1.0,
        seconds=3.0,
        repeats=1,
        run_seconds=3.0,
    )


def measure(load: EdgeLoad, say: Say) -> dict[str, Any]:
    """Both series and what is to be judged of them."""
    with tempfile.TemporaryDirectory(prefix="twinsplit-load-") as name:
        folder = Path(name)
        capacity = []
        # Nothing is refused while capacity is measured: the queue holds all that can be under way.
        core = service_core()
        with running_edge(load, folder, (*_on(core), f"--queue-capacity={IN_FLIGHT * max(load.devices)}")) as edge:
            for devices in load.devices:
                capacity.append(point_of(load, edge, folder, devices, rate_per_s=None))
                say(_line(capacity[-1]))
        at_knee = next(point for point in capacity if point["devices"] == load.knee_devices)
        capacity_per_s = at_knee["answers_per_s"]
        knee = _series(load, folder, core, load.factors, capacity_per_s, say)
        on_any_core = []
        if core is not None:
            say("the same without a core of its own:")
            on_any_core = _series(load, folder, None, load.factors_on_any_core, capacity_per_s, say)
    return {
        "cut": load.cut,
        "deadline_s": load.deadline_s,
        "seconds": load.seconds,
        "repeats": load.repeats,
        "run_seconds": load.run_seconds,
        "warm_up_s": load.warm_up_s,
        "in_flight": IN_FLIGHT,
        "capacity": capacity,
        "knee_devices": load.knee_devices,
        "capacity_per_s": capacity_per_s,
        "has_own_core": core is not None,
        "knee": knee,
        "on_any_core": on_any_core,
        "verdict": verdict(knee, load.deadline_s),
    }


def verdict(knee: list[dict[str, Any]], deadline_s: float) -> dict[str, Any]:
    """Is there no collapse past the knee? By the median run of each point, or by all ``runs`` where none may differ;
    ``None``: the generators were the limit, so nothing can be said."""
    judged = [point for point in knee if "generator" not in point["limits"]]
    past = [point for point in judged if point["factor"] >= 1.0]
    most = max((point["in_time_per_s"] for point in judged), default=0.0)
    runs = [run for point in knee for run in point["runs"]]
    refused = {end for run in runs for end in run["ended"]} - {"answered", "late", "unsent", "lost"}
    p99_s = [run["latency_s"]["p99"] or 0.0 for point in past for run in point["runs"]]
    return {
        "judged_factors": [point["factor"] for point in past],
        "is_flat": all(point["in_time_per_s"] >= FLAT * most for point in past) if past else None,
        "is_clean": refused <= CLEAN and all(bool(run["adds_up"]) and not run["ended"].get("lost") for run in runs),
        "is_bounded": max(p99_s) <= deadline_s if past else None,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The judgement for people."""
    said = {
        "is_flat": f"answers in time past the knee stay above {FLAT:.0%} of the most",
        "is_clean": "every task has one end, and refusals are only EDGE_FULL and DEADLINE",
        "is_bounded": f"p99 of what is answered is within its deadline of {found['deadline_s'] * 1e3:g} ms",
    }
    words = {True: "met", False: "MISSED", None: "unknown"}
    factors = found["verdict"]["judged_factors"]
    unjudged = [f"{p['factor']:g} x" for p in found["knee"] if p["factor"] >= 1.0 and p["factor"] not in factors]
    left_out = f" (the generators were the limit, and nothing is judged, at {', '.join(unjudged)})" if unjudged else ""
    return [
        f"edge: {text}: {words[found['verdict'][name]]}{'' if name == 'is_clean' else left_out}"
        for name, text in said.items()
    ]


def _series(
    load: EdgeLoad, folder: Path, core: int | None, factors: tuple[float, ...], capacity_per_s: float, say: Say
) -> list[dict[str, Any]]:
    """Points by factor: each its median run by answers in time, with all its ``runs``."""
    runs: dict[float, list[dict[str, Any]]] = {factor: [] for factor in factors}
    order = [factor for factor in factors for _ in range(load.repeats)]
    random.Random(load.seed).shuffle(order)
    at_run = replace(load, seconds=load.run_seconds)
    with running_edge(load, folder, _on(core)) as edge:
        for number, factor in enumerate(order, start=1):
            rate_per_s = factor * capacity_per_s
            run = point_of(at_run, edge, folder, load.knee_devices, rate_per_s, has_own_core=core is not None)
            runs[factor].append(run)
            say(f"{number} of {len(order)}: {_line({'factor': factor} | run)}")
    return [{"factor": factor} | median_run(found) | {"runs": found} for factor, found in sorted(runs.items())]


def median_run(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The middle one by answers in time; of an even number the lower of two."""
    return dict(sorted(runs, key=lambda run: float(run["in_time_per_s"]))[(len(runs) - 1) // 2])


def point_of(
    load: EdgeLoad,
    edge: ServiceProcess,
    folder: Path,
    devices: int,
    rate_per_s: float | None,
    *,
    has_own_core: bool = True,
) -> dict[str, Any]:
    """What is counted at one number of devices and one rate; ``None``: as many tails as may be under way always are."""
    orders: list[dict[str, Any]] = []
    for count in shares(devices, load.generators):
        orders.append(
            {
                "address": f"{HOST}:{_port(edge)}",
                "model": str(load.model),
                "devices": count,
                "first": sum(order["devices"] for order in orders),
                "seed": load.seed,
                "cut": load.cut,
                "deadline_s": None if rate_per_s is None else load.deadline_s,
                "rate_per_device_s": None if rate_per_s is None else rate_per_s / devices,
                "in_flight": IN_FLIGHT,
                "warm_up_s": load.warm_up_s,
                "seconds": load.seconds,
            }
        )
    apart = on_cores(is_service=False) if has_own_core else nullcontext()
    with apart, generators(orders, MODULE, folder) as processes:
        counted, use = run_window(processes, edge, load.warm_up_s, load.seconds)
    point = {"devices": devices} | summary(counted, use, load.seconds)
    busy_share = sample(use.after, "twinsplit_busy_share") or 0.0
    largest_lag_s = LARGEST_LAG_SHARE * load.deadline_s
    return point | {"busy_share": busy_share, "limits": limits(point, "edge", busy_share, largest_lag_s)}


@contextmanager
def running_edge(load: EdgeLoad, folder: Path, more: Sequence[str] = ()) -> Iterator[ServiceProcess]:
    """An edge that serves, with ``more`` arguments."""
    port, http_port = free_ports(2)
    arguments = ["-m", "edge", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"]
    arguments += [f"--models={load.model}", "--drain-s=0", "--log-format=json", *more]
    edge = ServiceProcess(f"edge-{port}", arguments, folder, http_port)
    try:
        edge.start()
        edge.wait_until_ready()
        yield edge
    finally:
        edge.stop()


def _on(core: int | None) -> tuple[str, ...]:
    return () if core is None else (f"--core={core}",)


def _port(edge: ServiceProcess) -> int:
    return int(next(each for each in edge.arguments if each.startswith("--listen=")).rpartition(":")[2])


def _line(point: Mapping[str, Any]) -> str:
    p99_s = point["latency_s"]["p99"]
    offered = f"offered {point['offered_per_s']:7.1f}/s ({point['factor']:g} x) " if "factor" in point else ""
    return (
        f"edge, {point['devices']:>3} devices: {offered}answered {point['answers_per_s']:7.1f}/s, "
        f"p99 {'-' if p99_s is None else f'{p99_s * 1e3:.1f} ms'}, edge busy {point['busy_share']:.0%}, "
        f"generators {', '.join(f'{share:.0%}' for share in point['generators'])}, "
        f"limit: {' and '.join(point['limits']) or 'none'}; {point['ended']}"
    )
