"""Recorded tasks made ready to be run again under other weights: times apart from weights, lines of each device.

What a device's own line of tasks and its uplink do under other decisions is run again (by
:mod:`twin_service.tuning.rerun`); the edge is as it was recorded. So every number that depends on them is kept as what
it was beyond what the recorded tasks explain: tasks that were not recorded go on being waited for.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twin_service.decision.statistics import Statistics, statistics_of
from twin_service.decision.utility import batch_of
from twin_service.tuning.groups import Group, Sending, Weighting, grouped
from twin_service.workload.conditions import Conditions
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.errors import ReplayError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION
from twinsplit.reckoning import DecayingRate
from twinsplit.types import NO_EVIDENCE, Decision


@dataclass(frozen=True, slots=True)
class Offload:
    """What sending one payload at one epoch brought; recorded."""

    latency_s: float
    """Epoch to answer."""
    after_s: float
    """Part of it after the last byte had left: the way, the wait at the edge, the tail."""
    uplink_wait_s: float
    joules: float
    sending: Sending


@dataclass(frozen=True, slots=True)
class Course:
    """One recorded task. K decision epochs, X exits."""

    group: int
    arrived_at_s: float
    hold_s: float
    """Wait before its service that no recorded task explains."""
    uplink_hold_s: float
    """Likewise of the uplink, at its service start."""
    busy_share: float
    busy_explained: float
    """Part of it that recorded tasks explain."""
    step_s: tuple[float, ...]  # (K - 1,) epoch to epoch without exits
    exit_s: tuple[float, ...]  # (X,)
    shows: tuple[int, ...]  # (X,) evidence state that each exit shows; drawn where it did not run
    queue: tuple[float, ...]  # (K,)
    arrived: tuple[int, ...]  # (K,) recorded tasks of the device that had arrived by the recorded epoch
    backlog_s: tuple[float, ...]  # (K,)
    offloads: tuple[tuple[Offload | None, Offload | None], ...]  # (K, 2) by payload; None: impossible
    compute_watts: float
    transmit_watts: float
    weighting: Weighting
    taken_epoch: int
    taken: Decision
    taken_latency_s: float
    """Generation to answer, as recorded."""
    taken_joules: float
    taken_accuracy: float


@dataclass(frozen=True, slots=True)
class Tape:
    """All recorded tasks of one model."""

    manifest: Manifest
    statistics: Statistics
    groups: tuple[Group, ...]
    devices: tuple[tuple[Course, ...], ...]
    """By device, in the order of service."""
    newest: Weighting
    """Weights of the task that started last."""
    weightings: int
    """Different weights among the tasks."""

    @property
    def tasks(self) -> int:
        """How many there are."""
        return sum(map(len, self.devices))


def tape_of(tasks: Sequence[Replayed], manifest: Manifest, *, seed: int = 0) -> Tape:
    """``tasks``, all of the model of ``manifest`` and with conditions, as a tape.

    ``seed``: of the evidence of exits that did not run.

    Raises:
        ReplayError: a task does not fit the model.
    """
    statistics = statistics_of(manifest)
    conditions = [_checked(task, manifest) for task in tasks]
    groups, group_of = grouped(tasks, conditions)
    rng = np.random.default_rng(seed)
    by_device: defaultdict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(tasks)), key=lambda index: tasks[index].at_s):
        by_device[tasks[index].device_id].append(index)
    devices = []
    for indices in by_device.values():
        line = _DeviceLine(manifest, statistics, [tasks[i].at_s - tasks[i].waited_s for i in indices], rng)
        devices.append(tuple(line.course(tasks[i], groups[group_of[i]], group_of[i]) for i in indices))
    newest = max(tasks, key=lambda task: task.at_s)
    return Tape(
        manifest,
        statistics,
        tuple(groups),
        tuple(devices),
        Weighting(newest.alpha_s, newest.beta_s_per_joule),
        len({(task.alpha_s, task.beta_s_per_joule) for task in tasks}),
    )


def _checked(task: Replayed, manifest: Manifest) -> Conditions:
    met = task.conditions
    if met is None:
        raise ReplayError("a replayed task was kept without what it met; it cannot be run again")
    is_fit = (
        task.epochs == manifest.held_segments + 1
        and task.evidence.min() >= 0
        and task.evidence.max() < manifest.evidence_count
        and len(met.exits_run) == len(met.exit_s) == len(manifest.exits)
        and len(met.segment_s) >= manifest.held_segments
        and (met.tail_s is None or len(met.tail_s) >= manifest.segment_count)
        and met.goodput_bytes_per_s > 0.0
        and np.isfinite((*task.reached_s, *task.queue, *task.backlog_s, *task.uplink_busy_s)).all()
    )
    if not is_fit:
        raise ReplayError(f"a replayed task does not fit the model {manifest.name}, or holds numbers that are none")
    return met


class _DeviceLine:
    """One device's tasks as they came, in the order of service."""

    def __init__(
        self, manifest: Manifest, statistics: Statistics, arrived_at_s: Sequence[float], rng: np.random.Generator
    ) -> None:
        self._manifest = manifest
        self._statistics = statistics
        self._arrived_at_s = sorted(arrived_at_s)
        self._rng = rng
        self._free_at_s = self._uplink_free_at_s = -math.inf
        self._busy: DecayingRate | None = None
        self._representations: dict[tuple[int, Weighting], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def course(self, task: Replayed, group: Group, number: int) -> Course:
        """The next task."""
        met = task.conditions
        assert met is not None, "checked before"
        start_s, arrived_at_s = task.at_s, task.at_s - task.waited_s
        weighting = Weighting(task.alpha_s, task.beta_s_per_joule)
        self._busy = busy = self._busy or DecayingRate(start_s)
        busy_explained = busy.per_second(start_s)
        evidence = [int(state) for state in task.evidence]
        did_run = self._did_run(evidence)
        reached_s = [float(each_s) for each_s in task.reached_s]
        offloads = self._offloads(task, group, number, weighting)
        stop, is_offload = task.taken_epoch, task.taken.is_offload
        taken = offloads[stop][TENSOR if task.taken is Decision.OFFLOAD_TENSOR else INPUT] if is_offload else None
        hold_s = max(start_s - max(arrived_at_s, self._free_at_s), 0.0)
        explained_s = max(self._uplink_free_at_s - start_s, 0.0)
        uplink_hold_s = max(float(task.uplink_busy_s[0]) - explained_s, 0.0)
        # What held it holds those after it, too: it explains their wait, or each of them would add its own.
        self._uplink_free_at_s = max(self._uplink_free_at_s, start_s) + uplink_hold_s
        self._free_at_s = start_s + reached_s[stop] + (0.0 if taken is None else taken.sending.encode_s)
        if taken is not None:
            self._uplink_free_at_s = start_s + reached_s[stop] + taken.latency_s - taken.after_s
        busy.add(self._free_at_s - start_s, self._free_at_s)
        return Course(
            group=number,
            arrived_at_s=arrived_at_s,
            hold_s=hold_s,
            uplink_hold_s=uplink_hold_s,
            busy_share=task.busy_share,
            busy_explained=busy_explained,
            step_s=self._steps(reached_s, did_run, met),
            exit_s=met.exit_s,
            shows=self._shown(evidence, did_run),
            queue=tuple(float(length) for length in task.queue),
            arrived=tuple(bisect_right(self._arrived_at_s, start_s + each_s) for each_s in reached_s),
            backlog_s=tuple(float(each_s) for each_s in task.backlog_s),
            offloads=offloads,
            compute_watts=task.compute_watts,
            transmit_watts=met.transmit_watts,
            weighting=weighting,
            taken_epoch=stop,
            taken=task.taken,
            taken_latency_s=task.waited_s + reached_s[stop] + (0.0 if taken is None else taken.latency_s),
            taken_joules=task.compute_watts * reached_s[stop] + (0.0 if taken is None else taken.joules),
            taken_accuracy=self._accuracy(task, evidence[stop], taken),
        )

    def _accuracy(self, task: Replayed, evidence: int, taken: Offload | None) -> float:
        if task.taken is Decision.EXIT:
            return float(self._statistics.p_exit_right[evidence])
        loss = 0.0 if taken is None else taken.sending.loss
        return max(float(self._statistics.p_whole_right[evidence]) - loss, 0.0)

    def _did_run(self, evidence: Sequence[int]) -> list[bool]:
        """Which exits ran, or were to be run: those whose evidence is there at their epoch."""
        bins = self._statistics.bin_count
        return [
            epoch < len(evidence) and evidence[epoch] != NO_EVIDENCE and (evidence[epoch] - 1) // bins == index
            for index, epoch in enumerate(self._statistics.exit_epochs)
        ]

    def _steps(self, reached_s: Sequence[float], did_run: Sequence[bool], met: Conditions) -> tuple[float, ...]:
        step_s = [after_s - before_s for before_s, after_s in pairwise(reached_s)]
        for index, epoch in enumerate(self._statistics.exit_epochs):
            if did_run[index]:
                step_s[epoch - 1] = max(step_s[epoch - 1] - met.exit_s[index], 0.0)
        return tuple(step_s)

    def _shown(self, evidence: Sequence[int], did_run: Sequence[bool]) -> tuple[int, ...]:
        """What each exit shows. One that did not run shows what the exits around it, which did, make likely."""
        statistics = self._statistics
        shown: list[int] = []
        for index, epoch in enumerate(statistics.exit_epochs):
            if did_run[index]:
                shown.append(evidence[epoch])
                continue
            before = shown[-1] if shown else NO_EVIDENCE
            likely = statistics.transitions[index][before].copy()
            after = next((later for later in range(index + 1, len(did_run)) if did_run[later]), None)
            if after is not None:
                given = likely * statistics.transitions[after][:, evidence[statistics.exit_epochs[after]]]
                likely = given if given.sum() > 0.0 else likely
            place = np.searchsorted(np.cumsum(likely), self._rng.random() * likely.sum(), side="right")
            shown.append(min(int(place), len(likely) - 1))
        return tuple(shown)

    def _offloads(
        self, task: Replayed, group: Group, number: int, weighting: Weighting
    ) -> tuple[tuple[Offload | None, Offload | None], ...]:
        positions = self._representations.get((number, weighting))
        if positions is None:
            situation = group.situation(self._manifest, weighting, 0.0)
            batch = batch_of([situation], self._statistics, (False,) * len(self._manifest.exits))
            positions = tuple(batch.tensor.representation[0].tolist()), tuple(batch.input.representation[0].tolist())
            self._representations[number, weighting] = positions
        found = []
        for epoch in range(task.epochs):
            tensor = self._offload(task, group, epoch, TENSOR, epoch, positions[TENSOR][epoch])
            found.append((tensor, self._offload(task, group, epoch, INPUT, 0, positions[INPUT][epoch])))
        return tuple(found)

    def _offload(
        self, task: Replayed, group: Group, epoch: int, payload: int, cut: int, position: int
    ) -> Offload | None:
        met = task.conditions
        latency_s = float(task.latency_s[epoch, payload])
        if met is None or met.tail_s is None or position == NO_REPRESENTATION or not math.isfinite(latency_s):
            return None
        sending = group.sending(self._manifest, cut, position)
        return Offload(
            latency_s,
            float(task.edge_wait_s[epoch, payload]) + met.tail_s[cut] + met.overhead_s,
            max(float(task.uplink_busy_s[epoch]) - sending.encode_s, 0.0),
            float(task.transmit_joules[epoch, payload]),
            sending,
        )
