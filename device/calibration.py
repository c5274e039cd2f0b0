"""Measures what a device can do: times of its network, powers by its meter, the way to an edge; one profile of all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from device.energy.choice import chosen_meter
from device.energy.places import Places
from device.health import HealthReader
from device.sensors import energy_wish
from device.settings import DeviceSettings
from device.uplink_probe import Crossing, measure_uplink
from twinsplit.clock import Clock, SystemClock
from twinsplit.energy import EnergyIntegral, Interval, Meter, MeterReading, Sampler
from twinsplit.model.manifest import read_manifest
from twinsplit.model.preprocessing import PreparedInput
from twinsplit.model.profile import Powers, Profile, made_up_input, measure_profile
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport.address import Address

Progress = Callable[[str, float], None]
"""Told what is being measured, and the share of it that is done, 0..1."""

GIVEN = "given"
"""Source of powers that a person told."""
STAGES = ("idle power", "times", "busy power", "uplink")
_LONGEST_GAP_S = 5.0
_LEAST_SENDING_SHARE = 0.2
_LEAST_CORES = 0.8
_STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class Wishes:
    """How thoroughly to measure, and what is known already."""

    repeats: int = 20
    """Runs through the network whose median counts."""
    seconds: float = 5.0
    """Of idling, of computing and of sending, over which powers and rates are averaged."""
    given_watts: tuple[float, float] | None = None
    """(Idle, busy) power that a person measured, in place of a meter."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured."""

    profile: Profile
    remarks: tuple[str, ...]
    """What it lacks, or what is doubtful about it, with the cure."""


def calibrate(
    settings: DeviceSettings, wishes: Wishes, progress: Progress = lambda what, share: None, clock: Clock | None = None
) -> Calibration:
    """Measure all that can be measured here. Blocks, and starts an event loop of its own for the way to the edge.

    Raises:
        ModelError, ProviderError: the model cannot be used.
        SettingsError: a meter that was asked for by name cannot be used; an address that is none.
        PeerError: the edge cannot be reached, or refuses this model.
    """
    clock = clock or SystemClock()
    if settings.edge is not None:
        Address.parse(settings.edge)
    places = Places(settings.sysfs)
    meter = None if wishes.given_watts is not None else chosen_meter(energy_wish(settings), places)
    manifest, _ = read_manifest(settings.model)
    runtime = SegmentRuntime.load(
        settings.model, provider=settings.provider, threads=settings.threads, segments=range(manifest.held_segments)
    )
    measuring = _Measuring(settings, wishes, progress, clock, runtime, PowerLook(meter, settings, clock))
    try:
        return measuring.all(HealthReader(places))
    finally:
        measuring.power.close()


class PowerLook:
    """A meter that is looked at all the while, and its mean power over any stretch of that."""

    def __init__(self, meter: Meter | None, settings: DeviceSettings, clock: Clock) -> None:
        self.source = None if meter is None else meter.source
        self._integral = EnergyIntegral(_LONGEST_GAP_S)
        self._intervals: list[Interval] = []
        self._lock = threading.Lock()
        self._sampler = None if meter is None else Sampler(meter, self.sampled, clock, settings.energy_interval_s)
        if self._sampler is not None:
            self._sampler.start()

    def sampled(self, at_s: float, reading: MeterReading | None) -> None:
        """The meter was looked at."""
        with self._lock:
            interval = self._integral.add(at_s, reading)
            if interval is not None:
                self._intervals.append(interval)

    def watts_between(self, start_s: float, end_s: float) -> float | None:
        """Mean power over the looks that lie between; ``None``: there are none."""
        with self._lock:
            inside = [each for each in self._intervals if start_s <= each.start_s and each.end_s <= end_s]
        seconds = sum(each.end_s - each.start_s for each in inside)
        return sum(each.joules for each in inside) / seconds if seconds > 0.0 else None

    def close(self) -> None:
        """Look no more."""
        if self._sampler is not None:
            self._sampler.close()


@dataclass(frozen=True, slots=True)
class _Measuring:
    settings: DeviceSettings
    wishes: Wishes
    progress: Progress
    clock: Clock
    runtime: SegmentRuntime
    power: PowerLook

    def all(self, health: HealthReader) -> Calibration:
        """One stage after the other; nothing else may load the machine meanwhile."""
        remarks: list[str] = []
        prepared = made_up_input(self.runtime.manifest)
        has_meter = self.power.source is not None
        idle_watts = self._idle_watts() if has_meter else None
        profile = measure_profile(
            self.runtime,
            self.wishes.repeats,
            lambda done, total: self.progress("times", done / total),
            clock=self.clock,
            budget_s=max(20.0, 4.0 * self.wishes.seconds),
        )
        profile = replace(profile, speed_share=health.read().speed_share)
        busy_watts, busy_cores = self._busy(prepared) if has_meter or self.wishes.given_watts else (None, 0.0)
        if self.wishes.given_watts is not None:
            idle_watts, busy_watts = self.wishes.given_watts
        if idle_watts is not None and busy_watts is not None:
            source = self.power.source or GIVEN
            profile = replace(profile, powers=Powers(source, idle_watts, busy_watts, busy_cores))
            if busy_cores < _LEAST_CORES and self.runtime.provider == "CPUExecutionProvider":
                remarks.append("doubtful: something else took the processor; stop it, and calibrate again")
        else:
            remarks.append(_missing_powers(self.power.source))
        if self.settings.edge is None:
            remarks.append("not measured: the way to an edge; say --edge HOST:PORT of one that runs")
            return Calibration(profile, tuple(remarks))
        crossing, sending_watts = self._uplink(prepared)
        profile = replace(profile, uplink=crossing.uplink)
        if crossing.uplink is None:
            remarks.append("not measured: the way to the edge; payloads of this model are too small to tell a rate")
        return Calibration(_with_transmit_power(profile, crossing, sending_watts), tuple(remarks))

    def _idle_watts(self) -> float | None:
        began_s = self.clock.monotonic_s()
        while (elapsed_s := self.clock.monotonic_s() - began_s) < self.wishes.seconds:
            self.progress("idle power", elapsed_s / self.wishes.seconds)
            time.sleep(min(_STEP_S, self.wishes.seconds))
        self.progress("idle power", 1.0)
        return self.power.watts_between(began_s, self.clock.monotonic_s())

    def _busy(self, prepared: PreparedInput) -> tuple[float | None, float]:
        """(Mean power, processors in use) while the network runs without a pause."""
        process = psutil.Process()
        began_s, cpu_began = self.clock.monotonic_s(), process.cpu_times()
        while (elapsed_s := self.clock.monotonic_s() - began_s) < self.wishes.seconds:
            self.progress("busy power", elapsed_s / self.wishes.seconds)
            tensor = prepared.tensor
            for index in range(len(self.runtime.segments)):
                tensor = self.runtime.run_segment(index, tensor)
        ended_s, cpu_ended = self.clock.monotonic_s(), process.cpu_times()
        self.progress("busy power", 1.0)
        cpu_s = cpu_ended.user + cpu_ended.system - cpu_began.user - cpu_began.system
        # A network on an accelerator may take hardly any processor time; what is divided by must not be 0.
        return self.power.watts_between(began_s, ended_s), max(cpu_s / (ended_s - began_s), 0.01)

    def _uplink(self, prepared: PreparedInput) -> tuple[Crossing, float | None]:
        """The way to the edge, and the mean power meanwhile."""
        began_s = self.clock.monotonic_s()
        crossing = asyncio.run(
            measure_uplink(
                self.settings,
                self.runtime,
                prepared,
                self.wishes.seconds,
                self.clock,
                lambda share: self.progress("uplink", share),
            )
        )
        self.progress("uplink", 1.0)
        return crossing, self.power.watts_between(began_s, self.clock.monotonic_s())


def _with_transmit_power(profile: Profile, crossing: Crossing, sending_watts: float | None) -> Profile:
    """``profile`` with what sending adds, where it was sent for long enough of the time to tell."""
    powers = profile.powers
    if powers is None or sending_watts is None or crossing.sending_share < _LEAST_SENDING_SHARE:
        return profile
    added_watts = max(0.0, sending_watts - powers.idle_watts) / crossing.sending_share
    return replace(profile, powers=replace(powers, transmit_watts=added_watts))


def _missing_powers(source: str | None) -> str:
    if source is None:
        return (
            "not measured: powers; no energy meter is here (docs/how-to/energy.md), or say --idle-watts, --busy-watts"
        )
    return f"not measured: powers; the meter {source} brought no two numbers in time, measure longer with --seconds"
