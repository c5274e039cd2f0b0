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
        yield f"twin: {twin['address']}, {'attached' if twin['is_attached'] else 'NOT attached'}{_of_replicas(twin)}"
    yield from _plan_lines(status["plan"])
    edge = status["edge"]
    if edge is not None:
        came_back = sum(edge["came_back"].values())
        yield (
            f"edge: {edge['address']}, breaker {edge['breaker']}, {edge['in_flight']} in flight, {came_back} came back"
            f"{_sent_on(edge)}"
        )
    yield from _edge_lines(status.get("edges", []))
    yield from _energy_lines(status["energy"])
    yield from _health_lines(status["health"])
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


def _of_replicas(twin: dict[str, Any]) -> str:
    count = len(twin.get("replicas", ()))
    if count < 2:
        return ""
    wish = "the preferred" if twin["address"] == twin["preferred"] else f"prefers {twin['preferred']}; one"
    return f": {wish} of {count} replicas, has moved {twin['moves']} times"


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


def _sent_on(edge: dict[str, Any]) -> str:
    count = sum(edge.get("sent_on", {}).values())
    return f", {count} sent on to the next edge" if count else ""


def _edge_lines(edges: list[dict[str, Any]]) -> Iterator[str]:
    for edge in edges:
        parts = [
            "used now" if edge["is_used"] else "stands by",
            "connected" if edge["is_connected"] else "NOT connected",
            f"breaker {edge['breaker']}",
            f"backlog {edge['backlog_s']:.3f} s",
        ]
        if edge["goodput_bytes_per_s"] is not None:
            parts.append(f"{edge['goodput_bytes_per_s'] / 1e6:.3g} MB/s")
        if edge["round_trip_s"] is not None:
            parts.append(f"round trip {1000.0 * edge['round_trip_s']:.3g} ms")
        yield f"  {edge['edge']} ({edge['address']}): {', '.join(parts)}"


def _energy_lines(energy: dict[str, Any]) -> Iterator[str]:
    meter = energy["meter"]
    joules = ", ".join(f"{each['joules']:.3g} J {each['part']}" for each in energy["joules"])
    if meter is not None:
        state = "up" if meter["is_up"] else "SILENT: energy is unknown"
        lost = f", fell silent {meter['losses']} times" if meter["losses"] else ""
        known = [
            f"{meter[f'{name}_watts']:.3g} W {text}"
            for name, text in (("idle", "idle"), ("compute", "added by computing"), ("transmit", "added by sending"))
            if meter[f"{name}_watts"] is not None
        ]
        now = [] if meter["watts"] is None else [f"{meter['watts']:.3g} W now"]
        yield f"energy meter: {meter['source']}, {state}{lost}; {', '.join([*now, *known]) or 'nothing known yet'}"
    sources = ", ".join(dict.fromkeys(each["source"] for each in energy["joules"]))
    yield f"energy so far: {joules} (from {sources})" if joules else "energy so far: unknown"


def _health_lines(health: dict[str, Any]) -> Iterator[str]:
    known = [
        text.format(health[name])
        for name, text in (
            ("cpu_share", "processors {:.0%} busy"),
            ("memory_share", "memory {:.0%} used"),
            ("temperature_celsius", "{:.0f} degrees Celsius"),
        )
        if health[name] is not None
    ]
    if health["is_throttled"]:
        share = health["speed_share"]
        known.append("THROTTLED" + (f" to {share:.0%} of full speed" if share is not None else ""))
    if known:
        yield f"machine: {', '.join(known)}"
