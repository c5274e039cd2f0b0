"""A twin service over gRPC replays what devices and edges tell it, keeps that, and gives it away as traces."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.device_bench import until
from tests.integration.test_twin_streams import attached_device, attached_edge, backlog_report, running
from tests.unit.twin_service.made_up_twins import DIGEST
from twin_service.cli import twin as twin_command
from twin_service.service import TwinService
from twin_service.store.sqlite import SqliteStore
from twin_service.workload.replayed import TENSOR
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.channel import open_channel

STATE = twin_pb2.DeviceState(goodput_bytes_per_s=1e5, round_trip_s=0.002, is_edge_reachable=True, entered=1)


OTHERS_WORK_S, OTHERS_LEAD_S = 1.25, 0.25
"""Somebody else's tail at the edge, and how long before the task's own it arrived."""
WAIT_S = OTHERS_WORK_S - OTHERS_LEAD_S


def offloaded() -> twin_pb2.TaskReport:
    """Started 2 s ago, offloaded after 110 ms, met a second of work at the edge, answered."""
    task = twin_pb2.EndedTask(
        task_id=1,
        outcome=twin_pb2.OUTCOME_EDGE,
        reason="offload-pays",
        arrived_age_s=2.0,
        started_age_s=2.0,
        ended_age_s=2.0 - (0.11 + 0.001 + 0.012 + WAIT_S + 0.02),
        epoch_s=[0.11],
        stop_epoch=1,
        evidence=1,
        payload=twin_pb2.PAYLOAD_TENSOR,
        wire_bytes=1000,
        encode_s=0.001,
        upload_s=0.012,
        edge_queue_s=WAIT_S,
        edge_service_s=0.02,
        exit_confidence=[0.2],
        confidence=0.8,
    )
    return twin_pb2.TaskReport(ended=[task], state=STATE)


def arrivals() -> twin_pb2.ArrivalLog:
    """Somebody else's work before the task's own tail, which arrived 122 ms after its start."""
    own_age_s = 2.0 - 0.122
    return twin_pb2.ArrivalLog(
        age_s=[own_age_s + OTHERS_LEAD_S, own_age_s],
        work_s=[OTHERS_WORK_S, 0.02],
        device=[0, 1],
        task_id=[0, 1],
        device_ids=["cam"],
    )


async def told(twin: TwinService) -> None:
    """A device and its edge tell of one task."""
    async with open_channel(twin.address) as channel:
        edge = await attached_edge(channel)
        device, _ = await attached_device(channel)
        report = backlog_report(0.0)
        report.arrivals.CopyFrom(arrivals())
        await device.say(task=offloaded())
        await edge.say(backlog=report)
        await device.say(heartbeat=twin_pb2.DeviceHeartbeat(state=STATE))
        await until(lambda: twin.exchange.core.workload.replayed == 1)


async def test_a_task_is_replayed_and_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as twin:
        await told(twin)
        assert twin.exchange.core.workload.share(twin.exchange.now_s()) > 0.0
    with closing(SqliteStore(tmp_path)) as store:
        (task,) = store.replay(DIGEST, 9)
    assert (task.device_id, task.task_id, task.taken_epoch) == ("cam", 1, 1)
    # Both count their ages back from messages that come some milliseconds apart, on a busy machine more.
    assert task.edge_wait_s[1, TENSOR] == pytest.approx(WAIT_S, abs=WAIT_S / 2.0)
    assert task.reached_s[1] + task.latency_s[1, TENSOR] == pytest.approx(0.143 + WAIT_S, abs=WAIT_S / 2.0)


async def test_where_replay_is_switched_off_nothing_is_replayed(tmp_path: Path) -> None:
    async with running(tmp_path, replay_share=0.0) as twin, open_channel(twin.address) as channel:
        device, _ = await attached_device(channel)
        await device.say(task=offloaded())
        await until(lambda: twin.exchange.core.workload.left_out == {"sampled": 1})


async def test_documents_and_tasks_are_exported_while_the_service_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with running(tmp_path / "state") as twin:
        await told(twin)
        arguments = ["export", str(out), "--twin", twin.address]
        result = await asyncio.to_thread(CliRunner().invoke, twin_command, arguments)
        assert result.exit_code == 0, result.output
        assert result.output == f"{out}: 1 documents, 1 tasks, 2 arrivals at edges, 1 scenarios\n"
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert sorted(record["kind"] for record in records) == ["arrival", "arrival", "document", "header", "task"]
    assert (out / "scenario-cam.yaml").exists()


async def test_a_service_that_does_not_record_exports_documents_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with running(tmp_path / "state", record=False) as twin:
        await told(twin)
        arguments = ["export", str(out), "--twin", twin.address]
        result = await asyncio.to_thread(CliRunner().invoke, twin_command, arguments)
        assert result.output == f"{out}: 1 documents, 0 tasks, 0 arrivals at edges, 0 scenarios\n"
