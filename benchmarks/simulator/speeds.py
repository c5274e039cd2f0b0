"""Service times of a scenario's devices and edges: seconds for the whole network, shared among segments and exits."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.scenario import Scenario
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Speeds:
    """Profiled times; those of a device are multiplied with its factor."""

    segment_s: tuple[float, ...]
    exit_s: tuple[float, ...]
    encode_s: dict[tuple[int, int], float]
    """By (cut, representation position)."""
    tail_s: tuple[float, ...]
    """At the edge, after cut 0, 1, ..."""

    def device(self, factor: float) -> Speeds:
        """Of a device that takes ``factor`` times as long."""
        return Speeds(
            tuple(factor * seconds for seconds in self.segment_s),
            tuple(factor * seconds for seconds in self.exit_s),
            {key: factor * seconds for key, seconds in self.encode_s.items()},
            self.tail_s,
        )


def speeds_of(scenario: Scenario, manifest: Manifest) -> Speeds:
    """The times that ``scenario`` states.

    Raises:
        SettingsError: the scenario leaves a speed to be measured, or its shares do not fit the model.
    """
    device_s, edge_s = scenario.device_whole_s, scenario.edge_whole_s
    if device_s is None or edge_s is None:
        name = "device_whole_s" if device_s is None else "edge_whole_s"
        raise SettingsError(f"scenario: {name}: the simulator measures nothing; state the time of the whole network")
    macs = [segment.macs for segment in manifest.segments]
    shares = scenario.segment_shares or macs
    exits = scenario.exit_shares or [e.macs / max(sum(macs), 1) for e in manifest.exits]
    for name, given, needed in (
        ("segment_shares", shares, len(macs)),
        ("exit_shares", exits, len(manifest.exits)),
    ):
        if len(given) != needed:
            raise SettingsError(f"scenario: {name}: this model needs {needed} numbers, not {len(given)}")
    total = sum(shares)
    if total <= 0.0:
        raise SettingsError("scenario: segment_shares: the manifest counts no multiply-adds; state the shares")
    parts = [share / total for share in shares]
    return Speeds(
        segment_s=tuple(device_s * part for part in parts[: manifest.held_segments]),
        exit_s=tuple(device_s * share for share in exits),
        encode_s={
            (cut.index, position): scenario.encode_factor * entry.encode_s
            for cut in manifest.cuts
            for position, entry in enumerate(cut.representations)
        }
        | {(cut, position): device_s * share for cut, position, share in scenario.encode_shares},
        tail_s=tuple(edge_s * sum(parts[cut:]) for cut in range(manifest.segment_count)),
    )
