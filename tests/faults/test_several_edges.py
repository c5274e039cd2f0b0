"""Two edges as real processes, a twin service and a device under load: edges are killed and come back."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.device_bench import expected_labels, write_frames, write_network
from tests.integration.test_device_process import RunningDevice, arguments
from tests.integration.test_edge_process import EdgeProcess, running_edge
from tests.integration.test_twin_process import TwinProcess, running_twin, twinsplit

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
RATE_PER_S = 40
STOPPED_S = 0.15
"""Time for which an edge takes tasks and answers none before it is killed, so that it is killed with some in flight."""
AT_ONCE = 12
"""Tasks that must be answered by an edge before it is believed to be in use."""


class Site:
    """A twin service, edges by name, and a device that offloads everything to whichever edge its plan names."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.model = write_network(folder / "model" / "1")
        self.frames = write_frames(folder / "frames")
        self.sink = folder / "records.jsonl"
        self.twin: TwinProcess = stack.enter_context(running_twin(folder / "state", "--rule", "edge-only"))
        self.edges: dict[str, EdgeProcess] = {}
        self._stack = stack
        self._seen = 0
        for name in ("left", "right"):
            self.start_edge(name)
        source = ("--source", f"frames:{self.frames}", "--arrivals", f"poisson:{RATE_PER_S}", "--sink", self.sink)
        command = arguments(self.model, *source, "--twin", self.twin.address, "--id", "cam")
        self.device = RunningDevice(command, folder / "device.log")
        stack.callback(self.device.process.kill)

    def start_edge(self, name: str) -> None:
        """An edge on another port than any before it."""
        self.edges[name] = self._stack.enter_context(
            running_edge(self.model, "--id", name, "--twin", self.twin.address)
        )

    def kill(self, name: str) -> None:
        """End an edge without a word, with tasks in flight."""
        process = self.edges[name].process
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        process.kill()
        process.wait()

    def records(self) -> list[dict[str, Any]]:
        lines = self.sink.read_bytes().splitlines(keepends=True) if self.sink.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def answers_of(self, name: str) -> int:
        """Answers of that edge since :meth:`from_now`."""
        return sum(r["outcome"] == "edge" and r["edge"] == name for r in self.records()[self._seen :])

    def from_now(self) -> None:
        self._seen = len(self.records())

    def until_used(self, name: str) -> None:
        until(lambda: self.answers_of(name) >= AT_ONCE, f"{name} in use")

    def status(self) -> dict[str, Any]:
        done = twinsplit("device", "status", self.device.address, "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_edges_are_killed_under_load_and_nothing_is_lost(site: Site) -> None:
    until(lambda: any(r["outcome"] == "edge" for r in site.records()), "an edge in use")
    first = next(r["edge"] for r in site.records() if r["outcome"] == "edge")
    second = {"left": "right", "right": "left"}[first]
    until(lambda: sum(edge["is_connected"] for edge in site.status()["edges"]) == 2, "both edges connected")
    shown = {edge["edge"]: edge for edge in site.status()["edges"]}
    assert shown[first]["is_used"]
    assert shown[first]["goodput_bytes_per_s"] > 0.0
    assert shown[second]["round_trip_s"] > 0.0

    site.from_now()
    site.kill(first)
    site.until_used(second)
    until(lambda: [edge["edge"] for edge in site.status()["edges"]] == [second], "the list without the one killed")

    site.start_edge(first)
    until(lambda: {edge["edge"] for edge in site.status()["edges"] if edge["is_connected"]} == {first, second}, "both")
    site.from_now()
    site.kill(second)
    site.until_used(first)

    code, _ = site.device.stop()
    records = site.records()
    assert code == 0
    assert sorted(r["task_id"] for r in records) == list(range(1, len(records) + 1)), "one outcome for every task"
    outcomes = Counter(r["outcome"] for r in records)
    assert set(outcomes) <= {"edge", "device"}, outcomes
    assert sum(r["sent_on"] for r in records) > 0, "an edge was killed with tasks in flight"
    assert all(r["outcome"] == "edge" for r in records if r["sent_on"] and r["reason"] == "offload-pays")
    labels = expected_labels(site.model, site.frames)
    assert all(r["label"] == labels[r["frame"]] for r in records)
    assert "twinsplit_plan_revisions_total" in site.twin.get("/metrics")
