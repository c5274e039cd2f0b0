"""With a deadline a device looks up by the age of its task, which waiting makes older."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.task import AskTwin, Encode, RunSegment
from tests.unit.device.made_up_device import SEGMENT_S, MadeUpDevice, manifest_of, plan_of
from twinsplit.plan import Observation, Plan
from twinsplit.types import Decision

MANIFEST = manifest_of()


def impatient_plan(observation: Observation) -> Plan:
    """Offload the tensor of cut 1 when the task is older than 1.5 segments."""
    plain = plan_of(MANIFEST, exits_run=(False, False), observation=observation)
    table = np.repeat(plain.table[..., None], 2, axis=-1)
    table[1, ..., 1] = Decision.OFFLOAD_TENSOR
    return replace(plain, table=table, age_edges_s=(1.5 * SEGMENT_S,))


@pytest.mark.parametrize(
    ("observation", "waited_s", "step"),
    [
        (Observation.EACH_EPOCH, 0.0, RunSegment),
        (Observation.EACH_EPOCH, SEGMENT_S, Encode),
        (Observation.SERVICE_START, SEGMENT_S, RunSegment),
        (Observation.SERVICE_START, 2 * SEGMENT_S, Encode),
    ],
)
def test_a_task_that_has_waited_has_less_time_left(observation: Observation, waited_s: float, step: type) -> None:
    device = MadeUpDevice(MANIFEST)
    device.pipeline.plan_received(device.now_s, impatient_plan(observation), None)
    generated_at_s = device.now_s
    device.clock.advance(waited_s)
    device.take(device.pipeline.frame_arrived(device.now_s, "frame", arrived_at_s=generated_at_s))
    device.do_step()
    assert isinstance(device.step, step)


def test_a_polled_device_says_how_old_its_task_is() -> None:
    device = MadeUpDevice(MANIFEST, settings=replace(MadeUpDevice(MANIFEST).settings, is_polled=True))
    generated_at_s = device.now_s
    device.clock.advance(0.25)
    device.take(device.pipeline.frame_arrived(device.now_s, "frame", arrived_at_s=generated_at_s))
    assert isinstance(device.step, AskTwin)
    assert device.step.age_s == pytest.approx(0.25)
