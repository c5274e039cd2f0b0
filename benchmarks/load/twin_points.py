"""One twin service under load: more and more devices at one task a second each, then more and more messages."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load.cores import on_cores, service_core
from benchmarks.load.twin_devices import MODULE
from benchmarks.load.window import Say, generators, limits, run_window, shares, summary
from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, total

HELD = 0.95
"""Reports dealt with over reports offered, from which a point counts as held."""
PLAN_GOAL_S = 1.0
"""A point whose plans come later than this after their cause (p95) is past saturation. Half a second is there on an
idle twin, too: a plan is not weighed sooner after it was weighed before."""
LARGEST_LAG_S = 0.05
CHANGE_S = 20.0
"""Between two changes of one device's uplink for which its plan cannot stay."""


@dataclass(frozen=True, slots=True)
class TwinLoad:
    """What is measured."""

    model: Path
    devices: tuple[int, ...] = (256, 512, 768, 1024, 1536, 1792, 2048, 3072)
    task_rate_per_s: float = 1.0
    message_devices: int = 64
    messages_per_s: tuple[float, ...] = (1000.0, 2000.0, 3000.0, 4000.0)
    warm_up_s: float = 40.0
    """Twice the horizon of the twin's rates: while they rise, plans are weighed more often than ever after."""
    seconds: float = 15.0
    change_s: float = CHANGE_S
    is_ended_early: bool = True
    """Whether a series ends with the first point that is not held: more tells nothing more."""
    generators: int = 2
    seed: int = 1


def quick(load: TwinLoad) -> TwinLoad:
    """The same in short: does it work?"""
    return replace(
        load,
        devices=(8, 64),
        message_devices=16,
        messages_per_s=(100.0, 400.0),
        warm_up_s=1.0,
        seconds=4.0,
        change_s=CHANGE_S / 10.0,
        is_ended_early=False,
    )


def measure(load: TwinLoad, say: Say) -> dict[str, Any]:
    """Both series."""
    with tempfile.TemporaryDirectory(prefix="twinsplit-load-") as name:
        folder = Path(name)
        pairs = [(count, count * load.task_rate_per_s) for count in load.devices]
        by_devices = _series(load, folder, pairs, say)
        by_messages = _series(load, folder, [(load.message_devices, rate) for rate in load.messages_per_s], say)
    return {
        "seconds": load.seconds,
        "warm_up_s": load.warm_up_s,
        "task_rate_per_s": load.task_rate_per_s,
        "change_s": load.change_s,
        "is_pinned": service_core() is not None,
        "plan_goal_s": PLAN_GOAL_S,
        "by_devices": by_devices,
        "message_devices": load.message_devices,
        "by_messages": by_messages,
        "memory_kb_per_device": by_devices[-1]["memory_kb_per_device"],
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was held, for people."""
    return [
        f"twin: holds {_most(found['by_devices'], 'devices')} devices at {found['task_rate_per_s']:g} task/s each",
        f"twin: holds {_most(found['by_messages'], 'reports_per_s')} reports/s of {found['message_devices']} devices",
        f"twin: {found['memory_kb_per_device']:.0f} kB of memory per attached device",
    ]


def _most(points: Sequence[Mapping[str, Any]], name: str) -> str:
    held = [point[name] for point in points if point["is_held"]]
    at_least = "" if len(held) < len(points) else "at least "
    return f"{at_least}{max(held, default=0):.0f}"


def _series(load: TwinLoad, folder: Path, pairs: Sequence[tuple[int, float]], say: Say) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for devices, rate_per_s in pairs:
        points.append(_point(load, folder, devices, rate_per_s))
        say(_line(points[-1]))
        if load.is_ended_early and not points[-1]["is_held"]:
            break
    return points


def _point(load: TwinLoad, folder: Path, devices: int, rate_per_s: float) -> dict[str, Any]:
    port, http_port = free_ports(2)
    state = folder / f"state-{port}"
    arguments = ["-m", "twin_service", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"]
    # Made-up tasks teach nothing, and lessons would take a quarter of the core.
    arguments.append("--learning-share=0")
    # Every point has a new twin: what one of them has learnt and kept must not weigh on the next.
    twin = ServiceProcess(f"twin-{port}", [*arguments, f"--state={state}", "--log-format=json"], folder, http_port)
    orders: list[dict[str, Any]] = []
    for count in shares(devices, load.generators):
        orders.append(
            {
                "address": f"{HOST}:{port}",
                "model": str(load.model),
                "devices": count,
                "first": sum(order["devices"] for order in orders),
                "seed": load.seed,
                "rate_per_device_s": rate_per_s / devices,
                "change_s": load.change_s,
                "warm_up_s": load.warm_up_s,
                "seconds": load.seconds,
            }
        )
    try:
        with on_cores(is_service=True):
            twin.start()
        twin.wait_until_ready()
        empty_bytes = psutil.Process(twin.pid).memory_info().rss
        with on_cores(is_service=False), generators(orders, MODULE, folder) as processes:
            attached_bytes = psutil.Process(twin.pid).memory_info().rss
            counted, use = run_window(processes, twin, load.warm_up_s, load.seconds)
    finally:
        twin.stop()
    changes = summary(counted, use, load.seconds)
    name = "twinsplit_tasks_reported_total"
    # A twin that is too busy to show its metrics holds nothing.
    handled = total(use.after, name) - total(use.before, name) if use.before and use.after else 0.0
    reports_per_s = handled / load.seconds
    # As drawn, and at least nearly as asked: a generator that cannot send would otherwise look like a twin that holds.
    offered_per_s = max(sum(len(each.lags_s) for each in counted) / load.seconds, HELD * rate_per_s)
    p95_s = changes["latency_s"]["p95"]
    return {
        "devices": devices,
        "offered_reports_per_s": offered_per_s,
        "reports_per_s": reports_per_s,
        "plan_delay_s": changes["latency_s"],
        "changes": changes["offered"],
        "ended": changes["ended"],
        "memory_kb_per_device": (attached_bytes - empty_bytes) / 1e3 / devices,
        "is_held": reports_per_s >= HELD * offered_per_s and (p95_s is None or p95_s <= PLAN_GOAL_S),
        "limits": limits(changes, "twin", use.cpu_cores, LARGEST_LAG_S),
    } | {
        name: changes[name]
        for name in (
            "messages_per_s",
            "lag_p99_s",
            "generators",
            "service_cpu_cores",
            "service_memory_mb",
            "machine_share",
        )
    }


def _line(point: Mapping[str, Any]) -> str:
    p99_s = point["plan_delay_s"]["p99"]
    return (
        f"twin, {point['devices']:>4} devices: reports offered {point['offered_reports_per_s']:7.1f}/s, dealt with "
        f"{point['reports_per_s']:7.1f}/s, {point['messages_per_s']:.0f} messages/s, "
        f"plan delay p99 {'-' if p99_s is None else f'{p99_s * 1e3:.1f} ms'} "
        f"of {point['changes']} changes {point['ended']}, "
        f"{point['service_cpu_cores']:.2f} cores, {point['memory_kb_per_device']:.0f} kB a device, "
        f"generators {', '.join(f'{share:.0%}' for share in point['generators'])}, "
        f"limit: {' and '.join(point['limits']) or 'none'}{'' if point['is_held'] else '; NOT HELD'}"
    )
