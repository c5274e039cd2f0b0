"""Energy of a device: meters, what they measured, and which task it belongs to.

``books`` and ``spans`` are sans-IO. Meters (:class:`twinsplit.energy.Meter`) are ``powercap``, ``hwmon``, ``pmic``,
``cpu_model``, NVML and plug-ins; ``choice`` takes one of them as the setting ``energy`` says.
"""

from device.energy.books import EnergyBooks, EnergyReading, EnergyState, ModelBooks, NoBooks, Part, TaskWork
from device.energy.meter_books import MeterBooks

__all__ = [
    "EnergyBooks",
    "EnergyReading",
    "EnergyState",
    "MeterBooks",
    "ModelBooks",
    "NoBooks",
    "Part",
    "TaskWork",
]
