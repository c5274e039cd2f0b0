"""What the device shows as the twin's belief is the twin's belief: both joined by real messages and a made-up clock."""

from __future__ import annotations

import pytest

from device.self_mirror import Truth
from tests.integration.test_twin_mirrors_device import WAY_S, World
from twinsplit.rpc.v1 import twin_pb2

SETTLED_S = 3 * WAY_S
"""After so long without a message both sides know the same."""
WATCH_S = 0.037


class WatchedWorld(World):
    """Compares the two beliefs time and again, while no message is on its way."""

    def __init__(self) -> None:
        self.moved_at_s = 0.0
        self.epochs: list[tuple[int | None, int | None]] = []
        self.queues: list[tuple[float, float]] = []
        super().__init__("multi-step", rate_per_s=5.0, jitter=0.1, seed=7)
        self.do(self.pipeline.twin_attached(self.device_now_s, 5.0))
        self.at(5.0, self.watch)

    def do(self, instructions: list[object]) -> None:
        super().do(instructions)
        self.moved_at_s = self.now_s

    def from_twin(self, response: twin_pb2.AttachDeviceResponse) -> None:
        if response.HasField("plan"):
            self.do([])
        super().from_twin(response)
        self.pipeline.reporter.plan_stands(self.plans.exits_run(self.device_now_s), self.device_now_s)

    def watch(self) -> None:
        self.at(self.now_s + WATCH_S, self.watch)
        if self.now_s - self.moved_at_s < SETTLED_S:
            return
        status, now_s = self.core.devices["cam"].status, self.device_now_s
        truth = Truth(None, self.pipeline.queue_length, None, None, 0.0)
        mine = {field.name: field.predicted for field in self.pipeline.reporter.layers(truth, now_s)}
        self.epochs.append((mine["epoch"], status.epoch(self.now_s)))
        self.queues.append((mine["queue_length"] or 0.0, status.queue_expected(self.now_s)))


@pytest.mark.slow
def test_the_device_knows_what_the_twin_believes() -> None:
    world = WatchedWorld()
    world.run(60.0)
    assert len(world.epochs) > 500
    assert len({mine for mine, _ in world.epochs}) >= 5
    differing = sum(mine != theirs for mine, theirs in world.epochs)
    assert differing <= 0.01 * len(world.epochs)  # a boundary may lie between the two readings of one instant
    assert max(theirs for _, theirs in world.queues) > 1.0
    assert max(abs(mine - theirs) for mine, theirs in world.queues) < 0.2
