"""One ended task under every decision that it could have taken: design sections 5 and 6.

What happened on the device while the task was in service, and at the edge ever since, is known; so every other decision
can be followed through: when its payload would have been sent, which backlog it would have met (exact FIFO reckoning on
the recorded arrivals, its own tail left out), how long others would have waited meanwhile. Where the task itself never
came, its times are the profile's and its evidence is drawn from the transition matrices.

A counterfactual holds everything else fixed: other tasks of the device do not decide differently because this one did,
nor do other devices. The decision that was really taken comes out as it happened. Payoffs are without a deadline, as
open-loop ones and what is learnt on them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Statistics, statistics_of
from twin_service.decision.values import OpenLoopValues, values_of
from twin_service.workload.conditions import Conditions
from twin_service.workload.device_time_line import DeviceTimeLine, Waiting, upload_of
from twin_service.workload.edge_time_line import EdgeTimeLine, Owner
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.plan import NO_REPRESENTATION
from twinsplit.types import NO_EVIDENCE, Decision, Outcome, Payload, Reason, TaskRecord

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose task it is."""

    device_id: str
    model_digest: str
    clock_offset_s: float = 0.0
    """Unix time less the clock of the instants."""


def unfit_because(task: TaskRecord) -> str | None:
    """Why a task has nothing to replay; ``None``: it has.

    Only a task that ended where its decision sent it shows what happened. One that came back from the edge did not, nor
    one that was lost.
    """
    if task.started_at_s is None or not task.outcome.is_answered or not task.epoch_times_s or task.stop_epoch is None:
        return "lost"
    if task.payload is not None and task.outcome is not Outcome.EDGE:
        return "resumed"
    return "head-only" if task.reason is Reason.HEAD_ONLY else None


def horizon_s(task: TaskRecord, situation: Situation, exits_run: Sequence[bool]) -> float:
    """Instant by which everything that a replay of ``task`` looks at on the device has happened."""
    return _reached_at_s(task, situation, exits_run)[-1]


def replay(
    task: TaskRecord,
    situation: Situation,
    exits_run: tuple[bool, ...],
    edge: EdgeTimeLine,
    device: DeviceTimeLine,
    rng: np.random.Generator,
    *,
    origin: Origin,
    values: OpenLoopValues | None = None,
    statistics: Statistics | None = None,
) -> Replayed:
    """``task`` under all its decisions.

    Args:
        task: An ended task without a reason in :func:`unfit_because`, its instants on the clock of the time lines.
        situation: What the twin knew of the device.
        exits_run: The exits that the device's plan has it run beyond where the task came.
        edge: Of the plan's edge; it must hold the task's own tail, if there was one.
        device: Of the task's device.
        rng: Draws evidence that was never seen.
        values: Open-loop payoffs; ``None``: those of ``situation`` (rounded, see ``values_of``).
        statistics: Calibrated statistics; ``None``: the manifest's.
    """
    manifest, weights = situation.manifest, situation.weights
    stats = statistics or statistics_of(manifest)
    values = values or values_of(situation, exits_run)
    start_s = task.started_at_s
    assert start_s is not None, "only tasks that were served are replayed"
    assert task.stop_epoch is not None, "a task that was served stopped somewhere"
    reached = _reached_at_s(task, situation, exits_run)
    evidence = _evidence(task, stats, situation, exits_run, rng, len(reached))
    waiting = device.waiting(task, reached[-1] + _LONGEST_ENCODING_S)
    lane = _Lane(
        task, situation, stats, values, edge, waiting, device.uplink_free_at_s(task), (origin.device_id, task.task_id)
    )
    factor, energy = situation.waiting_factor, weights.beta_s_per_joule * weights.compute_watts
    steps_s = [ended_s - begun_s for begun_s, ended_s in pairwise(reached)]
    caused = [waiting.area_s(begun_s, ended_s) for begun_s, ended_s in pairwise(reached)]
    step_cost = [step_s * (1.0 + energy) + factor * caused_s for step_s, caused_s in zip(steps_s, caused, strict=True)]
    queue = [waiting.length(at_s) for at_s in reached]
    backlog = [edge.backlog_s(at_s, lane.own) for at_s in reached]
    uplink = [max(lane.uplink_free_at_s - at_s, 0.0) for at_s in reached]
    base = [
        values.at(epoch, evidence[epoch], queue[epoch], backlog[epoch], uplink[epoch]) for epoch in range(len(reached))
    ]
    offloads = np.array(
        [
            [lane.offload(epoch, at_s, evidence[epoch], payload) for payload in _PAYLOADS]
            for epoch, at_s in enumerate(reached)
        ]
    )  # (K, 2, 5)
    is_whole = manifest.held_segments == manifest.segment_count
    exit_s = [weights.alpha_s * stats.p_exit_right[e] if e != NO_EVIDENCE else _NAN for e in evidence]
    finish_s = weights.alpha_s * float(stats.p_whole_right[evidence[-1]])
    columns = offloads.astype(np.float32)
    return Replayed(
        device_id=origin.device_id,
        task_id=task.task_id,
        at_s=start_s + origin.clock_offset_s,
        model_digest=origin.model_digest,
        taken_epoch=task.stop_epoch,
        taken=decision_of(task),
        alpha_s=weights.alpha_s,
        beta_s_per_joule=weights.beta_s_per_joule,
        task_rate_per_s=situation.task_rate_per_s,
        busy_share=situation.busy_share,
        waiting_factor=factor,
        waited_s=max(start_s - task.arrived_at_s, 0.0),
        finish_s=finish_s if is_whole else _NAN,
        compute_watts=weights.compute_watts,
        evidence=np.array(evidence, dtype=np.int16),
        seen=np.arange(len(reached)) < len(task.epoch_times_s),
        reached_s=_floats([at_s - start_s for at_s in reached]),
        queue=_floats(queue),
        backlog_s=_floats(backlog),
        uplink_busy_s=_floats(uplink),
        arrived_work_s=_floats([edge.arrived_work_s(at_s, lane.own) for at_s in reached]),
        exit_s=_floats(exit_s),
        base_tensor=_floats([payoffs.tensor for payoffs in base]),
        base_input=_floats([payoffs.input for payoffs in base]),
        base_going_on=_floats([payoffs.going_on for payoffs in base]),
        step_cost_s=_floats(step_cost),
        caused_s=_floats(caused),
        offload_s=columns[:, :, 0],
        latency_s=columns[:, :, 1],
        edge_wait_s=columns[:, :, 2],
        accuracy=columns[:, :, 3],
        transmit_joules=columns[:, :, 4],
        conditions=Conditions.of(situation, exits_run),
    )


def decision_of(task: TaskRecord) -> Decision:
    """What a task did at its last epoch; CONTINUE: it went through to the end of the network."""
    if task.outcome is Outcome.EXIT:
        return Decision.EXIT
    if task.outcome is Outcome.EDGE:
        return Decision.OFFLOAD_TENSOR if task.payload is Payload.TENSOR else Decision.OFFLOAD_INPUT
    return Decision.CONTINUE


_PAYLOADS = (TENSOR, INPUT)
_LONGEST_ENCODING_S = 1.0
_IMPOSSIBLE = (_NAN,) * 5


@dataclass(frozen=True, slots=True)
class _Lane:
    """The way of one task's payloads to the edge and back."""

    task: TaskRecord
    situation: Situation
    statistics: Statistics
    values: OpenLoopValues
    edge: EdgeTimeLine
    waiting: Waiting
    uplink_free_at_s: float
    own: Owner

    def offload(self, epoch: int, at_s: float, evidence: int, payload: int) -> tuple[float, float, float, float, float]:
        """Sending ``payload`` at ``epoch``, reached at ``at_s``: (utility to go, latency, part of it that is waiting at
        the edge, P(right), joules), ``nan`` where it cannot be done."""
        s = self.situation
        positions = self.values.tensor_representations if payload == TENSOR else self.values.input_representations
        position = positions[epoch]
        is_taken = self._is_taken(epoch, payload)
        if is_taken and self.task.representation_index is not None:
            position = self.task.representation_index
        if s.tail_s is None or position == NO_REPRESENTATION:
            return _IMPOSSIBLE
        cut = epoch if payload == TENSOR else 0
        entry = s.manifest.cuts[cut].representations[position]
        encode_s = s.encode_s.get((cut, position), entry.encode_s)
        tail_s = s.tail_s[cut]
        way_s = s.overhead_s / 2.0
        measured = upload_of(self.task, s.overhead_s) if is_taken else None
        if measured is None:
            ready_s = at_s + encode_s
            begun_s = max(ready_s, self.uplink_free_at_s)
            sent_s = begun_s + entry.mean_bytes / s.goodput_bytes_per_s
        else:
            ready_s, sent_s = measured
            begun_s = min(max(ready_s, self.uplink_free_at_s), sent_s)
            encode_s = ready_s - at_s
            tail_s = tail_s if self.task.stages.edge_compute is None else self.task.stages.edge_compute
        wait_s = self.edge.backlog_s(sent_s + way_s, self.own)
        latency_s = sent_s + way_s - at_s + wait_s + tail_s + way_s
        weights = s.weights
        accuracy = max(float(self.statistics.p_whole_right[evidence]) - entry.loss, 0.0)
        joules = weights.compute_watts * encode_s + weights.transmit_watts * (sent_s - begun_s)
        caused_s = s.waiting_factor * self.waiting.area_s(at_s, at_s + encode_s)
        utility_s = weights.alpha_s * accuracy - latency_s - weights.beta_s_per_joule * joules - caused_s
        return utility_s, latency_s, wait_s, accuracy, joules

    def _is_taken(self, epoch: int, payload: int) -> bool:
        taken = decision_of(self.task)
        if epoch != self.task.stop_epoch or not taken.is_offload:
            return False
        return payload == (TENSOR if taken is Decision.OFFLOAD_TENSOR else INPUT)


def _reached_at_s(task: TaskRecord, situation: Situation, exits_run: Sequence[bool]) -> list[float]:
    """Instants of all decision epochs: measured ones as far as the task came, the profile's beyond.  # (K,)"""
    manifest = situation.manifest
    reached = list(task.epoch_times_s[: manifest.held_segments + 1])
    for segment in range(len(reached) - 1, manifest.held_segments):
        exit_index = manifest.exit_after.get(segment + 1)
        is_run = exit_index is not None and exits_run[exit_index]
        exit_s = situation.exit_s[exit_index] if is_run and exit_index is not None else 0.0
        reached.append(reached[-1] + situation.segment_s[segment] + exit_s)
    return reached


def _evidence(
    task: TaskRecord,
    statistics: Statistics,
    situation: Situation,
    exits_run: Sequence[bool],
    rng: np.random.Generator,
    epochs: int,
) -> list[int]:
    """Evidence state at every epoch: shown as far as the task came, drawn beyond.  # (K,)"""
    manifest = situation.manifest
    exit_after = manifest.exit_after
    found, state = [], NO_EVIDENCE
    for epoch in range(epochs):
        exit_index = exit_after.get(epoch)
        if exit_index is not None:
            if epoch < len(task.epoch_times_s):
                shown = task.exit_confidences[exit_index] if exit_index < len(task.exit_confidences) else None
                state = state if shown is None else manifest.evidence_of(exit_index, shown)
            elif exits_run[exit_index]:
                state = _drawn(statistics.transitions[exit_index][state], rng)
        found.append(state)
    return found


def _drawn(distribution: np.ndarray[tuple[int], np.dtype[np.float64]], rng: np.random.Generator) -> int:
    """A state by its probability."""
    place = int(np.searchsorted(np.cumsum(distribution), rng.random() * float(distribution.sum()), side="right"))
    return min(place, len(distribution) - 1)


def _floats(values: Sequence[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)
