"""Whole runs of the testbed: twin, edge, other users and device as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.comparison import Comparison, compared, planned_runs
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.testbed.commands import DEVICE_ID, address
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.process import ServiceEndedError
from benchmarks.testbed.result import RunResult, Snapshot
from benchmarks.testbed.scenarios import DEMO
from benchmarks.testbed.speeds import Speeds, measured_speeds
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow

MAX_MESSAGES_PER_TASK = 3.0
LEAST_MIRROR_ACCURACY = 0.95


class Silent:
    """Watches and says nothing."""

    def begins(self, number: int, count: int, scenario: Scenario) -> None: ...

    def goes_on(self, snapshot: Snapshot) -> None: ...

    def ends(self, result: RunResult) -> None: ...


@pytest.fixture(scope="module")
def speeds() -> Speeds:
    return measured_speeds(DEMO)


@pytest.fixture(scope="module")
def signalling() -> Comparison:
    """The product's rule with plans and, on the same arrivals, asking at every epoch."""
    return compared(planned_runs(changed_scenario(DEMO, seconds=8.0), ["multi-step"], "multi-step"), Silent())


@pytest.mark.alone
def test_signalling_stays_below_three_messages_per_task_and_below_asking_at_every_epoch(signalling: Comparison) -> None:
    planned, polled = signalling.results
    assert planned.summary.tasks == polled.summary.tasks
    assert planned.messages_per_task <= MAX_MESSAGES_PER_TASK, planned.messages_by_kind
    assert planned.messages_per_task < polled.messages_per_task, polled.messages_by_kind
    assert any("poll" in kind for kind in polled.messages_by_kind)
    assert not any("poll" in kind for kind in planned.messages_by_kind)


@pytest.mark.alone
def test_the_twin_knows_the_epoch_at_nearly_every_instant_without_asking(speeds: Speeds) -> None:
    scenario = changed_scenario(DEMO, seconds=8.0, seed=2)
    with LiveRun(scenario, speeds) as run:
        seen = asyncio.run(_read_at_random_instants(run, random.Random(5)))
        result = run.close()
    in_service = [(at_s, epoch, line) for at_s, epoch in seen for line in run.lines if _is_in_service(line, at_s)]
    assert len(in_service) > 30
    is_right = [epoch == _true_epoch(line, at_s) for at_s, epoch, line in in_service]
    assert result.mirror_accuracy is not None
    assert result.mirror_accuracy >= LEAST_MIRROR_ACCURACY
    # What readers saw at random instants is what the twin says of itself, as far as so few instants can tell.
    assert sum(is_right) / len(is_right) == pytest.approx(result.mirror_accuracy, abs=0.1)


async def _read_at_random_instants(run: LiveRun, draw: random.Random) -> list[tuple[float, float | None]]:
    """The epoch that the twin's read API predicts at random instants of the run, without the device being asked."""
    seen: list[tuple[float, float | None]] = []
    async with open_channel(address(run.ports.twin)) as channel:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        for snapshot in run.snapshots():
            # Several reads between two looks at the run.
            while time.monotonic() < run.began_at_s + snapshot.elapsed_s + 0.1:
                await asyncio.sleep(draw.uniform(0.005, 0.03))
                asked_at_s = time.monotonic()
                response = await stub.GetTwin(twin_pb2.GetTwinRequest(device_id=DEVICE_ID))
                answered_at_s = time.monotonic()
                fields = {field.name: field for field in response.twin.fields}
                epoch = fields["epoch"].predicted if fields["epoch"].HasField("predicted") else None
                if answered_at_s - asked_at_s < 0.01:
                    seen.append(((asked_at_s + answered_at_s) / 2.0, epoch))
    return seen


def _is_in_service(line: dict[str, Any], at_s: float) -> bool:
    """Whether the device worked on the task at an instant of its monotonic clock, which is this process's too."""
    if line["started_s"] is None or (line["payload"] is not None and line["outcome"] != "edge"):
        return False  # resumed after a failed offload: the record does not tell its two services apart
    stopped_s = line["epoch_s"][-1] + (line["stages_s"]["encode"] or 0.0)
    return bool(line["started_s"] <= at_s < line["started_s"] + stopped_s)


def _true_epoch(line: dict[str, Any], at_s: float) -> int:
    return sum(line["started_s"] + reached_s <= at_s for reached_s in line["epoch_s"][1:])


def test_tasks_go_on_while_edge_and_twin_are_killed_and_come_back(speeds: Speeds, tmp_path: Path) -> None:
    scenario = changed_scenario(DEMO, rule="edge-only", seconds=12.0, task_rate_per_s=6.0, seed=3, load_share=0.0)
    with LiveRun(scenario, speeds, tmp_path) as run:
        for _ in run.snapshots(until_s=1.5):
            pass
        run.kill("edge")
        for _ in run.snapshots(until_s=2.5):
            pass
        run.restart("edge")
        for _ in run.snapshots(until_s=5.0):
            pass
        run.kill("twin")
        for _ in run.snapshots(until_s=5.8):
            pass
        run.restart("twin")
        for _ in run.snapshots():
            pass
        result = run.close()
        arrivals_s = scenario.arrivals_s()
        ends = [(arrivals_s[line["task_id"] - 1], line) for line in sorted(run.lines, key=lambda line: line["task_id"])]
    summary = result.summary
    # close() has seen to it that every arrival has exactly one outcome and that the device counts the same.
    assert summary.tasks == len(arrivals_s) == sum(summary.outcomes.values())
    assert summary.outcomes["failed"] == 0
    assert Counter(line["task_id"] for _, line in ends).most_common(1)[0][1] == 1
    without_edge = [line for at_s, line in ends if 1.6 <= at_s < 2.5]
    assert without_edge
    assert all(line["outcome"] != "edge" for line in without_edge), "nobody answers there"
    with_edge_again = [line for at_s, line in ends if at_s >= 9.0]
    assert any(line["outcome"] == "edge" for line in with_edge_again), [line["reason"] for line in with_edge_again]
    without_twin = [line for at_s, line in ends if 5.1 <= at_s < 5.8]
    assert without_twin
    assert all(line["outcome"] in ("edge", "device", "exit") for line in without_twin), "the plan stands without a twin"
    assert max(line["plan_id"] for _, line in ends if line["plan_id"]) > min(
        line["plan_id"] for _, line in ends if line["plan_id"]
    )


def test_a_service_that_ends_by_itself_is_said_with_its_last_words(speeds: Speeds) -> None:
    scenario = changed_scenario(DEMO, seconds=1.0, edge_settings=("--no-such-flag=1",))
    with (
        pytest.raises(ServiceEndedError, match=r"edge has ended with exit code 2; .*no-such-flag"),
        LiveRun(scenario, speeds),
    ):
        pass
    assert _our_services() == []


def test_a_signal_to_stop_leaves_nothing_running(speeds: Speeds, tmp_path: Path) -> None:
    scenario = changed_scenario(DEMO, seconds=30.0, load_share=0.0)

    def interrupted() -> None:
        with LiveRun(scenario, speeds, tmp_path) as run:
            assert len(_our_services()) == 3
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in run.snapshots():
                pass

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _our_services() == []


def _our_services() -> list[str]:
    """Command lines of services that are children of this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with psutil.Process(child.pid).oneshot():
            line = child.cmdline()
        if "-m" in line and line[line.index("-m") + 1] in ("twin_service", "edge", "device", "benchmarks.testbed.load"):
            found.append(json.dumps(line))
    return found
