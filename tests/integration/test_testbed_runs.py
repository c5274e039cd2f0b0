"""Whole runs of the testbed: twin, edge, other users and device as real processes."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.process import ServiceEndedError
from benchmarks.testbed.scenarios import DEMO
from benchmarks.testbed.speeds import Speeds, measured_speeds
from tests.alone.test_signalling import MAX_MESSAGES_PER_TASK, SIGNALLED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def speeds() -> Speeds:
    return measured_speeds(DEMO)


def test_asking_at_every_epoch_takes_more_than_three_on_the_same_arrivals(speeds: Speeds) -> None:
    with LiveRun(changed_scenario(SIGNALLED, is_polled=True), speeds) as run:
        for _ in run.snapshots():
            pass
        polled = run.close()
    assert polled.summary.tasks == len(SIGNALLED.arrivals_s())
    assert polled.messages_per_task > MAX_MESSAGES_PER_TASK, polled.messages_by_kind
    assert any("poll" in kind for kind in polled.messages_by_kind)


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
