"""Records of tasks and arrivals, and the files that are made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from tests.unit.twin_service.made_up_twins import manifest_bytes
from tests.unit.workload.test_replay import OFFLOADED, SITUATION, TO_THE_END
from twin_service.documents import Document
from twin_service.memory import VolatileMemory
from twin_service.messages import ArrivedTail
from twin_service.workload import traces
from twin_service.workload.trace_files import Exported, TraceFiles
from twin_service.workload.traces import TraceLog, exported, unpacked
from twinsplit.errors import StorageError
from twinsplit.model.manifest import parse_manifest


def log_of_two_tasks() -> TraceLog:
    log = TraceLog(clock_offset_s=1e9)
    log.ended("cam", "ab", TO_THE_END, SITUATION)
    log.ended("cam", "ab", replace(OFFLOADED, task_id=6), replace(SITUATION, goodput_bytes_per_s=5e4))
    tails = (
        ArrivedTail(99.5, 0.02),
        ArrivedTail(100.0, 0.5),
        ArrivedTail(100.1, 0.03, "cam", 6),
        ArrivedTail(100.2, 0.02, "dock", 1),
    )
    log.arrived("edge", tails)
    return log


def records_of(log: TraceLog) -> list[dict[str, Any]]:
    packed = log.packed()
    assert packed is not None
    return [json.loads(line) for line in unpacked(packed).splitlines()]


def test_a_task_is_recorded_with_all_that_is_known_and_nothing_else() -> None:
    whole, sent, *_ = records_of(log_of_two_tasks())
    assert whole == {
        "kind": "task",
        "device_id": "cam",
        "task_id": 5,
        "model_digest": "ab",
        "arrived_unix_s": 1e9 + 99.95,
        "wait_s": 0.05,
        "latency_s": 0.38,
        "outcome": "device",
        "reason": "not-worth-it",
        "stop_epoch": 3,
        "epoch_s": [0.115, 0.22, 0.33],
        "exit_confidences": [0.9],
        "goodput_bytes_per_s": 100_000,
        "round_trip_s": 0.002,
        "device_whole_s": 0.3,
        "edge_whole_s": 0.03,
        "alpha_s": SITUATION.weights.alpha_s,
        "beta_s_per_joule": SITUATION.weights.beta_s_per_joule,
        "payloads": "any",
    }
    assert sent.items() >= {"payload": "tensor", "wire_bytes": 3000, "upload_s": 0.052, "edge_queue_s": 0.05}.items()


def test_of_a_device_that_holds_only_the_head_the_whole_network_is_told_by_multiply_adds() -> None:
    head = replace(SITUATION, manifest=parse_manifest(manifest_bytes(device_segments=2)), segment_s=(0.1, 0.2))
    log = TraceLog(clock_offset_s=1e9)
    log.ended("cam", "ab", TO_THE_END, head)
    (record,) = records_of(log)
    assert record["device_whole_s"] == pytest.approx(0.45), "three segments of one multiply-add each"


def test_arrivals_are_recorded_with_their_owner_where_it_is_known() -> None:
    *_, others, own, _ = records_of(log_of_two_tasks())
    assert others == {"kind": "arrival", "edge_id": "edge", "at_unix_s": 1e9 + 100.0, "work_s": 0.5}
    assert own.items() >= {"device_id": "cam", "task_id": 6}.items()


def test_what_is_kept_is_forgotten_and_what_cannot_be_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of_two_tasks()
    log.forget()
    assert log.packed() is None
    monkeypatch.setattr(traces, "_MOST_LINES", 3)
    log.arrived("edge", [ArrivedTail(float(n), 0.1) for n in range(5)])
    assert len(records_of(log)) == 3
    assert log.lost == 2


def written(folder: Path, log: TraceLog) -> Exported:
    memory = VolatileMemory()
    packed = log.packed()
    assert packed is not None
    memory.keep_trace(packed)
    with TraceFiles(folder) as files:
        for batch in exported([Document("cam")], memory, 2e9):
            files.add(unpacked(batch))
        return files.finish()


def test_an_export_has_all_records_and_a_scenario_per_device(tmp_path: Path) -> None:
    found = written(tmp_path / "out", log_of_two_tasks())
    assert found == Exported(tmp_path / "out", documents=1, tasks=2, arrivals=4, devices=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "document", "task", "task", *["arrival"] * 4]
    assert lines[0] == {"kind": "header", "format": "twinsplit-trace", "version": 1, "exported_unix_s": 2e9}
    assert lines[1]["device_id"] == "cam"


def test_offsets_of_a_device_count_from_the_first_arrival_anywhere(tmp_path: Path) -> None:
    written(tmp_path, log_of_two_tasks())
    assert (tmp_path / "arrivals-cam.txt").read_text() == "0.450000\n0.450000\n"
    # Its own tail is no load.
    assert (tmp_path / "load-cam.txt").read_text() == "0.000000,0.020000\n0.500000,0.500000\n0.700000,0.020000\n"
    assert not (tmp_path / "scenario-dock.yaml").exists()


def test_a_device_whose_edge_told_nothing_meets_no_load(tmp_path: Path) -> None:
    log = TraceLog()
    log.ended("cam", "ab", TO_THE_END, SITUATION)
    written(tmp_path, log)
    assert "load_share: 0" in (tmp_path / "scenario-cam.yaml").read_text()
    assert "uplink_bytes_per_s: 100000" in (tmp_path / "scenario-cam.yaml").read_text()


def test_what_is_wished_of_a_device_is_that_of_its_last_task(tmp_path: Path) -> None:
    log = TraceLog()
    log.ended("cam", "ab", TO_THE_END, SITUATION)
    wished = replace(SITUATION.weights, alpha_s=1.5, beta_s_per_joule=0.25, penalty_s=4.0, deadline_s=0.5)
    log.ended("cam", "ab", replace(OFFLOADED, task_id=6), replace(SITUATION, weights=wished, is_tensors_only=True))
    written(tmp_path, log)
    found = yaml.safe_load((tmp_path / "scenario-cam.yaml").read_text())
    assert (
        found.items()
        >= {
            "alpha_s": 1.5,
            "beta_s_per_joule": 0.25,
            "penalty_s": 4.0,
            "deadline_s": 0.5,
            "payloads": "tensors-only",
            "model_digest": "ab",
        }.items()
    )


def test_records_that_do_not_say_what_is_wished_leave_it_to_the_scenario(tmp_path: Path) -> None:
    with TraceFiles(tmp_path) as files:
        files.add(json.dumps(TASK))
        files.finish()
    found = yaml.safe_load((tmp_path / "scenario-cam.yaml").read_text())
    assert not found.keys() & {"alpha_s", "beta_s_per_joule", "penalty_s", "deadline_s", "payloads"}


def test_records_of_another_version_are_refused(tmp_path: Path) -> None:
    with TraceFiles(tmp_path) as files, pytest.raises(StorageError, match="twinsplit-trace 2"):
        files.add('{"kind":"header","format":"twinsplit-trace","version":2,"exported_unix_s":0}\n')


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="name another folder"):
        TraceFiles(tmp_path / "file")


TASK = {"kind": "task", "device_id": "cam", "model_digest": "ab", "arrived_unix_s": 1.0, "goodput_bytes_per_s": 1e6}


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "task"},
        [],
        TASK | {"device_id": "../../cam"},
        TASK | {"device_id": 7},
        TASK | {"arrived_unix_s": "soon"},
        TASK | {"goodput_bytes_per_s": float("nan")},
        TASK | {"model_digest": "ab\nmodel: elsewhere"},
        TASK | {"payloads": "frames"},
        TASK | {"alpha_s": "much"},
    ],
)
def test_records_that_cannot_be_are_refused_and_no_file_is_written_elsewhere(tmp_path: Path, record: object) -> None:
    with TraceFiles(tmp_path / "a" / "b") as files, pytest.raises(StorageError, match="cannot be read"):
        files.add(json.dumps(record))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["records.jsonl"]


@pytest.mark.parametrize("data", [b"", b"no frame", zstandard.compress(b"\xff"), zstandard.compress(b"{}")[:-2]])
def test_a_damaged_batch_is_refused(data: bytes) -> None:
    with pytest.raises(StorageError, match="damaged"):
        unpacked(data)
