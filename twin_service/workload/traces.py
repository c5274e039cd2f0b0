"""Recorded tasks and arrivals as lines of JSON, for export (format: docs/traces.md). Sans-IO."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import zstandard
from pydantic_core import to_json

from twin_service.decision.situation import Situation
from twin_service.documents import Document
from twin_service.memory import Memory
from twin_service.messages import ArrivedTail
from twinsplit.errors import StorageError
from twinsplit.types import Payloads, TaskRecord

_MOST_LINES = 20_000
"""Records that wait to be kept; then new ones are lost and counted."""
_MOST_UNPACKED_BYTES = 64 << 20


FORMAT = "twinsplit-trace"
VERSION = 1
_PLACES = 6
"""Of seconds and joules: the smallest is a microsecond."""


class TraceLog:
    """Records not yet kept.

    Args:
        clock_offset_s: Unix time less the clock of the instants.
    """

    def __init__(self, clock_offset_s: float = 0.0) -> None:
        self.lost = 0
        """Records that could not be kept in time."""
        self._clock_offset_s = clock_offset_s
        self._lines: list[bytes] = []

    def ended(self, device_id: str, model_digest: str, task: TaskRecord, situation: Situation) -> None:
        """A task has ended."""
        self._add(_task_record(device_id, model_digest, task, situation, self._clock_offset_s))

    def arrived(self, edge_id: str, tails: Iterable[ArrivedTail]) -> None:
        """Tails arrived at an edge."""
        for tail in tails:
            record: dict[str, Any] = {
                "kind": "arrival",
                "edge_id": edge_id,
                "at_unix_s": round(tail.at_s + self._clock_offset_s, _PLACES),
                "work_s": round(tail.work_s, _PLACES),
            }
            if tail.device_id:
                record |= {"device_id": tail.device_id, "task_id": tail.task_id}
            self._add(record)

    @property
    def count(self) -> int:
        """Records not yet kept."""
        return len(self._lines)

    def packed(self, limit: int | None = None) -> bytes | None:
        """The oldest ``limit`` records, Zstandard-compressed; ``None``: there are none."""
        return _packed(self._lines[:limit]) if self._lines else None

    def forget(self, limit: int | None = None) -> None:
        """They have been kept."""
        del self._lines[:limit]

    def _add(self, record: dict[str, Any]) -> None:
        if len(self._lines) >= _MOST_LINES:
            self.lost += 1
            return
        self._lines.append(_line(record))


def exported(documents: Iterable[Document], memory: Memory, unix_s: float) -> Iterator[bytes]:
    """A whole export: what it is, all documents, all that was recorded, in batches; ``unix_s``: now."""
    head: list[dict[str, Any]] = [
        {"kind": "header", "format": FORMAT, "version": VERSION, "exported_unix_s": round(unix_s, _PLACES)}
    ]
    head += [{"kind": "document", **json.loads(document.to_json())} for document in documents]
    yield _packed([_line(record) for record in head])
    yield from memory.traces()


def unpacked(data: bytes) -> str:
    """Lines that :meth:`TraceLog.packed` wrote.

    Raises:
        StorageError: they are damaged, or larger than any batch is.
    """
    try:
        # The library bounds only frames that do not say how large they are.
        if zstandard.frame_content_size(data) <= _MOST_UNPACKED_BYTES:
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MOST_UNPACKED_BYTES).decode()
    except (zstandard.ZstdError, UnicodeDecodeError):
        pass
    raise StorageError("a batch of records is damaged, or larger than any that is written; export again")


def _task_record(
    device_id: str, model_digest: str, task: TaskRecord, situation: Situation, clock_offset_s: float
) -> dict[str, Any]:
    """One ended task as the trace format has it; what is not known is left out."""
    stages, weights = task.stages, situation.weights
    found = {
        "kind": "task",
        "device_id": device_id,
        "task_id": task.task_id,
        "model_digest": model_digest,
        "arrived_unix_s": round(task.arrived_at_s + clock_offset_s, _PLACES),
        "wait_s": None if task.started_at_s is None else round(task.started_at_s - task.arrived_at_s, _PLACES),
        "latency_s": round(task.latency_s, _PLACES),
        "outcome": task.outcome.value,
        "reason": task.reason.value,
        "stop_epoch": task.stop_epoch,
        "epoch_s": [round(at_s - task.started_at_s, _PLACES) for at_s in task.epoch_times_s[1:]]
        if task.started_at_s is not None
        else None,
        "exit_confidences": [None if c is None else round(c, _PLACES) for c in task.exit_confidences] or None,
        "exit_agrees": task.exit_agrees,
        "payload": None if task.payload is None else task.payload.value,
        "representation_index": task.representation_index,
        "wire_bytes": task.wire_bytes or None,
        "encode_s": _short_if_known(stages.encode),
        "upload_s": _short_if_known(stages.upload),
        "edge_queue_s": _short_if_known(stages.edge_queue),
        "edge_service_s": _short_if_known(stages.edge_compute),
        "energy_joules": _short_if_known(task.energy_joules),
        "energy_source": task.energy_source,
        "goodput_bytes_per_s": round(situation.goodput_bytes_per_s),
        "round_trip_s": round(situation.overhead_s, _PLACES),
        "device_whole_s": round(_whole_s(situation), _PLACES),
        "edge_whole_s": None if situation.tail_s is None else round(situation.tail_s[0], _PLACES),
        "alpha_s": weights.alpha_s,
        "beta_s_per_joule": weights.beta_s_per_joule,
        "penalty_s": weights.penalty_s,
        "deadline_s": weights.deadline_s,
        "payloads": (Payloads.TENSORS_ONLY if situation.is_tensors_only else Payloads.ANY).value,
    }
    return {name: value for name, value in found.items() if value is not None}


def _whole_s(situation: Situation) -> float:
    """The whole network's time on the device; of one that holds only the head, by its share of multiply-adds."""
    macs = [segment.macs for segment in situation.manifest.segments]
    held = sum(macs[: len(situation.segment_s)])
    return sum(situation.segment_s) * (sum(macs) / held if held else 1.0)


def _line(record: dict[str, Any]) -> bytes:
    return to_json(record) + b"\n"


def _packed(lines: Sequence[bytes]) -> bytes:
    return zstandard.ZstdCompressor().compress(b"".join(lines))


def _short_if_known(value: float | None) -> float | None:
    return None if value is None else round(value, _PLACES)
