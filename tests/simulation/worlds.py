"""Small worlds for tests of the simulator."""

from __future__ import annotations

from typing import Any

from benchmarks.scenario import Scenario
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.edge import Work
from benchmarks.simulator.world import Listener, World
from edge.tail_queue import Tail
from twin_service.decision.rules import rule_named
from twinsplit.types import TaskRecord


def scenario_of(**changes: Any) -> Scenario:
    """One device of 0.1 s for the whole network, an edge ten times as fast without other users, 100 kB/s between."""
    values = {
        "device_whole_s": 0.1,
        "edge_whole_s": 0.01,
        "uplink_bytes_per_s": 100_000.0,
        "load_share": 0.0,
        "task_rate_per_s": 5.0,
        "tasks": 500,
    }
    return Scenario(**(values | changes))


class Records(Listener):
    """Keeps what happened."""

    def __init__(self) -> None:
        self.tasks: list[TaskRecord] = []
        self.started: list[tuple[Tail[Work], float]] = []
        self.admitted: list[Tail[Work]] = []

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        self.tasks.append(record)

    def tail_admitted(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        self.admitted.append(tail)

    def tail_started(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        self.started.append((tail, at_s))

    @property
    def waits_s(self) -> list[float]:
        """Of tasks on the device, in the order of arrival."""
        return [task.stages.queue or 0.0 for task in sorted(self.tasks, key=lambda task: task.task_id)]


def world_of(rule: str, scenario: Scenario, *listeners: Listener, seed: int = 1) -> World:
    return World(scenario, seed, ByTable(rule_named(rule)), listeners=listeners)
