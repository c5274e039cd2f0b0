"""Twins as the console's snapshot has them (docs/console.md). Sans-IO: each part is a function of state and instant."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from twin_service.console.feed import Ended, TaskFeed
from twin_service.console.payoffs import PayoffBook
from twin_service.console.plan_rows import bands_that_differ, evidence_text, queue_level, row, runs, table_of
from twin_service.core import TwinCore
from twin_service.decision.situation import Weights
from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.edge_twin import HORIZON_NAMES, EdgeTwin
from twin_service.fields import FieldView
from twin_service.tables import REASON_TEXTS
from twinsplit import __version__
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import ProgressModel, predicted_backlog_s

SHOWN_DEVICES = 200
"""Devices in one snapshot."""
SHOWN_TASKS = 50
_UNITS = (
    ("_bytes_per_s", "B/s"),
    ("_per_s", "1/s"),
    ("_s_per_joule", "s/J"),
    ("_joules", "J"),
    ("_watts", "W"),
    ("_celsius", "°C"),
    ("_s", "s"),
    ("_share", ""),
)
_UNITS_BY_NAME = {"epoch": "", "queue_length": "tasks"}
_HEALTH_FIELDS = ("cpu_share", "memory_share", "temperature_celsius", "is_throttled")


class Selection(NamedTuple):
    """Which devices a snapshot holds."""

    device_id: str | None = None
    """This one alone; ``None``: all."""
    offset: int = 0


def chosen_ids(core: TwinCore, selection: Selection) -> list[str]:
    """Names of the devices of a snapshot, attached ones first, then by name.

    Raises:
        UnknownTwinError: the one asked for is not there.
    """
    if selection.device_id is not None:
        return [core.archive.document(selection.device_id).device_id]
    ids = [document.device_id for document in core.archive]
    attached = [i for i in ids if (device := core.devices.get(i)) is not None and device.is_attached]
    others = set(ids).difference(attached)
    ordered = [*attached, *(i for i in ids if i in others)]
    return ordered[selection.offset : selection.offset + SHOWN_DEVICES]


def device_document(core: TwinCore, feed: TaskFeed, device_id: str, now_s: float) -> dict[str, Any]:
    """One device.

    Raises:
        UnknownTwinError: there is none of that name.
    """
    view = core.device_view(device_id, now_s)
    device = core.devices.get(device_id)
    document: dict[str, Any] = {
        "id": device_id,
        "version": view.version,
        "is_attached": view.is_attached,
        "fields": [_field(field) for field in view.fields],
        "outcomes": view.outcomes,
        "reasons": view.reasons,
        "plan_revisions": view.plan_revisions,
        "messages_per_task": view.messages_per_task,
        **_state(core, feed, device, now_s),
    }
    predicted = {field.name: field.predicted for field in view.fields}
    document["health"] = {name: predicted.get(name) for name in _HEALTH_FIELDS}
    if document["health"]["is_throttled"] is not None:
        document["health"]["is_throttled"] = bool(document["health"]["is_throttled"])
    return document


def _state(core: TwinCore, feed: TaskFeed, device: DeviceTwin | None, now_s: float) -> dict[str, Any]:
    """What is known of a device that has attached since the start; nothing of another."""
    if device is None:
        names = ("is_tensors_only", "weights", "model", "task", "queue_length", "uplink", "links", "is_edge_reachable")
        return {**dict.fromkeys((*names, "is_degraded", "plan")), "mirror": {"accuracy": None, "report_age_s": None}}
    status, is_attached = device.status, device.is_attached
    queue_length = status.queue_expected(now_s)
    task = status.task if is_attached else None
    return {
        "is_tensors_only": status.hello.is_tensors_only,
        "weights": weights_document(device.weights(core.planner.weights)),
        "model": None if status.manifest is None else _model(device, status.manifest),
        "task": None if task is None else _task(task, now_s),
        "queue_length": queue_length,
        "uplink": {
            "goodput_bytes_per_s": status.goodput_bytes_per_s,
            "round_trip_s": status.round_trip_s,
            "wait_s": status.uplink_busy_s(now_s),
            "in_flight": feed.in_flight(device.device_id),
        },
        "links": [asdict(link) for link in status.links.values()],
        "mirror": {"accuracy": status.mirror.accuracy, "report_age_s": max(0.0, now_s - status.reported_at_s)},
        "is_edge_reachable": status.is_edge_reachable,
        "is_degraded": status.is_degraded,
        "plan": None
        if device.standing is None or status.manifest is None
        else _plan(device.standing, status.manifest, queue_length, task, now_s),
    }


def weights_document(weights: Weights) -> dict[str, Any]:
    """The weights that a person sets."""
    return {
        "alpha_s": weights.alpha_s,
        "beta_s_per_joule": weights.beta_s_per_joule,
        "deadline_s": weights.deadline_s,
    }


def edge_document(edge: EdgeTwin, now_s: float, devices: int) -> dict[str, Any]:
    """One edge; ``devices``: whose plan names it."""
    fields = {field.name: field for field in edge.views(now_s)}
    backlog = fields["backlog_s"]
    return {
        "id": edge.edge_id,
        "address": edge.address,
        "is_attached": edge.is_attached,
        "models": len(edge.models),
        "devices": devices,
        "backlog_s": backlog.reported,
        "predicted_backlog_s": backlog.predicted if edge.is_attached else None,
        "backlog_mean_s": edge.reading.mean_s,
        "report_age_s": backlog.age_s if backlog.reported is not None else None,
        "backlog_error_s": backlog.error,
        "speed_factor": fields["speed_factor"].reported,
        "busy_share": fields["busy_share"].reported,
        "queue_length": fields["queue_length"].reported,
        "arrived_work_s": [fields[name].reported for name in HORIZON_NAMES],
    }


def task_document(ended: Ended, feed: TaskFeed, book: PayoffBook, unix_offset_s: float) -> dict[str, Any]:
    """One ended task; ``unix_offset_s``: Unix time less the twin's clock."""
    task, manifest = ended.task, ended.manifest
    has_exit = task.exit_index is not None and manifest is not None
    thumbnail = feed.thumbnail(ended.device_id, task.task_id)
    # A device that starts anew numbers its tasks anew: the picture may be of a later one.
    has_thumbnail = thumbnail is not None and thumbnail is task.thumbnail_jpeg
    compared = book.compared(ended) if book.is_cheap(ended) else None
    return {
        "device": ended.device_id,
        "task_id": task.task_id,
        "time_unix_s": round(task.ended_at_s + unix_offset_s, 3),
        "outcome": task.outcome.value,
        "reason": task.reason.value,
        "reason_text": REASON_TEXTS.get(task.reason.value, ""),
        "stop_epoch": task.stop_epoch,
        "exit": manifest.exits[task.exit_index].after_segment if has_exit else None,  # type: ignore[index,union-attr] # both are there
        "evidence_text": None if manifest is None else evidence_text(manifest, task.evidence),
        "payload": None if task.payload is None else task.payload.value,
        "wire_bytes": task.wire_bytes,
        "label": task.label,
        "confidence": task.confidence,
        "is_degraded": task.degraded,
        "latency_s": task.latency_s,
        "queue_s": task.stages.queue,
        "energy_joules": task.energy_joules,
        "energy_source": task.energy_source,
        "thumbnail": f"/api/tasks/{ended.device_id}/{task.task_id}/thumbnail" if has_thumbnail else None,
        "payoffs": None if compared is None else compared.document(),
    }


def totals_document(feed: TaskFeed, messages: int, now_s: float) -> dict[str, Any]:
    """What everything since the start adds up to; ``messages``: between the twin service and its peers."""
    totals = feed.totals
    return {
        "since_s": now_s - totals.since_s,
        "tasks": totals.tasks,
        "accuracy": _ratio(totals.right, totals.judged),
        "answered_share": _ratio(totals.answered, totals.tasks),
        "latency_mean_s": _ratio(totals.latency_s, totals.answered),
        "latency_p95_s": totals.latency_p95_s(),
        "energy_joules": _ratio(totals.energy_joules, totals.measured),
        "energy_source": totals.energy_source,
        "messages_per_task": _ratio(messages, totals.tasks),
        "outcomes": dict(totals.outcomes),
    }


def head_document(core: TwinCore, *, is_token_needed: bool, unix_s: float) -> dict[str, Any]:
    """What stands before everything else."""
    return {
        "time_unix_s": round(unix_s, 3),
        "rule": core.planner.rule.name,
        "version": __version__,
        "is_token_needed": is_token_needed,
        "weights": weights_document(core.planner.weights),
        "devices_total": len(core.archive),
    }


def edge_documents(core: TwinCore, now_s: float) -> list[dict[str, Any]]:
    """All edges by name."""
    devices_at = core.planner.chooser.devices_at
    return [edge_document(core.edges[edge_id], now_s, devices_at(edge_id)) for edge_id in sorted(core.edges)]


def position(task: ProgressModel, now_s: float) -> float:
    """Where a task stands now, in segments: 1.62 is 62 % through the second. It never gets past the last."""
    boundaries_s = task.boundaries_s
    elapsed_s = max(0.0, now_s - task.started_at_s)
    done = bisect_right(boundaries_s, elapsed_s)
    if done >= len(boundaries_s):
        return float(len(boundaries_s))
    begin_s = boundaries_s[done - 1] if done else 0.0
    length_s = boundaries_s[done] - begin_s
    return done + ((elapsed_s - begin_s) / length_s if length_s > 0.0 else 0.0)


def finite(value: Any) -> Any:
    """A document without numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def _task(task: ProgressModel, now_s: float) -> dict[str, Any]:
    boundaries_s = task.boundaries_s
    epoch = min(task.epoch_at(now_s), max(len(boundaries_s) - 1, 0))
    return {
        "task_id": task.task_id,
        "epoch": epoch,
        "position": position(task, now_s),
        "started_age_s": max(0.0, now_s - task.started_at_s),
        "boundaries_s": list(boundaries_s),
    }


def _model(device: DeviceTwin, manifest: Manifest) -> dict[str, Any]:
    status = device.status
    exits_run: Iterable[bool] = () if device.standing is None else device.standing.plan.exits_run
    run = {index for index, is_run in enumerate(exits_run) if is_run}
    return {
        "name": f"{manifest.name} {manifest.version}",
        "digest": status.hello.model_digest,
        "whole_segments": manifest.segment_count,
        "segments": [
            {"index": index, "name": f"segment {index + 1}", "service_s": service_s}
            for index, service_s in enumerate(status.segment_s)
        ],
        "exits": [
            {
                "after_segment": each.after_segment,
                "index": each.index,
                "service_s": status.exit_s[each.index],
                "is_run": each.index in run,
            }
            for each in manifest.exits
        ],
        "cuts": [
            {"cut": cut.index, "tensor": f"{'x'.join(map(str, cut.tensor.shape))} {cut.tensor.dtype}"}
            for cut in manifest.cuts
        ],
    }


def _plan(
    standing: StandingPlan, manifest: Manifest, queue_length: float, task: ProgressModel | None, now_s: float
) -> dict[str, Any]:
    plan = standing.plan
    level = queue_level(queue_length)
    age_s = None if task is None or not plan.age_edges_s else max(0.0, now_s - task.started_at_s)
    backlog_s = None if standing.held is None else predicted_backlog_s(standing.held, now_s)
    table = table_of(plan)
    cells, edges_s = bands_that_differ(table.cells(manifest, level, age_s, plan.band_edges_s), plan.band_edges_s)
    return {
        "plan_id": plan.plan_id,
        "rule": plan.rule,
        "edge_id": plan.edge_id,
        "lease_s": plan.lease_s,
        "exits_run": list(plan.exits_run),
        "band_edges_s": edges_s,
        "backlog_s": backlog_s,
        "band": bisect_right(edges_s, backlog_s or 0.0),
        "queue_level": level,
        "age_edges_s": list(plan.age_edges_s),
        "age_s": age_s,
        "busy_uplink_from_s": None if plan.busy_uplink is None else plan.busy_uplink.from_s,
        "rows": [row(table, manifest, cells, run) for run in runs(cells)],
    }


def _field(view: FieldView) -> dict[str, Any]:
    return {
        "name": view.name,
        "unit": _unit(view.name),
        "reported": view.reported,
        "predicted": view.predicted,
        "desired": view.desired,
        "age_s": view.age_s,
        "source": view.source.value,
        "error": view.error,
    }


def _unit(name: str) -> str:
    if name in _UNITS_BY_NAME:
        return _UNITS_BY_NAME[name]
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None
