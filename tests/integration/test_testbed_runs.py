"""Whole runs of the testbed: twin, edge, other users and device as real processes."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.testbed.commands import STATE_NAME
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.process import ServiceEndedError, sample
from benchmarks.testbed.result import RunResult
from benchmarks.testbed.scenarios import DEMO
from benchmarks.testbed.speeds import Speeds, measured_speeds
from tests.alone.test_signalling import MAX_MESSAGES_PER_TASK, SIGNALLED
from twin_service.store.sqlite import SqliteStore
from twin_service.workload.replayed import Replayed
from twinsplit.types import Decision

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDING_S = 1e-5
"""Messages have seconds as doubles, replays as single floats, which tell microseconds apart up to 8 s."""
MOST_APART = 0.75
"""Waits that are told and measured, 0: alike, 1: unlike; an edge that takes twice as long as predicted makes 0.5."""


@pytest.fixture(scope="module")
def speeds() -> Speeds:
    return measured_speeds(DEMO)


@dataclass(frozen=True)
class Polled:
    """A run that asks at every epoch, and what the twin made of it."""

    result: RunResult
    lines: dict[int, dict[str, Any]]
    """What happened, by task."""
    replayed: list[Replayed]


@pytest.fixture(scope="module")
def polled_run(speeds: Speeds, tmp_path_factory: pytest.TempPathFactory) -> Polled:
    folder = tmp_path_factory.mktemp("polled")
    with LiveRun(changed_scenario(SIGNALLED, is_polled=True), speeds, folder) as run:
        for _ in run.snapshots():
            pass
        while sample(run.service("twin").metrics(), "twinsplit_replays_waiting") != 0.0:
            run.look()
            time.sleep(0.2)
        result, lines = run.close(), {line["task_id"]: line for line in run.lines}
    with closing(SqliteStore(folder / STATE_NAME)) as store:
        return Polled(result, lines, store.replay(result.model_digest, len(lines)))


def test_asking_at_every_epoch_takes_more_than_three_on_the_same_arrivals(polled_run: Polled) -> None:
    polled = polled_run.result
    assert polled.summary.tasks == len(SIGNALLED.arrivals_s())
    assert polled.messages_per_task > MAX_MESSAGES_PER_TASK, polled.messages_by_kind
    assert any("poll" in kind for kind in polled.messages_by_kind)


def test_the_counterfactual_of_what_was_done_is_what_happened(polled_run: Polled) -> None:
    """But for the wait at the edge all of it is told by one clock, the device's: nothing but rounding differs."""
    offloads = [task for task in polled_run.replayed if task.taken.is_offload]
    assert len(polled_run.replayed) > len(polled_run.lines) / 2
    assert offloads
    for task in polled_run.replayed:
        line = polled_run.lines[task.task_id]
        assert (task.taken_epoch, task.taken) == (line["stop_epoch"], taken(line)), line
        assert task.waited_s == pytest.approx(line["started_s"] - line["arrived_s"], abs=ROUNDING_S)
        assert task.reached_s[: task.taken_epoch + 1] == pytest.approx(line["epoch_s"], abs=ROUNDING_S)
    for task in offloads:
        stages_s = polled_run.lines[task.task_id]["stages_s"]
        assert task.conditions is not None
        # Its way there and back is never taken for shorter than the round trip.
        upload_s = max(stages_s["upload"], task.conditions.overhead_s)
        on_the_way_s = stages_s["encode"] + upload_s + stages_s["edge_compute"]
        place = task.taken_epoch, task.taken - Decision.OFFLOAD_TENSOR
        assert task.latency_s[place] - task.edge_wait_s[place] == pytest.approx(on_the_way_s, abs=ROUNDING_S)


def test_the_wait_at_the_edge_is_reckoned_from_what_others_sent_there(polled_run: Polled) -> None:
    """By two clocks and predicted service times; of tasks that found a job and more before them."""
    apart_s = largest_s = 0.0
    for task in polled_run.replayed:
        stages_s = polled_run.lines[task.task_id]["stages_s"]
        if task.taken.is_offload and stages_s["edge_queue"] > stages_s["edge_compute"]:
            reckoned_s = float(task.edge_wait_s[task.taken_epoch, task.taken - Decision.OFFLOAD_TENSOR])
            apart_s += abs(reckoned_s - stages_s["edge_queue"])
            largest_s += max(reckoned_s, stages_s["edge_queue"])
    assert apart_s <= MOST_APART * largest_s


def taken(line: dict[str, Any]) -> Decision:
    """What a line of the sink says that the task did."""
    if line["outcome"] == "edge":
        return Decision.OFFLOAD_TENSOR if line["payload"] == "tensor" else Decision.OFFLOAD_INPUT
    return Decision.EXIT if line["outcome"] == "exit" else Decision.CONTINUE


def test_tasks_go_on_while_edge_and_twin_are_killed_and_come_back(speeds: Speeds, tmp_path: Path) -> None:
    scenario = changed_scenario(DEMO, rule="edge-only", seconds=14.0, task_rate_per_s=6.0, seed=3, load_share=0.0)
    with LiveRun(scenario, speeds, tmp_path) as run:
        follow(run, 1.5, lambda: True)
        run.kill("edge")
        edge_killed_s = time.monotonic()
        follow(run, 2.5, lambda: bool(within(run, edge_killed_s)))
        edge_restarted_s = time.monotonic()
        run.restart("edge")
        follow(run, 5.0, lambda: any(line["outcome"] == "edge" for line in within(run, edge_restarted_s)))
        run.kill("twin")
        twin_killed_s = time.monotonic()
        follow(run, 5.8, lambda: bool(within(run, twin_killed_s)))
        twin_restarted_s = time.monotonic()
        run.restart("twin")
        for _ in run.snapshots():
            pass
        result = run.close()
        without_edge = within(run, edge_killed_s, edge_restarted_s)
        with_edge_again = within(run, edge_restarted_s)
        without_twin = within(run, twin_killed_s, twin_restarted_s)
        plan_ids = [line["plan_id"] for line in run.lines if line["plan_id"]]
        task_ids = Counter(line["task_id"] for line in run.lines)
    summary = result.summary
    # close() has seen to it that every arrival has exactly one outcome and that the device counts the same.
    assert summary.tasks == len(scenario.arrivals_s()) == sum(summary.outcomes.values())
    assert summary.outcomes["failed"] == 0
    assert task_ids.most_common(1)[0][1] == 1
    assert without_edge
    assert all(line["outcome"] != "edge" for line in without_edge), "nobody answers there"
    assert any(line["outcome"] == "edge" for line in with_edge_again), [line["reason"] for line in with_edge_again]
    assert without_twin
    assert all(line["outcome"] in ("edge", "device", "exit") for line in without_twin), "the plan stands without a twin"
    assert max(plan_ids) > min(plan_ids)


def follow(run: LiveRun, until_s: float, has_come: Callable[[], bool]) -> None:
    """Go on for so long, and longer where the machine is slow: until what is waited for has come."""
    for snapshot in run.snapshots():
        if snapshot.elapsed_s >= until_s and has_come():
            return


def within(run: LiveRun, from_s: float, to_s: float = math.inf) -> list[dict[str, Any]]:
    """Tasks that were begun and ended between two instants of the monotonic clock, which the device shares."""
    return [
        line
        for line in run.lines
        if line["started_s"] is not None
        and from_s <= line["started_s"]
        and line["arrived_s"] + line["latency_s"] <= to_s
    ]


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
