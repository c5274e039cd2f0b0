"""What a replayed task met is kept with it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest

from tests.unit.decision.situations import manifest_of, situation_of
from tests.unit.workload.made_up_replay import made_up_replayed
from twin_service.decision.situation import Situation
from twin_service.workload.conditions import Conditions
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError

# Numbers that single precision holds as they are.
CONDITIONS = Conditions(
    exits_run=(True, False),
    segment_s=(0.25, 0.5, 0.125),
    exit_s=(0.0625, 0.03125),
    tail_s=(0.5, 0.25, 0.125),
    encode_s={(0, 1): 0.25, (2, 0): 0.5},
    goodput_bytes_per_s=20_000.0,
    overhead_s=0.5,
    backlog_mean_s=0.75,
    backlog_time_constant_s=1.5,
    transmit_watts=1.25,
    deadline_s=2.0,
    is_tensors_only=True,
    is_waiting_priced_up=False,
)


@pytest.mark.parametrize(
    "conditions",
    [
        CONDITIONS,
        replace(CONDITIONS, tail_s=None, deadline_s=None, is_tensors_only=False),
        replace(CONDITIONS, exits_run=(), exit_s=(), encode_s={}, is_waiting_priced_up=True),
    ],
)
def test_what_is_written_is_read(conditions: Conditions) -> None:
    task = made_up_replayed(conditions=conditions)
    assert Replayed.from_bytes(task.to_bytes()).conditions == conditions


def test_a_record_of_version_1_has_none() -> None:
    body = bytearray(made_up_replayed().to_bytes()[:-4])
    struct.pack_into("<H", body, 4, 1)
    again = Replayed.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))
    assert again.conditions is None
    assert again.device_id == made_up_replayed().device_id


@pytest.mark.parametrize("cut", [1, 8, 60, -1])
def test_conditions_of_another_length_are_refused(cut: int) -> None:
    data = CONDITIONS.to_bytes()
    with pytest.raises(ReplayError, match="conditions"):
        Conditions.from_bytes(data[:-cut] if cut > 0 else data + b"x")


def test_the_situation_that_went_in_comes_out() -> None:
    situation: Situation = situation_of(manifest_of(), 1)
    again = Conditions.of(situation, (True,) * len(situation.manifest.exits)).situation(
        situation.manifest,
        alpha_s=situation.weights.alpha_s,
        beta_s_per_joule=situation.weights.beta_s_per_joule,
        compute_watts=situation.weights.compute_watts,
        task_rate_per_s=situation.task_rate_per_s,
        busy_share=situation.busy_share,
    )
    assert again == replace(situation, uplink_busy_s=0.0, arrived_work_s=(0.0, 0.0, 0.0))


def test_numbers_that_single_precision_does_not_have_are_kept_as_its_largest() -> None:
    beyond = replace(CONDITIONS, goodput_bytes_per_s=1e300, segment_s=(1e300, 0.5, 0.25), encode_s={(0, 1): 1e300})
    again = Replayed.from_bytes(made_up_replayed(conditions=beyond).to_bytes()).conditions
    assert again is not None
    assert again.goodput_bytes_per_s == again.segment_s[0] == again.encode_s[(0, 1)] > 1e38
    assert again.segment_s[1:] == (0.5, 0.25)
