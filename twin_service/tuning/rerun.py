"""Recorded tasks followed again under other weights (design sections 5 and 6).

Each task is decided by the open-loop rule at its own recorded points and brings what was realised there. Its device's
line and uplink are run again with the new decisions, so that waiting follows from them; backlog and waits at the edge
are as recorded: neither the edge nor other devices react.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.learned import decide
from twin_service.decision.utility import NEVER
from twin_service.decision.values import OpenLoopValues, Payoffs
from twin_service.tuning.groups import Weighting, busy_level, level_share
from twin_service.tuning.tape import Course, Offload, Tape
from twin_service.workload.replayed import INPUT, TENSOR
from twinsplit.reckoning import DecayingRate
from twinsplit.types import NO_EVIDENCE, Decision


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What every task brought; tasks by device, in the order of service."""

    accuracy: NDArray[np.float64]  # (T,) calibrated expectation
    latency_s: NDArray[np.float64]  # (T,) generation to answer
    joules: NDArray[np.float64]  # (T,)
    decision: NDArray[np.uint8]  # (T,) where it ended; CONTINUE: at the end of the network


def recorded_outcomes(tape: Tape) -> Outcomes:
    """What the tasks really brought."""
    return _outcomes(
        [
            (task.taken_accuracy, task.taken_latency_s, task.taken_joules, int(task.taken))
            for device in tape.devices
            for task in device
        ]
    )


def rerun(tape: Tape, weighting: Weighting) -> Outcomes:
    """What they would have brought with ``weighting`` in force."""
    standing = _Standing(tape, weighting)
    return _outcomes([row for device in tape.devices for row in _DeviceRun(standing, device).rows()])


_Row = tuple[float, float, float, int]
"""Accuracy, latency, joules, decision."""


def _outcomes(rows: list[_Row]) -> Outcomes:
    accuracy, latency_s, joules, decision = zip(*rows, strict=True)
    return Outcomes(
        np.array(accuracy, dtype=np.float64),
        np.array(latency_s, dtype=np.float64),
        np.array(joules, dtype=np.float64),
        np.array(decision, dtype=np.uint8),
    )


class _Standing:
    """Open-loop payoffs under one weighting, evaluated once per situation."""

    def __init__(self, tape: Tape, weighting: Weighting) -> None:
        self.tape = tape
        self._weighting = weighting
        self._found: dict[tuple[int, int], OpenLoopValues] = {}

    def values(self, group: int, busy_share: float) -> OpenLoopValues:
        level = busy_level(busy_share)
        found = self._found.get((group, level))
        if found is None:
            situation = self.tape.groups[group].situation(self.tape.manifest, self._weighting, level_share(level))
            found = self._found[group, level] = OpenLoopValues(situation)
        return found


class _DeviceRun:
    """One device's tasks, one after the other."""

    def __init__(self, standing: _Standing, tasks: tuple[Course, ...]) -> None:
        self._standing = standing
        self._tape = standing.tape
        self._tasks = tasks
        self._arrived_at_s = sorted(task.arrived_at_s for task in tasks)
        self._exit_after = {epoch: index for index, epoch in enumerate(self._tape.statistics.exit_epochs)}
        self._free_at_s = self._uplink_free_at_s = -math.inf
        self._busy: DecayingRate | None = None

    def rows(self) -> list[_Row]:
        return [self._row(task) for task in self._tasks]

    def _row(self, task: Course) -> _Row:
        start_s = max(task.arrived_at_s, self._free_at_s) + task.hold_s
        self._busy = busy = self._busy or DecayingRate(start_s)
        self._uplink_free_at_s = max(self._uplink_free_at_s, start_s) + task.uplink_hold_s
        busy_share = task.busy_share - task.busy_explained + busy.per_second(start_s)
        values = self._standing.values(task.group, busy_share)
        epoch, now_s, evidence, decision = self._followed(task, values, start_s)
        right = self._tape.statistics
        joules = task.compute_watts * (now_s - start_s)
        latency_s = now_s - task.arrived_at_s
        free_at_s = now_s
        if decision.is_offload:
            payload = TENSOR if decision is Decision.OFFLOAD_TENSOR else INPUT
            offload = task.offloads[epoch][payload]
            assert offload is not None, "what is impossible is worth NEVER"
            positions = values.tensor_representations if payload == TENSOR else values.input_representations
            sending = self._tape.groups[task.group].sending(
                self._tape.manifest, epoch if payload == TENSOR else 0, positions[epoch]
            )
            encode_more_s = sending.encode_s - offload.sending.encode_s
            upload_more_s = sending.upload_s - offload.sending.upload_s
            uplink_wait_s = max(self._uplink_free_at_s - now_s - sending.encode_s, 0.0)
            way_s = offload.latency_s + uplink_wait_s - offload.uplink_wait_s + encode_more_s + upload_more_s
            accuracy = max(float(right.p_whole_right[evidence]) - sending.loss, 0.0)
            joules += offload.joules + task.compute_watts * encode_more_s + task.transmit_watts * upload_more_s
            latency_s += way_s
            free_at_s = now_s + sending.encode_s
            self._uplink_free_at_s = now_s + way_s - offload.after_s
        elif decision is Decision.EXIT:
            accuracy = float(right.p_exit_right[evidence])
        elif values.is_whole:
            accuracy = float(right.p_whole_right[evidence])
        else:  # the head ends, and nothing better is left: its best answer, if there is any
            accuracy = float(right.p_exit_right[evidence]) if evidence != NO_EVIDENCE else 0.0
        self._free_at_s = free_at_s
        busy.add(free_at_s - start_s, free_at_s)
        return accuracy, latency_s, joules, int(decision)

    def _followed(self, task: Course, values: OpenLoopValues, start_s: float) -> tuple[int, float, int, Decision]:
        """Where the rule ends a task that starts at ``start_s``: epoch, instant, evidence, decision."""
        arrived_at_s = self._arrived_at_s
        uplink_free_at_s = self._uplink_free_at_s
        exit_after, exits_run, last = self._exit_after, values.exits_run, values.last_epoch
        now_s, evidence = start_s, NO_EVIDENCE
        for epoch in range(last + 1):
            if epoch:
                now_s += task.step_s[epoch - 1]
                index = exit_after.get(epoch)
                if index is not None and exits_run[index]:
                    now_s += task.exit_s[index]
                    evidence = task.shows[index]
            queue = max(task.queue[epoch] + bisect_right(arrived_at_s, now_s) - task.arrived[epoch], 0.0)
            uplink_s = uplink_free_at_s - now_s
            payoffs = values.at(epoch, evidence, queue, task.backlog_s[epoch], uplink_s if uplink_s > 0.0 else 0.0)
            decision = decide(_possible(payoffs, task.offloads[epoch]))
            if decision is not Decision.CONTINUE or epoch == last:
                break
        return epoch, now_s, evidence, decision


def _possible(payoffs: Payoffs, offloads: tuple[Offload | None, Offload | None]) -> Payoffs:
    """``payoffs`` without what could not be done when the task was recorded."""
    if offloads[TENSOR] is None and payoffs.tensor > NEVER:
        payoffs = payoffs._replace(tensor=NEVER)
    if offloads[INPUT] is None and payoffs.input > NEVER:
        payoffs = payoffs._replace(input=NEVER)
    return payoffs
