"""What one simulated run found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.books import Entry, Summary


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """One rule on one seed, closed. Tasks of the warm-up are in none of the figures but ``simulated_tasks``."""

    rule: str
    seed: int
    summary: Summary
    costs_s: NDArray[np.float64] = field(repr=False)
    """By task in the order of arrival; the same tasks for every rule on this seed."""
    latency_mean_s: float | None
    """Of answered tasks; ``None``: none was."""
    messages_per_task: float | None
    """Signalling messages; ``None``: exact state needs none."""
    simulated_tasks: int
    """Of all devices, the warm-up included."""
    simulated_s: float
    """From the first instant at which a task could arrive to the last outcome."""
    core_s: float
    """Processor time that it took to simulate; one core works on one run."""
    entries: tuple[Entry, ...] = field(default=(), repr=False)
    """Every task in the books, in the order of arrival, where they were asked for."""

    @property
    def cost_s(self) -> float:
        """Mean cost of a task."""
        return self.summary.cost_s

    @property
    def accuracy(self) -> float:
        """Calibrated expectation, over all tasks."""
        return self.summary.booked_accuracy

    @property
    def tasks_per_second(self) -> float:
        """Tasks simulated per second of one core."""
        return self.simulated_tasks / self.core_s
