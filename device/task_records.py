"""Ended tasks as JSON: one object per task, documented in ``docs/task-records.md`` and ``task_record.schema.json``."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from twinsplit.types import TaskRecord

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer


def task_document(record: TaskRecord, answer: Answer | None = None) -> dict[str, Any]:
    """The object of one task; ``answer``: the network's, whose output is shown where it is not a classifier's."""
    started_at_s = record.started_at_s
    document: dict[str, Any] = {
        "task_id": record.task_id,
        "frame": record.frame,
        "label": record.label,
        "label_index": record.label_index,
        "confidence": record.confidence,
        "outcome": record.outcome.value,
        "reason": record.reason.value,
        "stop_epoch": record.stop_epoch,
        "evidence": record.evidence,
        "exit": record.exit_index,
        "payload": None if record.payload is None else record.payload.value,
        "representation": record.representation,
        "wire_bytes": record.wire_bytes,
        "edge": record.edge_id,
        "sent_on": record.sent_on,
        "degraded": record.degraded,
        "latency_s": record.latency_s,
        "stages_s": asdict(record.stages),
        "energy_joules": record.energy_joules,
        "energy_source": record.energy_source,
        "plan_id": record.plan_id,
        "queue_length": record.queue_length,
        "arrived_s": record.arrived_at_s,
        "started_s": started_at_s,
        "epoch_s": [] if started_at_s is None else [at_s - started_at_s for at_s in record.epoch_times_s],
        "exit_confidences": list(record.exit_confidences),
    }
    if answer is not None and answer.label_index is None and record.outcome.is_answered:
        document["output"] = _output_document(answer)
    return document


def task_line(record: TaskRecord, answer: Answer | None = None) -> str:
    """The object of one task as one line, without its end."""
    return json.dumps(task_document(record, answer), separators=(",", ":"))


def task_record_schema() -> dict[str, Any]:
    """JSON Schema of the object."""
    text = files("device").joinpath("task_record.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _output_document(answer: Answer) -> dict[str, Any]:
    output = np.ascontiguousarray(answer.output)
    little_endian = output.astype(output.dtype.newbyteorder("<"), copy=False)
    return {
        "shape": list(output.shape),
        "dtype": output.dtype.name,
        "base64": base64.b64encode(little_endian.tobytes()).decode("ascii"),
    }
