"""How slow device and edge are made, from one measurement of this machine that all runs of a comparison share."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.scenario import Scenario
from twinsplit.model.manifest import Manifest
from twinsplit.model.profile import Profile, measure_profile
from twinsplit.model.runtime import SegmentRuntime

MEASURING_REPEATS = 40


@dataclass(frozen=True, slots=True)
class Speeds:
    """Emulation: how many times its measured time each segment takes."""

    manifest: Manifest
    profile: Profile
    device_slowdown: float
    edge_slowdown: float

    @property
    def measured_whole_s(self) -> float:
        """The whole network on this machine, nothing emulated."""
        return sum(self.profile.segment_s)

    @property
    def device_whole_s(self) -> float:
        """The whole network on the emulated device, exits apart."""
        return self.device_slowdown * self.measured_whole_s

    @property
    def edge_whole_s(self) -> float:
        """The whole network at the emulated edge, decoding apart."""
        return self.edge_slowdown * self.measured_whole_s


def measured_speeds(scenario: Scenario) -> Speeds:
    """Measure the network on this machine and make the slowdowns that the scenario asks for.

    Raises:
        ModelError: the model folder cannot be used.
    """
    runtime = SegmentRuntime.load(scenario.model, threads=scenario.threads)
    profile = measure_profile(runtime, MEASURING_REPEATS)
    whole_s = sum(profile.segment_s)
    return Speeds(
        runtime.manifest,
        profile,
        _slowdown(scenario.device_slowdown, scenario.device_whole_s, whole_s),
        _slowdown(scenario.edge_slowdown, scenario.edge_whole_s, whole_s),
    )


def _slowdown(asked: float | None, target_s: float | None, measured_s: float) -> float:
    """Never below 1: nothing is made faster than it is."""
    if asked is not None:
        return asked
    return 1.0 if target_s is None else max(1.0, target_s / measured_s)
