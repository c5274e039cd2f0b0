"""What a device tells its twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from device.health import Health
from twinsplit.edge_list import EdgeLink
from twinsplit.types import TaskRecord


@dataclass(frozen=True, slots=True)
class Started:
    """A task in service."""

    task_id: int
    at_s: float
    """Service start on the device's monotonic clock."""
    first_epoch: int
    """Segments already done when its service (re)started."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """How the device does, apart from its task."""

    goodput_bytes_per_s: float | None
    round_trip_s: float | None
    segment_s: tuple[float, ...]
    """Tracked times; empty: as reported before."""
    exit_s: tuple[float, ...]
    is_edge_reachable: bool
    is_degraded: bool
    entered: int
    lost: int
    health: Health = field(default_factory=Health)
    """Of the machine; its speed is that at which the tracked times hold."""
    links: tuple[EdgeLink, ...] = ()
    """Ways to listed edges that have moved since they were last told."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Tasks ended, and the one in service now (``None``: idle)."""

    ended: tuple[TaskRecord, ...]
    started: Started | None
    queue_length: int
    state: DeviceState


@dataclass(frozen=True, slots=True)
class StartReport:
    """A task started and no other report carries it."""

    started: Started
    queue_length: int


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """The task in service has left the report threshold."""

    task_id: int
    epoch: int
    reached_at_s: float
    queue_length: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing else was sent for a heartbeat period."""

    started: Started | None
    queue_length: int
    state: DeviceState


Report: TypeAlias = TaskReport | StartReport | ProgressReport | Heartbeat
