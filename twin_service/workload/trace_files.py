"""An export on disk: all records as they came, and for every device what the simulator runs it from.

``records.jsonl`` has every record. For each device there is a scenario with its own arrivals, the rate of its uplink
and the load that it met at its edge: the tails of everybody else there (format: docs/traces.md).
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, pstdev
from typing import Any

from twin_service.workload.traces import FORMAT, VERSION
from twinsplit.errors import StorageError
from twinsplit.types import Payloads

RECORDS = "records.jsonl"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_MOST = 1e15
_WEIGHTS = ("alpha_s", "beta_s_per_joule", "penalty_s", "deadline_s")
_RATE_SHARE = 0.02
"""A goodput that has moved by less is the same."""


@dataclass(slots=True)
class _Device:
    arrived_at_s: list[float] = field(default_factory=list)
    goodput: list[tuple[float, float]] = field(default_factory=list)
    round_trip_s: list[float] = field(default_factory=list)
    device_whole_s: list[float] = field(default_factory=list)
    edge_whole_s: list[float] = field(default_factory=list)
    model_digest: str = ""
    wishes: dict[str, float | str] = field(default_factory=dict)
    """Its weights, deadline and payloads when its last task ended, by key of a scenario."""
    tails: Counter[str] = field(default_factory=Counter)
    """Own tails by edge."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds."""

    folder: Path
    documents: int
    tasks: int
    arrivals: int
    devices: int
    """With a scenario of their own."""


class TraceFiles:
    """Writes an export into a folder, which is made if it is missing; a context manager.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: Counter[str] = Counter()
        self._devices: defaultdict[str, _Device] = defaultdict(_Device)
        self._loads: defaultdict[str, list[tuple[float, float, str]]] = defaultdict(list)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records = (folder / RECORDS).open("w", encoding="utf-8")
        except OSError as error:
            raise _unwritten(folder, error) from None

    def __enter__(self) -> TraceFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._records.close()

    def add(self, lines: str) -> None:
        """Write a batch of records.

        Raises:
            StorageError: they cannot be written, cannot be read, or are of another version.
        """
        try:
            self._records.write(lines)
        except OSError as error:
            raise _unwritten(self._folder, error) from None
        try:
            for line in lines.splitlines():
                self._note(json.loads(line))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise StorageError("a record of the export cannot be read; export again") from None

    def finish(self) -> Exported:
        """All records have been added: write the traces of all devices.

        Raises:
            StorageError: they cannot be written.
        """
        try:
            self._records.close()
            written = sum(self._write_device(name, device) for name, device in sorted(self._devices.items()))
        except OSError as error:
            raise _unwritten(self._folder, error) from None
        counts = self._counts
        return Exported(self._folder, counts["document"], counts["task"], counts["arrival"], written)

    def _note(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        self._counts[kind] += 1
        if kind == "header" and (record["format"], record["version"]) != (FORMAT, VERSION):
            raise StorageError(
                f"the records are {record['format']} {record['version']}, this build reads {FORMAT} {VERSION}; export "
                "with the version of twinsplit that the twin service has"
            )
        if kind == "task":
            self._note_task(record)
        elif kind == "arrival":
            owner = record.get("device_id", "")
            edge_id = _text(record, "edge_id")
            self._loads[edge_id].append((_seconds(record, "at_unix_s"), _seconds(record, "work_s"), owner))
            if owner:
                self._devices[_file_part(record, "device_id")].tails[edge_id] += 1

    def _note_task(self, record: dict[str, Any]) -> None:
        device = self._devices[_file_part(record, "device_id")]
        device.model_digest = _text(record, "model_digest")
        arrived_at_s = _seconds(record, "arrived_unix_s")
        device.arrived_at_s.append(arrived_at_s)
        device.goodput.append((arrived_at_s, _seconds(record, "goodput_bytes_per_s")))
        for name in ("round_trip_s", "device_whole_s", "edge_whole_s"):
            if name in record:
                getattr(device, name).append(_seconds(record, name))
        device.wishes = {name: _seconds(record, name) for name in _WEIGHTS if name in record}
        if "payloads" in record:
            device.wishes["payloads"] = Payloads(record["payloads"]).value

    def _write_device(self, name: str, device: _Device) -> bool:
        """Whether there is enough for a scenario."""
        if not device.arrived_at_s:
            return False
        edge_id = max(device.tails, key=lambda edge: device.tails[edge], default=next(iter(self._loads), ""))
        load = sorted((at_s, work_s) for at_s, work_s, owner in self._loads.get(edge_id, ()) if owner != name)
        arrived_at_s = sorted(device.arrived_at_s)
        begin_s = min([arrived_at_s[0], *(at_s for at_s, _ in load[:1])])
        arrivals = f"arrivals-{name}.txt"
        keys: dict[str, Any] = {
            "arrivals": "trace",
            "arrival_trace": arrivals,
            "tasks": len(arrived_at_s),
            "device_whole_s": _middle(device.device_whole_s, 0.1),
            "edge_whole_s": _middle(device.edge_whole_s, 0.01),
            "uplink_delay_s": _middle(device.round_trip_s, 0.0) / 2.0,
            "warm_up_s": 0.0,
            "model_digest": json.dumps(device.model_digest),
            **device.wishes,
        }
        self._write_columns(arrivals, ((at_s - begin_s,) for at_s in arrived_at_s))
        keys |= self._uplink_keys(name, sorted(device.goodput), begin_s) | self._load_keys(name, load, begin_s)
        text = "".join(f"{key}: {_number(value)}\n" for key, value in keys.items())
        head = f"# {name} as it was recorded. If its model is not the one that ships, add `model: FOLDER`.\n"
        (self._folder / f"scenario-{name}.yaml").write_text(head + text, encoding="utf-8")
        return True

    def _uplink_keys(self, name: str, goodput: list[tuple[float, float]], begin_s: float) -> dict[str, Any]:
        changes = [(0.0, goodput[0][1])]
        for at_s, rate in goodput:
            if abs(rate - changes[-1][1]) > _RATE_SHARE * changes[-1][1] and at_s - begin_s > changes[-1][0]:
                changes.append((at_s - begin_s, rate))
        end_s = goodput[-1][0] - begin_s + 1.0
        if len(changes) == 1:
            return {"uplink_bytes_per_s": changes[0][1]}
        self._write_columns(f"uplink-{name}.csv", [*changes, (end_s, changes[-1][1])])
        return {"uplink": "trace", "uplink_trace": f"uplink-{name}.csv"}

    def _load_keys(self, name: str, load: list[tuple[float, float]], begin_s: float) -> dict[str, Any]:
        if not load:
            return {"load_share": 0.0}
        self._write_columns(f"load-{name}.txt", ((at_s - begin_s, work_s) for at_s, work_s in load))
        work_s = [each_s for _, each_s in load]
        mean_s = sum(work_s) / len(work_s)
        variation = pstdev(work_s) / mean_s if mean_s else 0.0
        return {
            "load_pattern": "trace",
            "load_trace": f"load-{name}.txt",
            "load_share": sum(work_s) / max(load[-1][0] - begin_s, 1.0),
            "load_mean_s": max(mean_s, 1e-6),
            "load_sizes": "fixed" if variation < 0.5 else "exponential" if variation < 1.5 else "heavy",
        }

    def _write_columns(self, name: str, rows: Iterable[tuple[float, ...]]) -> None:
        lines = (",".join(f"{value:.6f}" for value in row) for row in rows)
        (self._folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _seconds(record: dict[str, Any], key: str) -> float:
    """A number of a record that can be reckoned with."""
    value = record[key]
    if not isinstance(value, int | float) or not -_MOST < value < _MOST:
        raise ValueError(key)
    return float(value)


def _text(record: dict[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(key)
    return value


def _file_part(record: dict[str, Any], key: str) -> str:
    """A name of which a file's name is made: it must not lead elsewhere."""
    value = record[key]
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(key)
    return value


def _middle(values: list[float], otherwise: float) -> float:
    return median(values) if values else otherwise


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _unwritten(folder: Path, error: OSError) -> StorageError:
    reason = error.strerror or os.strerror(error.errno or 0)
    return StorageError(f"{folder}: cannot be written ({reason}); name another folder or free some space")
