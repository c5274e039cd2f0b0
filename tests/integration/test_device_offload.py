"""A real device and a real edge: answers, faults, recovery; every task has one outcome."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.device_bench import (
    PATIENCE_S,
    expected_labels,
    running_device,
    running_edge,
    until,
    write_frames,
    write_network,
)
from tests.unit.device.made_up_device import offload_at
from twinsplit.types import Decision, Outcome, Payload, Reason, TaskRecord

pytestmark = pytest.mark.slow

ALWAYS_INPUT = offload_at(1, Decision.OFFLOAD_INPUT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("head") / "1", device_segments=2)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames")).iterdir())


@pytest.fixture(scope="module")
def labels(model: Path, frames: list[Path]) -> dict[str, str | None]:
    return expected_labels(model, frames[0].parent)


@pytest.mark.parametrize("cut", [0, 1, 2])
async def test_answers_by_every_cut_are_the_whole_networks(model, frames, labels, cut):
    async with running_edge(model) as edge, running_device(model) as bench:
        bench.plan(offload_at(cut), edge.address, representation=0)
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {r.frame: r.label for r in records} == labels
    assert {(r.outcome, r.stop_epoch, r.payload) for r in records} == {(Outcome.EDGE, cut, Payload.TENSOR)}
    for record in records:
        stages = record.stages
        parts_s = (stages.compute, stages.encode, stages.upload, stages.edge_queue, stages.edge_compute)
        assert record.latency_s == pytest.approx(stages.queue + sum(parts_s), abs=2e-3)


@pytest.mark.parametrize("representation", [3, 4])
async def test_the_input_goes_as_a_picture_after_an_exit_was_run(model, frames, labels, representation):
    async with running_edge(model) as edge, running_device(model) as bench:
        bench.plan(ALWAYS_INPUT, edge.address, representation=0, input_representations=(representation,) * 4)
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {r.representation for r in records} == {("png", "jpeg90")[representation - 3]}
    assert all(r.exit_confidences[0] is not None for r in records)
    if representation == 3:
        assert {r.frame: r.label for r in records} == labels


async def test_the_backlog_of_answers_and_a_measured_way_reach_the_device(model, frames):
    async with running_edge(model) as edge, running_device(model) as bench:
        bench.plan(offload_at(1), edge.address, backlog_s=7.0)
        await bench.submit(frames)
        await bench.ended(len(frames))
        status = bench.device.status()
    assert status["plan"]["backlog_s"] < 1.0, "the edge's own reading replaced the twin's"
    assert status["tracked"]["goodput_bytes_per_s"] > 0.0
    assert 0.0 < status["tracked"]["round_trip_s"] < 1.0


async def test_an_edge_that_dies_and_comes_back_loses_no_task(model, frames, labels):
    async with running_device(model, answer_timeout_s=PATIENCE_S) as bench:
        async with running_edge(model) as edge:
            address = edge.address
            bench.plan(offload_at(1), address)
            await bench.submit(frames)
            await bench.ended(6)
        await bench.edge_is("open")
        await bench.submit(frames)
        records = await bench.ended(12)
        assert {(r.outcome, r.reason) for r in records[6:]} == {(Outcome.DEVICE, Reason.BREAKER_OPEN)}
        async with running_edge(model, listen=address):
            await bench.edge_is("half-open")
            await bench.submit(frames[:1])
            await bench.ended(13)
            await bench.edge_is("closed")
            await bench.submit(frames)
            records = await bench.ended(19)
    assert [r.outcome for r in records[12:]] == [Outcome.EDGE] * 7
    assert all(r.label == labels[r.frame] for r in records)
    assert sorted(r.task_id for r in records) == list(range(1, 20))


async def test_tasks_under_way_resume_when_the_edge_dies(model, frames, labels):
    """The edge is slow enough for its death to meet them all."""
    async with running_device(model, answer_timeout_s=PATIENCE_S) as bench:
        async with running_edge(model, emulate_slowdown=20000.0) as edge:
            bench.plan(offload_at(1), edge.address)
            await bench.submit(frames)
            await until(lambda: bench.device.status()["edge"]["in_flight"] == len(frames))
        records = await bench.ended(len(frames))
    # An edge that stops refuses what waits there before it goes.
    assert {r.reason for r in records} <= {Reason.EDGE_LOST, Reason.EDGE_REFUSED}
    assert {r.outcome for r in records} == {Outcome.DEVICE}
    assert all(r.degraded and r.label == labels[r.frame] for r in records)


async def test_an_edge_too_slow_is_not_waited_for(model, frames, labels):
    async with (
        running_edge(model, emulate_slowdown=200000.0) as edge,  # of tails of a few microseconds
        running_device(model, answer_timeout_s=0.2) as bench,
    ):
        bench.plan(offload_at(1), edge.address)
        await bench.edge_is("closed")
        await bench.submit(frames[:2])
        records = await bench.ended(2)
    assert {(r.outcome, r.reason) for r in records} <= {
        (Outcome.DEVICE, Reason.EDGE_TOO_LATE),
        (Outcome.DEVICE, Reason.EDGE_REFUSED),  # the edge saw itself that it would be late
    }
    assert all(r.latency_s < PATIENCE_S and r.label == labels[r.frame] for r in records)


async def test_an_edge_without_the_model_refuses_and_the_device_finishes(model, head, frames, labels):
    async with running_edge(head) as edge, running_device(model) as bench:
        bench.plan(offload_at(1), edge.address)
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {r.outcome for r in records} == {Outcome.DEVICE}
    assert Reason.EDGE_REFUSED in {r.reason for r in records}
    assert all(r.label == labels[r.frame] for r in records)


async def test_an_address_where_nobody_listens_costs_nothing_but_the_breaker(model, frames, labels):
    async with running_device(model) as bench:
        bench.plan(offload_at(1), "127.0.0.1:9")
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {r.reason for r in records} <= {Reason.EDGE_LOST, Reason.BREAKER_OPEN}
    assert all(r.label == labels[r.frame] for r in records)


async def test_a_device_with_only_the_head_answers_by_its_exit_when_the_edge_is_gone(head, frames):
    async with running_device(head) as bench:
        bench.plan(offload_at(2), "127.0.0.1:9", exits_run=(False,))
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {(r.outcome, r.reason, r.exit_index) for r in records} == {(Outcome.EXIT, Reason.HEAD_ONLY, 0)}
    assert all(r.degraded for r in records)


async def test_an_emulated_outage_loses_the_connection_and_no_task(model, frames):
    # The first one may be over before the first task, where this machine is busy.
    outages = tuple(f"{at_s:g}+0.5" for at_s in (0.6, 3.0, 6.0, 9.0, 12.0))
    async with (
        running_edge(model) as edge,
        running_device(
            model, edge=edge.address, emulate_uplink_bytes_per_s=1e6, emulate_uplink_outages=outages
        ) as bench,
    ):
        bench.plan(offload_at(1), edge.address)
        await bench.edge_is("closed")

        async def ended_by(is_awaited: Callable[[TaskRecord], bool]) -> None:
            deadline_s = time.monotonic() + PATIENCE_S
            while True:
                await bench.submit(frames[:1])
                record = (await bench.ended(len(bench.records) + 1))[-1]
                assert record.outcome in (Outcome.EDGE, Outcome.DEVICE)
                if is_awaited(record):
                    return
                assert time.monotonic() < deadline_s, Counter(r.reason for r in bench.records)
                await asyncio.sleep(0.03)

        await ended_by(lambda record: record.reason in (Reason.BREAKER_OPEN, Reason.EDGE_LOST))
        await ended_by(lambda record: record.outcome is Outcome.EDGE)


async def test_an_emulated_uplink_is_as_slow_as_told(model, frames):
    async with (
        running_edge(model) as edge,
        running_device(model, emulate_uplink_bytes_per_s=10_000.0, emulate_uplink_delay_s=0.02) as bench,
    ):
        bench.plan(offload_at(1), edge.address, representation=0)  # 1024 bytes
        await bench.edge_is("closed")
        await until(lambda: bench.device.status()["tracked"]["round_trip_s"] is not None)
        # Never faster than told. How much slower is the machine's affair, but not every time.
        told_s = 0.1024 + 0.04
        for _ in range(40):
            await bench.submit(frames[:1])
            record = (await bench.ended(len(bench.records) + 1))[-1]
            tracked = bench.device.status()["tracked"]
            assert record.outcome is Outcome.EDGE
            assert record.stages.upload > 0.95 * told_s
            assert tracked["round_trip_s"] > 0.95 * 0.04
            if (
                len(bench.records) >= 2
                and record.stages.upload < 1.3 * told_s
                and tracked["goodput_bytes_per_s"] == pytest.approx(10_000.0, rel=0.3)
                and tracked["round_trip_s"] < 0.07
            ):
                break
        else:
            raise AssertionError((record.stages, tracked))
        assert bench.device.status()["emulation"]["uplink"]["bytes_per_s"] == 10_000.0


async def test_stopping_gives_every_task_its_outcome(model, frames):
    async with running_edge(model, emulate_slowdown=20000.0) as edge:
        async with running_device(model, drain_s=0.1, answer_timeout_s=PATIENCE_S) as bench:
            bench.plan(offload_at(1), edge.address)
            await bench.submit(frames)
            await until(lambda: bench.device.status()["edge"]["in_flight"] == len(frames))
        summary = bench.device.summary()
    assert summary["entered"] == sum(summary[o.value] for o in Outcome) == len(frames)
    assert {r.reason for r in bench.records} == {Reason.SHUTDOWN}
