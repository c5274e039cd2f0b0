"""What was measured, out of the documents in benchmarks/results, each figure with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinsplit.errors import TwinsplitError

NEEDED = (
    "load-twin",
    "load-edge",
    "planning",
    "signalling-fleet",
    "capacity-simulation",
    "capacity-settled",
    "capacity-one-edge",
)
"""Documents, without ``.json``."""
_TASK_KINDS = ("device task", "device start", "device progress", "twin plan", "twin backlog", "twin edges")
"""Messages that tasks bring about; all others go by time."""
_CHANGING_KINDS = ("device task", "device start", "device progress")
_ALIVE_KINDS = ("device heartbeat",)
_EDGE_KINDS = ("edge backlog", "edge heartbeat", "twin interest")
_WITHIN = ("rule",)


class InputError(TwinsplitError):
    """A document lacks what is needed of it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Times in seconds of one core, sizes in bytes; rates are of one device or one edge."""

    twin_task_s: float
    """Twin, over real streams, with one edge: of one task's messages and what they bring about."""
    twin_devices_held: int
    """Most devices at ``twin_held_rate_per_s`` that one twin was seen to hold."""
    twin_held_rate_per_s: float
    twin_is_quick: bool
    """The load on the twin was measured by a short run."""
    twin_device_bytes: float
    twin_base_bytes: float
    """Memory of a twin without devices."""
    many_edges: int
    many_edges_task_s: float
    """The twin's core, without streams: of one task where devices have ``many_edges`` to choose from."""
    one_edge_task_s: float
    """The same with one edge."""
    attach_s: float
    """Attaching a device and planning it, with ``many_edges``."""
    plan_s: float
    """Planning one of many devices."""
    edge_report_s: float
    """The twin's core: one report of an edge."""
    tail_s: float
    """Edge, over real streams: of one tail of the whole shipped network."""
    edge_is_quick: bool
    payload_bytes: float
    offloaded: float
    """Share of tasks that end at an edge."""
    settled_rate_per_s: float
    """Tasks per device and second for which the following rates were counted, in a fleet that has run for a while."""
    messages_per_task: float
    message_bytes_per_task: float
    messages_per_s: float
    """Signs of life and renewals of a device."""
    changes_per_task: float
    """Messages of a device about one task: each changes its document."""
    heartbeats_per_s: float
    """Signs of life of a device: likewise."""
    message_bytes_per_s: float
    edge_messages_per_s: float
    edge_message_bytes_per_s: float
    fleet_messages_per_task: float
    """Another simulated fleet, attachment apart: for comparison."""
    document_bytes: float
    written_bytes_per_document: float
    """Handed to the file system for one document, replayed tasks and records in between shared out."""
    document_s: float
    """The twin's core: saving one document, likewise."""

    def described(self) -> dict[str, Any]:
        """For a result."""
        return asdict(self)


def inputs_of(documents: Mapping[str, Mapping[str, Any]]) -> Inputs:
    """Figures from documents by name (:data:`NEEDED`).

    Raises:
        InputError: one is missing, or has nothing that could be used.
    """
    if missing := [name for name in NEEDED if name not in documents]:
        raise InputError(f"missing: {', '.join(f'benchmarks/results/{name}.json' for name in missing)}")
    twin = documents["load-twin"]["results"]
    edge = documents["load-edge"]["results"]
    points_held = [point for point in twin["by_devices"] if point["is_held"]]
    if not points_held:
        raise InputError("load-twin.json: no number of devices was held")
    most = max(points_held, key=lambda point: int(point["devices"]))
    best = max(edge["capacity"], key=lambda point: float(point["answers_per_s"]))
    largest = max(documents["planning"]["results"]["rows"], key=lambda row: int(row["devices"]))
    many = documents["capacity-simulation"]["results"]
    fleet, one = (_settled(documents, name) for name in ("capacity-settled", "capacity-one-edge"))
    store = many["store"]
    if not store["documents_written"]:
        raise InputError("capacity-simulation.json: too short, nothing was saved")
    settled = fleet["settled"]
    device_s, edge_s = fleet["devices"] * settled["seconds"], fleet["edges"] * settled["seconds"]
    messages, sizes, tasks = settled["messages"], settled["bytes"], settled["tasks"]
    reports = settled["served"]["edge report"]
    save = many["served"]["save"]
    return Inputs(
        twin_task_s=most["service_cpu_cores"] / most["reports_per_s"],
        twin_devices_held=most["devices"],
        twin_held_rate_per_s=twin["task_rate_per_s"],
        twin_is_quick=twin["is_quick"],
        twin_device_bytes=1e3 * most["memory_kb_per_device"],
        twin_base_bytes=1e6 * most["service_memory_mb"] - 1e3 * most["memory_kb_per_device"] * most["devices"],
        many_edges=fleet["edges"],
        many_edges_task_s=_per_task_s(settled),
        one_edge_task_s=_per_task_s(one["settled"]),
        attach_s=_seconds(many["attached"]) / many["devices"],
        plan_s=largest["plan_in_batch"]["median_s"],
        edge_report_s=reports["seconds"] / reports["calls"],
        tail_s=best["service_cpu_cores"] / best["answers_per_s"],
        edge_is_quick=edge["is_quick"],
        payload_bytes=fleet["payload_bytes"] / max(1, fleet["outcomes"]["edge"] * fleet["tasks"] / _booked(fleet)),
        offloaded=fleet["outcomes"]["edge"] / _booked(fleet),
        settled_rate_per_s=tasks / device_s,
        messages_per_task=_of(messages, _TASK_KINDS) / tasks,
        message_bytes_per_task=_of(sizes, _TASK_KINDS) / tasks,
        messages_per_s=_of_others(messages) / device_s,
        message_bytes_per_s=_of_others(sizes) / device_s,
        changes_per_task=_of(messages, _CHANGING_KINDS) / tasks,
        heartbeats_per_s=_of(messages, _ALIVE_KINDS) / device_s,
        edge_messages_per_s=_of(messages, _EDGE_KINDS) / edge_s,
        edge_message_bytes_per_s=_of(sizes, _EDGE_KINDS) / edge_s,
        fleet_messages_per_task=_fleet_messages(documents["signalling-fleet"]),
        document_bytes=store["document_mean_bytes"],
        written_bytes_per_document=store["written_bytes"] / store["documents_written"],
        document_s=save["seconds"] / store["documents_written"],
    )


def changes_per_s(run: Mapping[str, Any]) -> float:
    """Changes of one device's document in a simulated run."""
    count = _of(run["messages"], (*_CHANGING_KINDS, *_ALIVE_KINDS))
    return count / (float(run["devices"]) * float(run["simulated_s"]))


def _settled(documents: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    run: Mapping[str, Any] = documents[name]["results"]
    if run.get("settled") is None:
        raise InputError(f"{name}.json: measured without a warm-up, set warm_up_tasks")
    return run


def _seconds(kinds: Mapping[str, Mapping[str, float]]) -> float:
    return sum((kind["seconds"] for name, kind in kinds.items() if name not in _WITHIN), 0.0)


def _per_task_s(settled: Mapping[str, Any]) -> float:
    """Core time of one task, without savings, replays and what edges say, which do not go by tasks."""
    apart = ("save", "replay", "edge report", *_WITHIN)
    found: float = sum(kind["seconds"] for name, kind in settled["served"].items() if name not in apart)
    found /= settled["tasks"]
    return found


def _booked(run: Mapping[str, Any]) -> int:
    found: int = sum(run["outcomes"].values())
    return found


def _of(counts: Mapping[str, float], kinds: tuple[str, ...]) -> float:
    return sum(counts.get(kind, 0.0) for kind in kinds)


def _of_others(counts: Mapping[str, float]) -> float:
    return sum(count for kind, count in counts.items() if kind not in (*_TASK_KINDS, *_EDGE_KINDS))


def _fleet_messages(document: Mapping[str, Any]) -> float:
    plans: Mapping[str, Mapping[str, float]]
    (plans,) = [variant for variant in document["variants"] if variant["name"] == "plans"]
    attaching = ("device hello", "device manifest", "edge hello", "twin welcome")
    return sum((count for kind, count in plans["messages_by_kind"].items() if kind not in attaching), 0.0)
