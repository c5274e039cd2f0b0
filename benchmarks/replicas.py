"""What is left of a twin's load with two and three replicas: real twins, light devices over real streams.

Counted per task that any replica heard of, so that it does not matter how fast tasks come on a busy machine: messages
that each replica takes, and its processor time. Devices and replicas share the cores here; what several machines hold
together is another question (docs/capacity.md).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.light_devices import IdleEdge, LightDevice
from benchmarks.testbed.process import HOST, ServiceEndedError, ServiceProcess, free_ports, total
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.replicas.rendezvous import ranked
from twinsplit.telemetry.logs import configure_logging

REPLICAS = (1, 2, 3)
GOAL_TOTAL = 1.1
"""All replicas together take no more messages than so many times what one takes alone: reports are not doubled."""
FIGURES = ("messages_per_task", "cpu_s_per_task")
REPORT_S = 0.5
"""Every device ends a task so often."""
_BETWEEN_DEVICES_S = 0.03
"""They do not come all at once, which would measure how fast one process can make connections."""
_PATIENCE_S = 60.0
_LOOK_S = 0.05


class _Counts(NamedTuple):
    """Of one replica, since its start."""

    tasks: float
    messages: float
    cpu_s: float


def measure(
    shipped: Path, *, devices: int, seconds: float, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Load of each replica for one, two and three of them, with whether the goal is met."""
    configure_logging("error")
    rows = []
    for count in REPLICAS:
        progress(f"{devices} devices, {count} replica{'s' if count > 1 else ''}")
        with tempfile.TemporaryDirectory() as folder:
            rows.append(asyncio.run(_row(shipped, Path(folder), count, devices, seconds)))
    return judged(rows) | {"devices": devices, "seconds": seconds}


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """``rows`` with every figure also as a share of what one replica takes alone, and whether the goal is met."""
    alone = rows[0]["replicas"][0]
    found = []
    for row in rows:
        replicas = [
            replica | {f"{figure}_share": replica[figure] / alone[figure] for figure in FIGURES}
            for replica in row["replicas"]
        ]
        totals = {f"{figure}_total": sum(replica[f"{figure}_share"] for replica in replicas) for figure in FIGURES}
        found.append(row | {"replicas": replicas} | totals)
    is_met = all(row["messages_per_task_total"] <= GOAL_TOTAL for row in found)
    return {"rows": found, "goal_total": GOAL_TOTAL, "goal_is_met": is_met}


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    head = (
        f"{'replicas':>8}  {'devices':>7}  {'messages/task':>13}  {'of alone':>8}  {'cpu ms/task':>11}  {'of alone':>8}"
    )
    rows = [
        f"{len(row['replicas']):>8}  {replica['devices']:>7}  {replica['messages_per_task']:>13.3f}  "
        f"{replica['messages_per_task_share']:>8.2f}  {replica['cpu_s_per_task'] * 1e3:>11.3f}  "
        f"{replica['cpu_s_per_task_share']:>8.2f}"
        for row in found["rows"]
        for replica in row["replicas"]
    ]
    totals = ", ".join(
        f"{len(row['replicas'])} take {row['messages_per_task_total']:.2f} of the messages and "
        f"{row['cpu_s_per_task_total']:.2f} of the processor time"
        for row in found["rows"][1:]
    )
    verdict = "met" if found["goal_is_met"] else "MISSED"
    return [head, *rows, f"together {totals} of one alone; {found['goal_total']} of the messages wanted: {verdict}"]


async def _row(shipped: Path, folder: Path, count: int, devices: int, seconds: float) -> dict[str, Any]:
    manifest, manifest_bytes = read_manifest(shipped)
    twins: dict[str, ServiceProcess] = {}
    async with AsyncExitStack() as stack:
        for index in range(count):
            port, http_port = free_ports(2)
            state = folder / f"state-{index}"
            arguments = [
                *("-m", "twin_service", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"),
                *(f"--state={state}", "--replay-share=0", "--log-level=warning"),
            ]
            twin = twins[f"{HOST}:{port}"] = ServiceProcess(f"twin-{index}", arguments, folder, http_port)
            stack.callback(twin.stop)
            twin.start()
        for twin in twins.values():
            await asyncio.to_thread(twin.wait_until_ready)
        replicas = ",".join(twins)
        edge = IdleEdge().links(replicas, manifest, manifest_digest(manifest_bytes))
        running: list[asyncio.Future[None]] = [asyncio.ensure_future(edge.run())]
        stack.push_async_callback(_ended, running)
        fleet: list[LightDevice] = []
        for number in range(devices):
            fleet.append(LightDevice(f"cam-{number}", replicas, manifest, manifest_bytes, number, REPORT_S))
            running.append(asyncio.ensure_future(fleet[-1].run()))
            await asyncio.sleep(_BETWEEN_DEVICES_S)
        await _home(fleet)
        began = [await _counted(twin) for twin in twins.values()]
        await asyncio.sleep(seconds)
        ended = [await _counted(twin) for twin in twins.values()]
    homes = Counter(device.route.address for device in fleet)
    passed = [_Counts(*(b - a for a, b in zip(*each, strict=True))) for each in zip(began, ended, strict=True)]
    tasks = sum(each.tasks for each in passed)
    return {
        "tasks": tasks,
        "replicas": [
            {
                "devices": homes[address],
                "messages_per_task": each.messages / tasks,
                "cpu_s_per_task": each.cpu_s / tasks,
            }
            for address, each in zip(twins, passed, strict=True)
        ],
    }


async def _home(fleet: list[LightDevice]) -> None:
    """Return when every device is attached where it belongs and has a plan.

    Raises:
        ServiceEndedError: they do not get there.
    """
    deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
    while not all(d.taken and d.route.address == ranked(d.name, d.route.replicas)[0] for d in fleet):
        if asyncio.get_running_loop().time() > deadline_s:
            raise ServiceEndedError(f"devices have not found their replicas within {_PATIENCE_S:g} s")
        await asyncio.sleep(_LOOK_S)


async def _counted(twin: ServiceProcess) -> _Counts:
    metrics = await asyncio.to_thread(twin.metrics)
    return _Counts(
        total(metrics, "twinsplit_tasks_reported_total"),
        total(metrics, "twinsplit_heard_messages_total"),
        total(metrics, "twinsplit_process_cpu_seconds_total"),
    )


async def _ended(running: list[asyncio.Future[None]]) -> None:
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
