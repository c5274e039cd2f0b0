"""Two edges as real processes, a twin service and a device under load: edges are killed and come back."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.integration.device_bench import expected_labels, write_frames, write_network
from tests.integration.test_device_process import RunningDevice, arguments
from tests.integration.test_edge_process import EdgeProcess, running_edge
from tests.integration.test_twin_process import TwinProcess, running_twin, twinsplit

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
RATE_PER_S = 40
IN_FLIGHT = 4
"""An edge that is to be killed takes tasks and answers none until so many are in flight, of 8 that may be."""
QUEUE_CAPACITY = 4096
"""No task is dropped, however long the machine is busy with other work."""
AT_ONCE = 12
"""Tasks that must be answered by an edge before it is believed to be in use."""


_Found = TypeVar("_Found")


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
        capacity = ("--queue-capacity", QUEUE_CAPACITY)
        command = arguments(self.model, *source, "--twin", self.twin.address, "--id", "cam", *capacity)
        self.device = RunningDevice(command, folder / "device.log")
        stack.callback(self.device.process.kill)

    def start_edge(self, name: str) -> None:
        """An edge on another port than any before it."""
        self.edges[name] = self._stack.enter_context(
            running_edge(self.model, "--id", name, "--twin", self.twin.address)
        )

    def kill_the_used_one(self) -> str:
        """End the edge in use without a word, with tasks in flight; its name."""
        (name,) = until(self.used, "an edge in use")
        process = self.edges[name].process
        process.send_signal(signal.SIGSTOP)
        until(lambda: self.in_flight() >= IN_FLIGHT, "tasks in flight")
        process.kill()
        process.wait()
        return name

    def in_flight(self) -> int:
        with urllib.request.urlopen(f"http://{self.device.http_address}/metrics", timeout=10.0) as answer:
            found = re.search(r"^twinsplit_uploads_in_flight (\S+)$", answer.read().decode(), re.MULTILINE)
        return 0 if found is None else int(float(found[1]))

    def used(self) -> list[str]:
        """The edge to which the device offloads now, if there is one."""
        return [edge["edge"] for edge in self.status()["edges"] if edge["is_used"]]

    def connected(self) -> set[str]:
        """Edges that answer the device."""
        return {edge["edge"] for edge in self.status()["edges"] if edge["is_connected"]}

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


def until(look: Callable[[], _Found], what: str) -> _Found:
    """What ``look`` finds as soon as it is true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_edges_are_killed_under_load_and_nothing_is_lost(site: Site) -> None:
    until(lambda: any(r["outcome"] == "edge" for r in site.records()), "an edge in use")
    until(lambda: site.connected() == set(site.edges), "both edges connected")
    until(site.used, "one of them in use")
    shown = site.status()["edges"]
    assert any((edge["goodput_bytes_per_s"] or 0.0) > 0.0 for edge in shown)
    assert all(edge["round_trip_s"] > 0.0 for edge in shown)

    site.from_now()
    first = site.kill_the_used_one()
    second = {"left": "right", "right": "left"}[first]
    site.until_used(second)
    until(lambda: [edge["edge"] for edge in site.status()["edges"]] == [second], "the list without the one killed")

    site.start_edge(first)
    until(lambda: site.connected() == set(site.edges), "both edges connected again")
    site.from_now()
    killed = site.kill_the_used_one()
    site.until_used({"left": "right", "right": "left"}[killed])

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
