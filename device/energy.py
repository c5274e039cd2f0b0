"""Energy of a task on the device. Every reading names its source; what is unknown is ``None``, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Energy of one task and where the number comes from."""

    joules: float
    source: str
    """Such as ``model``, or the name of a sensor."""


class EnergyMeter(Protocol):
    """Something that knows what a task cost."""

    def task_energy(self, compute_s: float, upload_s: float) -> EnergyReading | None:
        """Energy of a task that computed (encoding included) and sent for so long; ``None``: unknown."""
        ...


class ModelMeter:
    """Power times time: E = P_c * compute + P_tx * upload (design section 5)."""

    SOURCE = "model"

    def __init__(self, compute_watts: float, transmit_watts: float) -> None:
        self.compute_watts = compute_watts
        self.transmit_watts = transmit_watts

    def task_energy(self, compute_s: float, upload_s: float) -> EnergyReading | None:
        joules = self.compute_watts * compute_s + self.transmit_watts * upload_s
        return EnergyReading(joules, self.SOURCE)


class NoMeter:
    """Nothing measures and no powers are known."""

    def task_energy(self, compute_s: float, upload_s: float) -> EnergyReading | None:
        return None
