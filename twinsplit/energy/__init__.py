"""Energy meters: the one interface, the integral of what they say, the thread that asks them.

A meter of one's own (a USB or network meter) is a callable under the entry point group ``twinsplit.meters``; see
``docs/how-to/energy.md``. What is unknown is ``None``, never 0.
"""

from twinsplit.energy.integral import EnergyIntegral, Interval
from twinsplit.energy.meter import Absent, Meter, MeterReading
from twinsplit.energy.sampling import Sampler

__all__ = ["Absent", "EnergyIntegral", "Interval", "Meter", "MeterReading", "Sampler"]
