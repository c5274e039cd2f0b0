"""How far the twin's mirror is from the truth, and what that does to decisions.

The mirror is looked at in instants that have nothing to do with messages; decisions are compared with what the same
plan would decide by the edge's true backlog.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from device.plan_keeping import Choice, Observed, PlanKeeper
from twin_service.break_points import lost_s, queue_shares
from twin_service.core import TwinCore
from twinsplit.plan import Plan
from twinsplit.types import Reason

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice
    from benchmarks.simulator.world import World
    from twin_service.device_twin import DeviceTwin

_EVERY_S = 0.0617
"""Time between looks; at each one device, in turn, and its edge."""
FIELDS = {
    "backlog_s": "the twin's backlog of the edge, seconds",
    "device_backlog_s": "the backlog that the device reckons with, seconds",
    "epoch": "share of instants in service at which the epoch is wrong",
    "busy": "share of instants at which the twin is wrong about whether a task is in service",
    "queue_length": "tasks waiting",
    "task_rate_per_s": "tasks entering per second",
    "busy_share": "busy share of the device",
    "uplink_wait_s": "time until the uplink is free, seconds",
    "goodput_share": "goodput, share of the true rate",
    "profile_share": "time of all segments, share of the one that the device has tracked",
    "misled": "share of decisions that the true backlog would have changed",
    "lost_s": "utility that these are expected to have lost, seconds per task",
}
"""Errors by name, each a mean of absolute values."""


class MirrorErrors:
    """Mean errors of what the twin predicts, by field."""

    def __init__(self, world: World, core: TwinCore) -> None:
        self._world = world
        self._core = core
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self._looks = 0
        world.schedule(_EVERY_S, self._look, None)

    def means(self) -> dict[str, float]:
        """Mean error by field of :data:`FIELDS`, as far as there was anything to see."""
        counts = Counter(self._counts)
        if counts["lost_s"]:
            counts["lost_s"] = self._world.tasks
        return {field: self._sums[field] / counts[field] for field in FIELDS if counts[field]}

    def decided(self, device: SimulatedDevice, plan: Plan, epoch: int, evidence: int, observed: Observed) -> None:
        """A device has looked its plan up."""
        true_s = device.edge.backlog_s(self._world.now_s)
        by_truth = plan.decision(epoch, evidence, *observed._replace(backlog_s=true_s))
        is_misled = by_truth is not plan.decision(epoch, evidence, *observed)
        loss_s = 0.0
        twin = self._twin(device)
        if is_misled and twin is not None and twin.standing is not None:
            queue = queue_shares(observed.queue_length)
            loss_s = lost_s(twin.standing.points.at(epoch, queue), observed.backlog_s, true_s)
        self._note("misled", float(is_misled))
        self._note("lost_s", loss_s)

    def _look(self, _: object) -> None:
        world, now_s = self._world, self._world.now_s
        device = world.devices[self._looks % len(world.devices)]
        self._looks += 1
        world.schedule(now_s + _EVERY_S, self._look, None)
        twin = self._twin(device)
        edge_twin = self._core.edges.get(device.edge.edge_id)
        if twin is None or edge_twin is None:
            return
        backlog_s = device.edge.backlog_s(now_s)
        self._note("backlog_s", abs(edge_twin.backlog_s(now_s) - backlog_s))
        self._note("device_backlog_s", abs(device.pipeline.plans.backlog_s(now_s) - backlog_s))
        self._look_at_device(device, twin, now_s)

    def _look_at_device(self, device: SimulatedDevice, twin: DeviceTwin, now_s: float) -> None:
        status, task = twin.status, device.task
        believed = status.epoch(now_s)
        if task is not None:
            self._note("epoch", float(believed != task.epoch))
        self._note("busy", float((task is None) != (believed is None)))
        self._note("queue_length", abs(status.queue_expected(now_s) - device.pipeline.queue_length))
        self._note("task_rate_per_s", abs(status.task_rate_per_s(now_s) - device.task_rate_per_s(now_s)))
        self._note("busy_share", abs(status.busy_share(now_s) - device.busy_share(now_s)))
        self._note("uplink_wait_s", abs(status.uplink_busy_s(now_s) - device.link.busy_s(now_s)))
        if status.goodput_bytes_per_s is not None:
            rate = device.link.bytes_per_s(now_s)
            self._note("goodput_share", abs(status.goodput_bytes_per_s - rate) / rate)
        tracked_s = sum(device.tracker.segment_s)
        self._note("profile_share", abs(sum(status.segment_s) - tracked_s) / tracked_s)

    def _twin(self, device: SimulatedDevice) -> DeviceTwin | None:
        return self._core.devices.get(f"device-{device.index}")

    def _note(self, field: str, error: float) -> None:
        self._sums[field] += error
        self._counts[field] += 1


class WatchedPlans(PlanKeeper):
    """A device's plans whose look-ups :class:`MirrorErrors` sees."""

    def __init__(self, device: SimulatedDevice, errors: MirrorErrors, *args: Any, **kwargs: Any) -> None:
        """``args``: of :class:`PlanKeeper`."""
        super().__init__(*args, **kwargs)
        self._device = device
        self._errors = errors

    def choose(
        self,
        now_s: float,
        epoch: int,
        evidence: int,
        observed: Observed,
        hindrance: Reason | None = None,
        *,
        does_edge_answer: bool = False,
    ) -> Choice:
        plan = self.plan
        # What was observed at service start cannot be compared with the truth of now.
        is_observed_now = self.observes_each_epoch or epoch == 0
        if plan is not None and hindrance is None and is_observed_now and self.absence(now_s) is None:
            self._errors.decided(self._device, plan, epoch, evidence, observed)
        return super().choose(now_s, epoch, evidence, observed, hindrance, does_edge_answer=does_edge_answer)
