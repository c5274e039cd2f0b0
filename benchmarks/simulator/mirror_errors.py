"""How far the twin's mirror is from the truth, seen at instants that have nothing to do with messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from twin_service.core import TwinCore

if TYPE_CHECKING:
    from benchmarks.simulator.world import World

_EVERY_S = 0.0617
"""Time between looks; at each one device, in turn, and its edge."""


class MirrorErrors:
    """Mean absolute errors of what the twin predicts, by field."""

    def __init__(self, world: World, core: TwinCore) -> None:
        self._world = world
        self._core = core
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self._looks = 0
        world.schedule(_EVERY_S, self._look, None)

    def means(self) -> dict[str, float]:
        """Mean error by field: ``epoch`` as the share of instants in service at which it was wrong, ``queue_length`` in
        tasks, ``backlog_s`` of the twin and ``device_backlog_s`` of what the device reckons with in seconds."""
        return {field: self._sums[field] / count for field, count in sorted(self._counts.items())}

    def _look(self, _: object) -> None:
        world, now_s = self._world, self._world.now_s
        device = world.devices[self._looks % len(world.devices)]
        self._looks += 1
        world.schedule(now_s + _EVERY_S, self._look, None)
        twin = self._core.devices.get(f"device-{device.index}")
        edge_twin = self._core.edges.get(device.edge.address)
        if twin is None or edge_twin is None:
            return
        backlog_s = device.edge.backlog_s(now_s)
        self._note("backlog_s", abs(edge_twin.backlog_s(now_s) - backlog_s))
        self._note("device_backlog_s", abs(device.pipeline.plans.backlog_s(now_s) - backlog_s))
        self._note("queue_length", abs(twin.status.queue_expected(now_s) - device.pipeline.queue_length))
        task = device.task
        believed = twin.status.epoch(now_s)
        if task is not None:
            self._note("epoch", float(believed != task.epoch))
        self._note("busy", float((task is None) != (believed is None)))

    def _note(self, field: str, error: float) -> None:
        self._sums[field] += error
        self._counts[field] += 1
