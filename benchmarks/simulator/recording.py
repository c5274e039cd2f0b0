"""The workload twin of a simulated world: every task that ended, under all its decisions."""

from __future__ import annotations

from collections import deque

import numpy as np

from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.edge import Work
from benchmarks.simulator.world import Listener
from edge.tail_queue import Tail
from twin_service.decision.situation import Situation
from twin_service.messages import ArrivedTail
from twin_service.workload.device_time_line import DeviceTimeLine
from twin_service.workload.edge_time_line import EdgeTimeLine
from twin_service.workload.replay import Origin, replay, unfit_because
from twin_service.workload.replayed import Replayed
from twinsplit.types import TaskRecord

_PATIENCE_S = 5.0
"""A task is replayed so long after its end: what came meanwhile at the edge and on the device is known by then."""


class Recording(Listener):
    """Replays tasks while a world runs; :meth:`close` when it has ended."""

    def __init__(self, seed: int) -> None:
        self.replayed: list[Replayed] = []
        self._rng = np.random.default_rng(seed)
        self._edges: dict[int, EdgeTimeLine] = {}
        self._devices: dict[int, DeviceTimeLine] = {}
        self._ended: deque[tuple[SimulatedDevice, TaskRecord, Situation, tuple[bool, ...]]] = deque()

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        now_s = device.world.now_s
        situation = device.situation(now_s)
        line = self._devices.setdefault(device.index, DeviceTimeLine())
        line.ended(record, situation.overhead_s)
        if unfit_because(record) is None:
            self._ended.append((device, record, situation, device.pipeline.plans.exits_run(now_s)))
        while self._ended and self._ended[0][1].ended_at_s < now_s - _PATIENCE_S:
            self._replay(now_s)

    def tail_admitted(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        owner = "" if tail.work.device is None else _name(tail.work.device)
        line = self._edges.setdefault(edge, EdgeTimeLine())
        line.add(ArrivedTail(at_s, tail.predicted_s, owner, tail.work.task_id))

    def close(self) -> list[Replayed]:
        """All tasks; the world has ended."""
        while self._ended:
            self._replay(self._ended[-1][1].ended_at_s + _PATIENCE_S)
        return self.replayed

    def _replay(self, now_s: float) -> None:
        device, record, situation, exits_run = self._ended.popleft()
        device.edge.advance(now_s)
        edge = self._edges.setdefault(device.edge.index, EdgeTimeLine())
        origin = Origin(_name(device.index), device.world.model_digest)
        self.replayed.append(
            replay(record, situation, exits_run, edge, self._devices[device.index], self._rng, origin=origin)
        )


def _name(device: int) -> str:
    return f"device-{device}"
