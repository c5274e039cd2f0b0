"""Energy of tasks on the device, with its source. What is unknown is ``None``, never 0. Sans-IO.

A task's energy is what it *adds*: while its segments, exits and its encoder run (compute), and while its bytes are sent
(radio). What the device draws anyway is idle, and no task's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Part(str, Enum):
    """What energy went to."""

    COMPUTE = "compute"
    RADIO = "radio"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Energy of one task and where the number comes from."""

    joules: float
    source: str
    """``model``, or the name of a meter; with ``/window`` where the meter is too slow for the task, which then has its
    share of a longer stretch."""


@dataclass(frozen=True, slots=True)
class TaskWork:
    """What an ended task made the device do."""

    task_id: int
    ended_at_s: float
    compute_s: float
    """Segments, exits and encoding."""
    transmit_s: float = 0.0
    """In which its own bytes were being sent."""
    sent_at_s: float | None = None
    """Hand-over to the uplink; ``None``: nothing was sent."""


@dataclass(frozen=True, slots=True)
class EnergyState:
    """How a meter does, and what is known of the device's powers; ``None``: unknown."""

    source: str
    is_up: bool
    losses: int
    """How often the meter fell silent."""
    watts: float | None
    """Of the whole device, now."""
    idle_watts: float | None
    compute_watts: float | None
    """Added while computing."""
    transmit_watts: float | None
    """Added while sending."""


class EnergyBooks(Protocol):
    """Something that knows what a task cost."""

    def task_energy(self, work: TaskWork) -> EnergyReading | None:
        """Energy of a task that has ended; asked once for each. ``None``: unknown."""
        ...

    def totals(self) -> Mapping[tuple[str, Part], float]:
        """Joules so far by source and part; a part that is unknown is missing."""
        ...

    def state(self, now_s: float) -> EnergyState | None:
        """How the meter does; ``None``: none measures."""
        ...


class ModelBooks:
    """Power times time: E = P_c * compute + P_tx * sending (design section 5)."""

    SOURCE = "model"

    def __init__(self, compute_watts: float, transmit_watts: float) -> None:
        """
        Args:
            compute_watts: added while computing.
            transmit_watts: added while sending.
        """
        self.compute_watts = compute_watts
        self.transmit_watts = transmit_watts
        self._totals: dict[tuple[str, Part], float] = {}

    def task_energy(self, work: TaskWork) -> EnergyReading | None:
        compute_joules = self.compute_watts * work.compute_s
        radio_joules = self.transmit_watts * work.transmit_s
        for part, joules in ((Part.COMPUTE, compute_joules), (Part.RADIO, radio_joules)):
            self._totals[self.SOURCE, part] = self._totals.get((self.SOURCE, part), 0.0) + joules
        return EnergyReading(compute_joules + radio_joules, self.SOURCE)

    def totals(self) -> Mapping[tuple[str, Part], float]:
        return dict(self._totals)

    def state(self, now_s: float) -> EnergyState | None:
        return None


class NoBooks:
    """Nothing measures and no powers are known."""

    def task_energy(self, work: TaskWork) -> EnergyReading | None:
        return None

    def totals(self) -> Mapping[tuple[str, Part], float]:
        return {}

    def state(self, now_s: float) -> EnergyState | None:
        return None
