"""A device's status in words, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def status_text(status: dict[str, Any]) -> str:
    """What :func:`device.status.status_document` holds, as lines of text."""
    return "\n".join(_lines(status))


def _lines(status: dict[str, Any]) -> Iterator[str]:
    model, twin = status["model"], status["twin"]
    digest = model["digest"][:12]
    yield f"device {status['id']}: model {model['name']} {model['version']} ({digest}), {status['provider']}"
    if status["payloads"] != "any":
        yield f"payloads: {status['payloads']}"
    if status["emulation"]:
        yield f"EMULATION: {', '.join(f'{name} {value}' for name, value in status['emulation'].items())}"
    if twin is None:
        yield "twin: none; the manifest's contingency decides"
    else:
        yield f"twin: {twin['address']}, {'attached' if twin['is_attached'] else 'NOT attached'}"
    yield from _plan_lines(status["plan"])
    edge = status["edge"]
    if edge is not None:
        came_back = sum(edge["came_back"].values())
        yield (
            f"edge: {edge['address']}, breaker {edge['breaker']}, {edge['in_flight']} in flight, {came_back} came back"
        )
    task = status["task"]
    service = "idle" if task is None else f"task {task['task_id']} at epoch {task['epoch']}"
    yield f"now: {service}, {status['queue_length']} waiting"
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in status["outcomes"].items())
    yield f"tasks: {status['entered']} entered = {outcomes}, {status['open']} open"
    yield "why tasks ended where they did:"
    for reason, count in status["reasons"].items():
        yield f"  {count:>8}  {reason}"
    if status["stops"]:
        yield "where they stopped:"
        for stop in status["stops"]:
            yield f"  {stop['count']:>8}  epoch {stop['epoch']}: {stop['decision']} ({stop['reason']})"


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    if "plan_id" in plan:
        target = f"offloads to {plan['edge_id']}" if plan["edge_id"] else "never offloads: no edge holds the model"
        yield f"plan {plan['plan_id']} of rule {plan['rule']}, {plan['age_s']:.1f} s old, {target}"
        if plan["break_points_s"]:
            points = ", ".join(f"{point:.3g}" for point in plan["break_points_s"])
            yield f"  decisions change at backlogs of {points} s"
    if plan["in_force"]:
        yield f"  in force, lease ends in {plan['lease_left_s']:.1f} s"
    else:
        yield f"no plan in force ({plan['absence']}): the contingency decides"
    runs = [f"exit {index}" for index, is_run in enumerate(plan["exits_run"]) if is_run]
    yield f"  exits run: {', '.join(runs) or 'none'}"
    if plan["backlog_s"] is not None:
        yield f"  backlog of the edge, dead-reckoned: {plan['backlog_s']:.3f} s"
