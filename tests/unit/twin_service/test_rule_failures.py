"""A rule that fails harms nobody: the standing plan stays, other devices go on, the failure is told."""

from __future__ import annotations

import asyncio

from tests.unit.twin_service.made_up_twins import (
    MANIFEST_BYTES,
    StepRule,
    World,
    device_hello,
    ended_task,
    state,
)
from twin_service import messages
from twin_service.core import TwinCore
from twin_service.decision.situation import Weights
from twin_service.exchange import DeviceSession, Exchange
from twin_service.memory import VolatileMemory
from twin_service.messages import PlanMessage, TaskReport
from twinsplit.clock import ManualClock
from twinsplit.errors import RuleError


class Moody(StepRule):
    """``StepRule``, but it cannot bear devices whose uplink is slower than a byte per millisecond."""

    def evaluate(self, situations):
        for s in situations:
            if s.goodput_bytes_per_s < 1000.0:
                raise RuleError("rule 'moody' at epoch 0", "raised ValueError: too slow")
        return super().evaluate(situations)


def report(world: World, number: int, goodput_bytes_per_s: float, device_id: str = "cam") -> None:
    task = ended_task(number, world.now_s - 0.5)
    ended = TaskReport((task,), state=state(entered=number, goodput_bytes_per_s=goodput_bytes_per_s))
    world.say(ended, device_id)


def test_the_standing_plan_stays_and_the_failure_is_told_and_counted() -> None:
    world = World(Moody())
    world.attach_edge()
    world.attach_device()
    (before,) = world.take(PlanMessage)
    world.wait(1.0)
    report(world, 1, 500.0)
    assert world.take(PlanMessage) == []
    assert world.core.devices["cam"].standing.plan is before.plan
    planner = world.core.planner
    assert planner.rule_failures == 1
    assert [(f.device_id, f.cause) for f in planner.last_failures] == [
        ("cam", "rule 'moody' at epoch 0: raised ValueError: too slow")
    ]


def test_a_device_on_which_the_rule_fails_is_not_weighed_again_at_once() -> None:
    world = World(Moody())
    world.attach_edge()
    world.attach_device()
    world.wait(1.0)
    for number in range(1, 5):
        report(world, number, 500.0)
    assert world.core.planner.rule_failures == 1
    world.wait(1.0)
    report(world, 5, 500.0)
    assert world.core.planner.rule_failures == 2


def test_devices_of_the_same_batch_get_their_plans() -> None:
    world = World(Moody())
    world.attach_edge()
    for name in ("cam", "dock"):
        world.attach_device(name)
    world.take()
    world.wait(1.0)
    # Both are weighed in one batch, since nothing is run between.
    world.core.devices["cam"].status.goodput_bytes_per_s = 500.0
    stream = world.attach_edge("edge", advertise_address="127.0.0.1:7200")
    assert stream
    moved = [send for send in world.sent if isinstance(send.message, PlanMessage)]
    assert [send.device_id for send in moved] == ["dock"]
    assert world.core.planner.rule_failures == 1


async def test_the_log_names_device_and_cause_once(caplog) -> None:
    core = TwinCore(Moody(), Weights(), VolatileMemory())
    clock = ManualClock(10.0)
    exchange = Exchange(core, clock)
    session = DeviceSession(end=lambda: None)
    exchange.device_attached(session, device_hello(goodput_bytes_per_s=500.0))
    exchange.device_said(session, messages.ManifestUpload(MANIFEST_BYTES))
    await asyncio.sleep(0)
    for number in range(1, 4):
        clock.advance(1.0)
        report = TaskReport((ended_task(number, clock.monotonic_s() - 0.5),), state=state(entered=number))
        exchange.device_said(session, report)
        await asyncio.sleep(0)
    failed = [record.fields for record in caplog.records if record.getMessage() == "rule-failed"]
    assert failed == [{"device": "cam", "cause": "rule 'moody' at epoch 0: raised ValueError: too slow"}]
    assert core.planner.rule_failures > 1
