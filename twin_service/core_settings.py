"""Bounds of the twin service's core."""

from __future__ import annotations

from dataclasses import dataclass, field

from twin_service.planner import PlannerSettings


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Bounds of the core."""

    planner: PlannerSettings = field(default_factory=PlannerSettings)
    plan_batch: int = 16
    """Devices planned at one tick: larger batches are hardly cheaper each, and keep everybody else waiting."""
    plan_pause_s: float = 0.0
    """From planning to planning, unless a whole batch waits or a device has no plan: what falls due meanwhile is
    planned together, which is cheaper. After so long without planning it is done at once."""
    look_batch: int = 512
    """Devices looked at for backlog updates at one tick."""
    tell_batch: int = 128
    """Devices whose list of edges is looked at at one tick, after an edge has come or gone."""
    max_devices: int = 20_000
    """Documents kept; beyond it the first that is not attached is forgotten."""
