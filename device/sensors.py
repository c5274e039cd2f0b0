"""The device's senses: its energy meter and its health, each looked at in a thread of its own (design section 9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from device.compute import Engine
from device.energy import EnergyBooks, MeterBooks, ModelBooks, NoBooks
from device.energy.choice import AUTO, MODEL, NONE, chosen_meter
from device.energy.cpu_model import CpuModelMeter
from device.energy.places import Places
from device.health import HealthReader
from device.pipeline import Pipeline
from device.settings import DeviceSettings
from device.task import Instruction
from twinsplit.clock import Clock
from twinsplit.energy import Sampler
from twinsplit.model.profile import Powers, Profile
from twinsplit.telemetry.logs import EventLog
from twinsplit.ticker import Ticker

_log = EventLog("device.sensors")

_IDLE_LOOK_S, _LONGEST_IDLE_LOOK_S = 0.5, 3.0
_LOOKS_AT_IDLE = 2.5
_REPEATED_LINE_S = 60.0


class Sensors:
    """Everything that is measured of the machine itself; its threads run from :meth:`watch` to :meth:`close`."""

    def __init__(self, settings: DeviceSettings, clock: Clock) -> None:
        """
        Raises:
            SettingsError: a meter was asked for by name that cannot be used here.
        """
        self._settings = settings
        self._clock = clock
        self._is_emulated = settings.emulate_slowdown > 1.0
        places = Places(settings.sysfs)
        self._meter = chosen_meter(energy_wish(settings), places)
        self._health = HealthReader(places)
        self._books: EnergyBooks = NoBooks()
        self._sampler: Sampler | None = None
        self._ticker: Ticker | None = None

    def speed_share(self) -> float | None:
        """Speed of the processor now over its full speed; ``None``: unknown, or emulated."""
        return None if self._is_emulated else self._health.read().speed_share

    def books(self, profile: Profile) -> EnergyBooks:
        """The books of this device's energy, with the powers of ``profile`` where it has some."""
        settings = self._settings
        powers = usable_powers(settings, profile)
        compute_watts, transmit_watts = powers_of(settings, profile, has_meter=False)
        if settings.energy == NONE or compute_watts is None or transmit_watts is None:
            return NoBooks()
        meter = self._meter
        if meter is None and powers is not None and "compute_watts" not in settings.model_fields_set:
            meter = CpuModelMeter(powers, self._clock)
        if meter is None:
            return ModelBooks(compute_watts, transmit_watts)
        interval_s = settings.energy_interval_s or meter.interval_s
        books = MeterBooks(
            meter.source,
            interval_s,
            compute_watts=compute_watts,
            transmit_watts=transmit_watts,
            idle_watts=_idle_watts(profile, meter.source),
            is_modelled=meter.source == MODEL,
        )
        self._sampler = Sampler(meter, books.sampled, self._clock, interval_s)
        self._books = books
        _log.info("energy-meter", source=meter.source, interval_s=interval_s)
        return books

    @property
    def has_meter(self) -> bool:
        """Whether something measures, rather than a model."""
        return self._meter is not None

    async def look_at_idle(self) -> None:
        """Look at the meter from now on; where the idle power is unknown, for a moment in which nothing is done."""
        sampler = self._sampler
        if sampler is None:
            return
        sampler.start()
        state = self._books.state(self._clock.monotonic_s())
        if state is not None and state.idle_watts is None:
            await asyncio.sleep(min(max(_IDLE_LOOK_S, _LOOKS_AT_IDLE * sampler.interval_s), _LONGEST_IDLE_LOOK_S))

    def step_began(self, at_s: float) -> None:
        """A step is being carried out; from the compute thread."""
        if isinstance(self._books, MeterBooks):
            self._books.step_began(at_s)

    def step_ended(self, task_id: int, began_s: float, ended_s: float) -> None:
        """A step was carried out; from the compute thread."""
        if isinstance(self._books, MeterBooks):
            self._books.step_ended(task_id, began_s, ended_s)

    def watch(self, engine: Engine) -> None:
        """Look at the machine's health from now on, and tell the pipeline of ``engine``."""

        def look() -> None:
            try:
                health = self._health.read()
            except Exception as error:  # noqa: BLE001 - whatever a sensor does, the next look may succeed
                _log.warning("health-unreadable", limit_s=_REPEATED_LINE_S, error=f"{type(error).__name__}: {error}")
                return
            if self._is_emulated:
                # Emulated steps take the time that they were told, however fast this machine is.
                health = replace(health, speed_share=None)

            def event(pipeline: Pipeline, now_s: float) -> list[Instruction]:
                pipeline.reporter.health_seen(health)
                return pipeline.tick(now_s)

            engine.event(event)

        self._ticker = Ticker("device-health", self._settings.health_interval_s, look)
        self._ticker.start()

    def close(self) -> None:
        """Look no more."""
        for each in (self._sampler, self._ticker):
            if each is not None:
                each.close()


def energy_wish(settings: DeviceSettings) -> str:
    """The setting ``energy``, in which ``auto`` is ``model`` for an emulated device: a meter measures the host."""
    return MODEL if settings.energy == AUTO and settings.emulate_slowdown > 1.0 else settings.energy


def _idle_watts(profile: Profile, source: str) -> float | None:
    """Idle power as calibrated; as one meter sees it is not as another one does."""
    powers = profile.powers
    return powers.idle_watts if powers is not None and source in (MODEL, powers.source) else None


def usable_powers(settings: DeviceSettings, profile: Profile) -> Powers | None:
    """The calibrated powers, which are this machine's and not those of an emulated device."""
    return None if settings.emulate_slowdown > 1.0 else profile.powers


def powers_of(settings: DeviceSettings, profile: Profile, *, has_meter: bool) -> tuple[float | None, float | None]:
    """(Compute, transmit) watts: as told, else as calibrated, else the model's.

    Args:
        has_meter: something measures, so that the model's defaults are not to be taken for its powers.
    """
    if settings.energy == NONE:
        return None, None
    powers, told = usable_powers(settings, profile), settings.model_fields_set
    compute_watts = None if has_meter and "compute_watts" not in told else settings.compute_watts
    transmit_watts = None if has_meter and "transmit_watts" not in told else settings.transmit_watts
    if powers is not None and "compute_watts" not in told:
        compute_watts = powers.compute_watts
    if powers is not None and powers.transmit_watts is not None and "transmit_watts" not in told:
        transmit_watts = powers.transmit_watts
    return compute_watts, transmit_watts
