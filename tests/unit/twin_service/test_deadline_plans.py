"""Deadlines in the twin service: what is desired of a device, and polled tasks that have an age."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import DIGEST, StepRule, World
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.tables import PlanTable
from twin_service.documents import Desired
from twin_service.messages import PollRequest
from twinsplit.plan import Observation
from twinsplit.types import Decision


@dataclass(frozen=True)
class ImpatientRule(StepRule):
    """Leaves at the exit once a task is 0.2 s old."""

    def table(self, situation: Situation) -> PlanTable:
        plain = super().table(situation)
        table = np.repeat(plain.table[..., None], 2, axis=-1)
        table[1, 1:, ..., 1] = Decision.EXIT
        return replace(plain, table=table, age_edges_s=(0.2,))


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (Observation.EACH_EPOCH, [Decision.CONTINUE, Decision.EXIT]),
        (Observation.SERVICE_START, [Decision.CONTINUE, Decision.OFFLOAD_TENSOR]),
    ],
)
def test_a_polled_device_says_how_old_its_task_is(observation: Observation, expected: list[Decision]) -> None:
    world = World(ImpatientRule(observation=observation))
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.take()
    world.say(PollRequest(1, 0, 0, 0, age_s=0.1))
    world.say(PollRequest(1, 1, 1, 0, age_s=0.21))
    assert [message.decision for message in world.take()] == expected


def test_a_deadline_can_be_desired_of_one_device_and_taken_back() -> None:
    world = World(OPEN_LOOP)
    world.attach_edge(models={DIGEST: (0.3, 0.25, 0.2)})
    world.attach_device()
    device = world.core.devices["cam"]
    assert device.standing is not None
    assert device.standing.plan.age_edges_s == ()
    for deadline_s, has_ages in ((0.2, True), (0.0, False)):
        world.core.desire("cam", Desired(deadline_s=deadline_s), device.document.version)
        world.wait(1.0)
        world.run()
        assert device.weights(Weights()).deadline_s == (deadline_s or None)
        assert bool(device.standing.plan.age_edges_s) == has_ages
