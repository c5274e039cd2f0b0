"""A task under all its decisions; the one that was taken comes out as it happened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import DIGEST, EXIT_S, MANIFEST, SEGMENT_S, manifest_bytes
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.utility import NEVER
from twin_service.decision.values import values_of
from twin_service.messages import ArrivedTail
from twin_service.workload.device_time_line import DeviceTimeLine
from twin_service.workload.edge_time_line import EdgeTimeLine
from twin_service.workload.replay import Origin, replay, unfit_because
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.model.manifest import parse_manifest
from twinsplit.types import Decision, Outcome, Payload, Reason, Stages, TaskRecord

SITUATION = Situation(
    manifest=MANIFEST,
    weights=Weights(),
    segment_s=SEGMENT_S,
    exit_s=EXIT_S,
    encode_s={(1, 0): 0.004},
    tail_s=(0.03, 0.02, 0.01),
    goodput_bytes_per_s=1e5,  # a payload of 1000 bytes takes 10 ms
    overhead_s=0.002,
    task_rate_per_s=1.0,
    busy_share=0.5,
)
ORIGIN = Origin("cam", DIGEST, clock_offset_s=1e9)
START_S = 100.0
REACHED_S = (0.0, 0.115, 0.22, 0.33)
"""Measured; the profile says 0.11, 0.21, 0.31."""


def ended(stop_epoch: int, outcome: Outcome, **changes: object) -> TaskRecord:
    """A task that waited 50 ms, and whose exit showed the surer bin if it came so far."""
    task = TaskRecord(
        task_id=5,
        frame="",
        arrived_at_s=START_S - 0.05,
        started_at_s=START_S,
        ended_at_s=START_S + REACHED_S[stop_epoch],
        outcome=outcome,
        reason=Reason.NOT_WORTH_IT,
        stop_epoch=stop_epoch,
        evidence=2 if stop_epoch else 0,
        exit_confidences=(0.9 if stop_epoch else None,),
        epoch_times_s=tuple(START_S + at_s for at_s in REACHED_S[: stop_epoch + 1]),
    )
    return replace(task, **changes)


TO_THE_END = ended(3, Outcome.DEVICE)
AT_THE_EXIT = ended(1, Outcome.EXIT, exit_index=0)
OFFLOADED = ended(
    1,
    Outcome.EDGE,
    ended_at_s=START_S + 0.115 + 0.005 + 0.032 + 0.07 + 0.021,
    payload=Payload.TENSOR,
    representation_index=0,
    wire_bytes=3000,
    # 20 ms of the upload are an earlier payload's.
    stages=Stages(encode=0.005, upload=0.052, edge_queue=0.05, edge_compute=0.021),
    energy_joules=3.0 * 0.12 + 1.2 * 0.03,
)


def replayed(
    task: TaskRecord,
    *,
    situation: Situation = SITUATION,
    tails: tuple[ArrivedTail, ...] = (),
    others: tuple[TaskRecord, ...] = (),
    exits_run: tuple[bool, ...] = (True,),
    seed: int = 0,
) -> Replayed:
    edge, device = EdgeTimeLine(), DeviceTimeLine()
    for tail in tails:
        edge.add(tail)
    for each in sorted((task, *others), key=lambda t: t.task_id):
        device.ended(each, situation.overhead_s)
    return replay(task, situation, exits_run, edge, device, np.random.default_rng(seed), origin=ORIGIN)


def test_epochs_are_measured_as_far_as_the_task_came_and_the_profiles_beyond() -> None:
    assert replayed(TO_THE_END).reached_s == pytest.approx(REACHED_S)
    offloaded = replayed(OFFLOADED)
    assert offloaded.reached_s == pytest.approx([0.0, 0.115, 0.215, 0.315])
    assert offloaded.seen.tolist() == [True, True, False, False]
    assert (offloaded.at_s, offloaded.waited_s) == (1e9 + START_S, pytest.approx(0.05))
    assert (offloaded.taken_epoch, offloaded.taken) == (1, Decision.OFFLOAD_TENSOR)
    assert replayed(TO_THE_END).taken is Decision.CONTINUE
    assert replayed(AT_THE_EXIT).taken is Decision.EXIT


def test_an_offload_on_an_idle_way_takes_what_the_formula_says() -> None:
    task = replayed(TO_THE_END)
    # Encoding, 10 ms of upload, round trip, tail of the cut.
    assert task.latency_s[1, TENSOR] == pytest.approx(0.004 + 0.01 + 0.002 + 0.02)
    assert task.latency_s[2, INPUT] == pytest.approx(0.001 + 0.01 + 0.002 + 0.03)
    assert task.transmit_joules[1, TENSOR] == pytest.approx(3.0 * 0.004 + 1.2 * 0.01)
    assert task.accuracy[1, TENSOR] == pytest.approx(0.97)
    assert task.offload_s[1, TENSOR] == pytest.approx(2.5 * 0.97 - 0.036 - 0.05 * 0.024)
    assert np.isnan(task.offload_s[0, TENSOR])  # the tensor of cut 0 is the input
    assert np.isnan(task.offload_s[3]).all()  # nothing is left to offload
    assert task.finish_s == pytest.approx(2.5 * 0.97)
    assert task.exit_s[1:] == pytest.approx([2.5 * 0.95] * 3)
    assert np.isnan(task.exit_s[0])


def test_a_payload_waits_for_the_backlog_that_it_meets_on_arrival() -> None:
    arrives_s = START_S + 0.22 + 0.001 + 0.01 + 0.001
    tails = (
        ArrivedTail(arrives_s - 0.1, 0.13),  # 30 ms of it are left
        ArrivedTail(arrives_s - 0.0001, 0.02),
        ArrivedTail(arrives_s + 0.0001, 9.0),  # comes too late to be waited for
    )
    task = replayed(TO_THE_END, tails=tails)
    assert task.edge_wait_s[2, INPUT] == pytest.approx(0.03 + 0.02, abs=1e-6)
    assert task.latency_s[2, INPUT] == pytest.approx(0.043 + 0.05, abs=1e-6)
    assert task.backlog_s == pytest.approx([0.0, 0.0, 0.13 - (0.1 - 0.012), 9.0 - 0.0979 + 0.0499], abs=1e-6)
    assert task.arrived_work_s[2] == pytest.approx([0.13, 0.13, 0.13])


def test_the_own_tail_is_in_nobodys_way() -> None:
    own = ArrivedTail(START_S + 0.115 + 0.005 + 0.051, 0.5, "cam", 5)
    with_own, without = replayed(OFFLOADED, tails=(own,)), replayed(OFFLOADED)
    for name in ("backlog_s", "edge_wait_s", "offload_s", "arrived_work_s"):
        np.testing.assert_array_equal(getattr(with_own, name), getattr(without, name))


def test_the_own_upload_is_in_nobodys_way_and_earlier_ones_are() -> None:
    earlier = ended(
        1,
        Outcome.EDGE,
        task_id=4,
        started_at_s=START_S - 0.12,
        epoch_times_s=(START_S - 0.12, START_S - 0.005),
        payload=Payload.TENSOR,
        representation_index=0,
        stages=Stages(encode=0.005, upload=0.14 + 0.002, edge_queue=0.0, edge_compute=0.02),
    )
    task = replayed(OFFLOADED, others=(earlier,))
    assert task.uplink_busy_s == pytest.approx([0.14, 0.025, 0.0, 0.0], abs=1e-5)
    # At epoch 0 the input is ready after 1 ms, and waits for the uplink until 140 ms.
    assert task.latency_s[0, INPUT] == pytest.approx(0.14 + 0.01 + 0.002 + 0.03)
    assert task.latency_s[2, INPUT] == pytest.approx(0.043)


def test_the_decision_that_was_taken_comes_out_as_it_happened() -> None:
    earlier = ended(
        1,
        Outcome.EDGE,
        task_id=4,
        started_at_s=START_S - 0.12,
        epoch_times_s=(START_S - 0.12, START_S - 0.005),
        payload=Payload.TENSOR,
        representation_index=0,
        stages=Stages(encode=0.005, upload=0.14 + 0.002, edge_queue=0.0, edge_compute=0.02),
    )
    # It is handed over at 120 ms, has the uplink from 140 to 170 ms, and arrives at 171 ms to find 50 ms of work.
    arrived_s = START_S + 0.171
    tails = (ArrivedTail(arrived_s - 0.01, 0.06), ArrivedTail(arrived_s, 0.021, "cam", 5))
    record = replace(OFFLOADED, ended_at_s=arrived_s + 0.05 + 0.021 + 0.001)
    task = replayed(record, tails=tails, others=(earlier,))
    assert task.edge_wait_s[1, TENSOR] == pytest.approx(record.stages.edge_queue, abs=1e-6)
    assert task.reached_s[1] + task.latency_s[1, TENSOR] == pytest.approx(record.ended_at_s - START_S, abs=1e-6)
    assert 3.0 * task.reached_s[1] + task.transmit_joules[1, TENSOR] == pytest.approx(record.energy_joules, abs=1e-6)


def test_going_on_costs_time_energy_and_the_waiting_of_others() -> None:
    others = (
        ended(3, Outcome.DEVICE, task_id=6, arrived_at_s=START_S - 0.01, started_at_s=START_S + 0.33),
        ended(3, Outcome.DEVICE, task_id=7, arrived_at_s=START_S + 0.165, started_at_s=START_S + 0.7),
    )
    task = replayed(TO_THE_END, others=others)
    assert task.queue.tolist() == [1, 1, 2, 2]
    assert task.caused_s == pytest.approx([0.115, 0.105 + 0.055, 0.22])
    assert task.waiting_factor == 2.0
    assert task.step_cost_s[1] == pytest.approx(0.105 + 2.0 * 0.16 + 0.05 * 3.0 * 0.105)
    alone = replayed(TO_THE_END)
    assert alone.step_cost_s == pytest.approx(np.diff(REACHED_S) * 1.15)
    # Encoding keeps them waiting, too: 1 ms of two, at 2 s a second.
    assert alone.offload_s[2, INPUT] - task.offload_s[2, INPUT] == pytest.approx(2.0 * 2 * 0.001, abs=1e-6)


def test_evidence_that_was_never_seen_is_drawn_by_its_probability() -> None:
    at_once = ended(0, Outcome.EDGE, payload=Payload.INPUT, representation_index=0, stages=Stages(upload=0.01))
    drawn = [replayed(at_once, seed=seed).evidence.tolist() for seed in range(200)]
    assert all(states[0] == 0 and states[1] in (1, 2) and states[1:] == [states[1]] * 3 for states in drawn)
    assert sum(states[1] == 1 for states in drawn) / 200 == pytest.approx(0.6, abs=0.1)
    assert replayed(at_once, exits_run=(False,)).evidence.tolist() == [0, 0, 0, 0]


def test_evidence_that_was_seen_is_kept_and_an_exit_that_did_not_run_showed_nothing() -> None:
    assert replayed(TO_THE_END).evidence.tolist() == [0, 2, 2, 2]
    silent = replace(TO_THE_END, exit_confidences=(None,), evidence=0)
    assert replayed(silent).evidence.tolist() == [0, 0, 0, 0]
    assert np.isnan(replayed(silent).exit_s).all()


def test_open_loop_payoffs_are_those_of_the_same_point() -> None:
    task = replayed(TO_THE_END, tails=(ArrivedTail(START_S + 0.1, 0.3),))
    values = values_of(SITUATION, (True,))
    for epoch in range(4):
        there = values.at(epoch, int(task.evidence[epoch]), 0, float(task.backlog_s[epoch]), 0.0)
        assert (task.base_tensor[epoch], task.base_input[epoch], task.base_going_on[epoch]) == pytest.approx(
            (there.tensor, there.input, there.going_on), rel=1e-5
        )
    assert task.base_tensor[0] == NEVER


def test_a_deadline_changes_no_payoff_and_is_kept() -> None:
    # It waited 50 ms and ended at 380: under this deadline nearly everything is late.
    task = replayed(TO_THE_END, situation=replace(SITUATION, weights=Weights(deadline_s=0.1)))
    without = replayed(TO_THE_END)
    assert (task.deadline_s, without.deadline_s) == (0.1, None)
    for name in ("offload_s", "exit_s", "base_tensor", "base_input", "base_going_on", "step_cost_s", "finish_s"):
        np.testing.assert_array_equal(getattr(task, name), getattr(without, name), name)


def test_without_an_edge_nothing_can_be_offloaded() -> None:
    task = replayed(TO_THE_END, situation=replace(SITUATION, tail_s=None))
    assert np.isnan(task.offload_s).all()
    assert not np.isnan(task.step_cost_s).any()


def test_no_input_leaves_a_device_that_sends_tensors_only() -> None:
    task = replayed(TO_THE_END, situation=replace(SITUATION, is_tensors_only=True))
    assert np.isnan(task.offload_s[:, INPUT]).all()
    assert not np.isnan(task.offload_s[1:3, TENSOR]).any()


def test_a_device_that_holds_only_the_head_ends_at_its_last_epoch() -> None:
    head = parse_manifest(manifest_bytes(device_segments=2))
    task = replayed(
        ended(2, Outcome.EDGE, payload=Payload.TENSOR, representation_index=0, stages=Stages(upload=0.01)),
        situation=replace(SITUATION, manifest=head, segment_s=SEGMENT_S[:2]),
    )
    assert task.epochs == 3
    assert np.isnan(task.finish_s)
    assert not np.isnan(task.offload_s[2]).any()


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (TO_THE_END, None),
        (AT_THE_EXIT, None),
        (OFFLOADED, None),
        (ended(1, Outcome.FAILED), "lost"),
        (ended(0, Outcome.DROPPED, started_at_s=None, epoch_times_s=()), "lost"),
        (ended(3, Outcome.DEVICE, payload=Payload.INPUT, reason=Reason.EDGE_LOST), "resumed"),
        (ended(2, Outcome.EXIT, reason=Reason.HEAD_ONLY), "head-only"),
    ],
)
def test_only_what_ended_where_its_decision_sent_it_is_replayed(task: TaskRecord, why: str | None) -> None:
    assert unfit_because(task) == why
