"""Replayed tasks of one model as arrays: features, open-loop values, what every decision really brought.

Axes: T tasks in the order of time, K decision epochs. Seconds throughout; ``-inf`` or ``nan`` where something cannot be
done. A rule is followed through without the edge, the device or the net of that time: everything a decision brings was
replayed before (design section 5, "Learning").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.features import Points, features
from twin_service.decision.statistics import statistics_of
from twin_service.decision.utility import NEVER
from twin_service.decision.value_net import CONTINUING, OFFLOADING, ValueNet
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.errors import ReplayError
from twinsplit.model.manifest import Manifest
from twinsplit.types import Decision

Array = NDArray[np.float64]
_IMPOSSIBLE_S = NEVER / 2
"""Payoffs below this are of what cannot be done."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """What there is to learn from; made by :func:`lessons_of`."""

    at_s: Array  # (T,) service start
    features: NDArray[np.float32]  # (T, K, F)
    offload_base_s: Array  # (T, K) P0 of the payload with the better one; NEVER: none can be sent
    offload_s: Array  # (T, K) what sending that payload there really brought; nan: none can be sent
    going_on_base_s: Array  # (T, K) C0; at the last epoch what the whole network's answer brings, or NEVER / 2
    exit_s: Array  # (T, K) what the exit brings; -inf: none has run
    step_cost_s: (
        Array  # (T, K - 1) realised price of going on to the next epoch, and alpha times what P(whole right) rose
    )
    is_last_known: bool
    """Whether the device ends the network itself, so that nothing is left to learn at the last epoch."""
    taken_epoch: NDArray[np.int64]  # (T,)
    taken_s: Array  # (T,) what the decision that was taken brought there
    taken_offload_base_s: Array  # (T,) its P0; nan: it was no offload

    @property
    def size(self) -> int:
        """T."""
        return len(self.features)

    @property
    def epochs(self) -> int:
        """K."""
        return int(self.features.shape[1])

    @cached_property
    def open_loop_s(self) -> Array:
        """Realised utility of every task had it followed the open-loop rule.  # (T,)"""
        found: Array = self.followed_s(None)[:, 0]
        return found

    @cached_property
    def taken_total_s(self) -> Array:
        """Realised utility of every task as it went, from service start on.  # (T,)"""
        went_on = np.arange(self.epochs - 1) < self.taken_epoch[:, None]
        found: Array = self.taken_s - np.where(went_on, self.step_cost_s, 0.0).sum(axis=1)
        return found

    def corrections_s(self, net: ValueNet | None) -> tuple[Array, Array]:
        """g_C and g_P everywhere; zero where all is known.  # (T, K) each"""
        if net is None:
            nothing = np.zeros(self.features.shape[:2])
            return nothing, nothing
        found = net.correct(self.features.reshape(-1, self.features.shape[2])).astype(np.float64)
        found = found.reshape(*self.features.shape[:2], found.shape[-1])
        if self.is_last_known:
            found[:, -1] = 0.0
        return found[..., CONTINUING], found[..., OFFLOADING]

    def stopping_s(self, net: ValueNet | None) -> tuple[NDArray[np.bool_], Array, Array]:
        """Of the rule with ``net``: where it stops, what that really brings there, what it takes going on to be worth.

        # (T, K) each
        """
        going_on, offloading = self.corrections_s(net)
        remaining = self.going_on_base_s + going_on
        offload = self.offload_base_s + offloading
        does_offload = (offload > remaining) & (offload > self.exit_s)
        does_leave = ~does_offload & (self.exit_s >= remaining)
        brought = np.where(does_offload, self.offload_s, self.exit_s)
        return does_offload | does_leave, brought, remaining

    def followed_s(self, net: ValueNet | None) -> Array:
        """Realised utility to go from every epoch when the rule with ``net`` is followed from there on.  # (T, K)"""
        does_stop, brought, _ = self.stopping_s(net)
        value = np.where(does_stop, brought, self.going_on_base_s)
        for epoch in range(self.epochs - 2, -1, -1):
            went_on = value[:, epoch + 1] - self.step_cost_s[:, epoch]
            value[:, epoch] = np.where(does_stop[:, epoch], brought[:, epoch], went_on)
        return value

    def part(self, chosen: NDArray[np.bool_]) -> Lessons:
        """Those of the ``chosen`` (T,) tasks."""
        return Lessons(
            self.at_s[chosen],
            self.features[chosen],
            self.offload_base_s[chosen],
            self.offload_s[chosen],
            self.going_on_base_s[chosen],
            self.exit_s[chosen],
            self.step_cost_s[chosen],
            self.is_last_known,
            self.taken_epoch[chosen],
            self.taken_s[chosen],
            self.taken_offload_base_s[chosen],
        )


def lessons_of(tasks: Sequence[Replayed], manifest: Manifest) -> Lessons:
    """Arrays of ``tasks``, all of the model of ``manifest``, in the order of their service start.

    Raises:
        ReplayError: a task does not fit the model, or holds numbers that are none where there must be some.
    """
    statistics = statistics_of(manifest)
    epochs = manifest.held_segments + 1
    tasks = sorted(tasks, key=lambda task: task.at_s)
    if not tasks or any(task.epochs != epochs for task in tasks):
        raise ReplayError(f"replayed tasks of {manifest.name}: there are none, or they have not its {epochs} epochs")

    def stacked(name: str) -> Array:
        return np.array([getattr(task, name) for task in tasks], dtype=np.float64)

    evidence = stacked("evidence").astype(np.int64)
    if evidence.min() < 0 or evidence.max() >= statistics.evidence_count:
        raise ReplayError(f"replayed tasks of {manifest.name}: evidence that the model does not have")
    base = np.stack((stacked("base_tensor"), stacked("base_input")), axis=-1)
    base = np.where(np.isfinite(base) & (base > _IMPOSSIBLE_S), base, NEVER)
    better = np.where(base[..., TENSOR] >= base[..., INPUT], TENSOR, INPUT)
    brought = stacked("offload_s")
    offload_base_s = base.max(axis=-1)
    offload_s = np.take_along_axis(brought, better[..., None], axis=-1)[..., 0]
    can_offload = np.isfinite(offload_s) & (offload_base_s > _IMPOSSIBLE_S)
    going_on_base_s = stacked("base_going_on")
    going_on_base_s[:, -1] = stacked("finish_s")
    is_last_known = manifest.held_segments == manifest.segment_count
    if not is_last_known:
        going_on_base_s[:, -1] = _IMPOSSIBLE_S
    step_cost_s = stacked("step_cost_s")
    exit_s = stacked("exit_s")
    taken_epoch = np.array([task.taken_epoch for task in tasks], dtype=np.int64)
    taken_s, taken_base_s = np.array([_taken(task) for task in tasks]).T
    if not (np.isfinite(going_on_base_s).all() and np.isfinite(step_cost_s).all() and np.isfinite(taken_s).all()):
        raise ReplayError(f"replayed tasks of {manifest.name} hold numbers that are none (NaN or infinite)")
    offload_base_s = np.where(can_offload, offload_base_s, NEVER)
    arrived_work_s = stacked("arrived_work_s")
    rows = features(
        Points(
            epoch_share=np.arange(epochs) / (epochs - 1),
            evidence=evidence,
            p_exit_right=statistics.p_exit_right,
            p_whole_right=statistics.p_whole_right,
            queue=stacked("queue"),
            backlog_s=stacked("backlog_s"),
            uplink_busy_s=stacked("uplink_busy_s"),
            arrived_work_s=tuple(arrived_work_s[..., horizon] for horizon in range(arrived_work_s.shape[-1])),
            task_rate_per_s=stacked("task_rate_per_s")[:, None],
            busy_share=stacked("busy_share")[:, None],
            lead_s=offload_base_s - going_on_base_s,
        )
    )
    if not np.isfinite(rows).all():
        raise ReplayError(f"replayed tasks of {manifest.name} hold numbers that are none (NaN or infinite)")
    # A sample that shows itself to be easy or hard is no merit or fault of going on, and would be noise of that size.
    shown_s = np.diff(stacked("alpha_s")[:, None] * statistics.p_whole_right[evidence], axis=1)  # (T, K - 1)
    return Lessons(
        np.array([task.at_s for task in tasks]),
        rows,
        offload_base_s,
        np.where(can_offload, offload_s, math.nan),
        going_on_base_s,
        np.where(np.isfinite(exit_s), exit_s, -math.inf),
        step_cost_s + shown_s,
        is_last_known,
        taken_epoch,
        taken_s,
        taken_base_s,
    )


def _taken(task: Replayed) -> tuple[float, float]:
    """What the decision that was taken brought at its epoch, and its P0 (``nan``: it was no offload), seconds."""
    at = task.taken_epoch
    if task.taken is Decision.CONTINUE:
        return task.finish_s, math.nan
    if task.taken is Decision.EXIT:
        return float(task.exit_s[at]), math.nan
    payload = TENSOR if task.taken is Decision.OFFLOAD_TENSOR else INPUT
    base = task.base_tensor if payload == TENSOR else task.base_input
    return float(task.offload_s[at, payload]), float(base[at])
