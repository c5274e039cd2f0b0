"""How much a device and its twin say to one another, and what the twin knows meanwhile: one run of real processes.

Like all in this folder it judges what processes do in real time, to the hundredth of a second: nothing runs beside it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.testbed.commands import DEVICE_ID, address
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.result import RunResult
from benchmarks.testbed.scenarios import DEMO
from benchmarks.testbed.speeds import measured_speeds
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow

SIGNALLED = changed_scenario(DEMO, seconds=8.0)
SLOWER = changed_scenario(DEMO, seconds=14.0, device_whole_s=0.34, task_rate_per_s=2.5)
"""A device of half the speed with half the tasks: what the machine adds to every segment and message by waking late, a
millisecond or two, weighs half as much there."""
MAX_MESSAGES_PER_TASK = 3.0
LEAST_MIRROR_ACCURACY = 0.95
LEAST_AT_FULL_SPEED = 0.9
"""At the demo's own speed: 0.934 to 0.955 in twelve runs on a virtual machine that woke late."""
LEAST_LOOKS = 30
ONE_IN_A_HUNDRED = 2.33
"""Standard deviations below the mean that a normal distribution passes so rarely."""
LOOKS_TELL = 0.1
"""Looks at so few instants say a share to so much."""


@dataclass(frozen=True)
class Watched:
    """A run during which the twin was asked at random instants where the device's task stands."""

    result: RunResult
    lines: list[dict[str, Any]]
    seen: list[tuple[float, float | None]]
    """Instant and the epoch that the twin predicted then."""
    least_accuracy: float
    most_messages: float

    @property
    def is_right(self) -> list[bool]:
        """Of every look at a task in service, whether the twin knew its epoch."""
        return [
            epoch == _true_epoch(line, at_s)
            for at_s, epoch in self.seen
            for line in self.lines
            if _is_in_service(line, at_s)
        ]

    @property
    def is_disturbed(self) -> bool:
        """Whether something is not as it should be: the product's fault, or the machine's."""
        accuracy, is_right = self.result.mirror_accuracy or 0.0, self.is_right
        return not (
            self.result.messages_per_task <= self.most_messages
            and accuracy >= self.least_accuracy
            and len(is_right) > LEAST_LOOKS
            and sum(is_right) / len(is_right) >= least_seen(self.least_accuracy, len(is_right))
            and abs(sum(is_right) / len(is_right) - accuracy) <= LOOKS_TELL
        )


def watched(scenario: Scenario, least_accuracy: float, most_messages: float = math.inf) -> Watched:
    """The product's rule, with plans. A machine that halts for a moment spoils a run, but not three in a row."""
    speeds = measured_speeds(scenario)
    for _ in range(3):
        with LiveRun(scenario, speeds) as run:
            seen = asyncio.run(_read_at_random_instants(run, random.Random(5)))
            found = Watched(run.close(), run.lines, seen, least_accuracy, most_messages)
        if not found.is_disturbed:
            break
    return found


@pytest.fixture(scope="module")
def at_full_speed() -> Watched:
    return watched(SIGNALLED, LEAST_AT_FULL_SPEED, MAX_MESSAGES_PER_TASK)


@pytest.fixture(scope="module")
def on_a_slower_device() -> Watched:
    return watched(SLOWER, LEAST_MIRROR_ACCURACY)


def test_signalling_stays_below_three_messages_per_task(at_full_speed: Watched) -> None:
    planned = at_full_speed.result
    assert planned.summary.tasks == len(SIGNALLED.arrivals_s())
    assert planned.messages_per_task <= MAX_MESSAGES_PER_TASK, planned.messages_by_kind
    assert not any("poll" in kind for kind in planned.messages_by_kind)


@pytest.mark.parametrize("run", ["at_full_speed", "on_a_slower_device"])
def test_the_twin_knows_the_epoch_at_nearly_every_instant_without_asking(
    run: str, request: pytest.FixtureRequest
) -> None:
    watched: Watched = request.getfixturevalue(run)
    accuracy, is_right = watched.result.mirror_accuracy, watched.is_right
    assert len(is_right) > LEAST_LOOKS
    assert accuracy is not None
    assert accuracy >= watched.least_accuracy
    assert sum(is_right) / len(is_right) >= least_seen(watched.least_accuracy, len(is_right))
    # What readers saw at random instants is what the twin says of itself, as far as so few instants can tell.
    assert sum(is_right) / len(is_right) == pytest.approx(accuracy, abs=LOOKS_TELL)


def least_seen(accuracy: float, looks: int) -> float:
    """Share of so many looks that are right in 99 of 100 runs where the twin is right at that share of all instants."""
    return accuracy - ONE_IN_A_HUNDRED * math.sqrt(accuracy * (1.0 - accuracy) / looks)


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
