"""A calibration in words, for people."""

from __future__ import annotations

from collections.abc import Iterator

from twinsplit.model.manifest import Manifest
from twinsplit.model.profile import Profile


def profile_table(profile: Profile, manifest: Manifest) -> str:
    """What a profile holds, a line each."""
    return "\n".join(f"{name:<24}{value:>12}  {remark}".rstrip() for name, value, remark in _rows(profile, manifest))


def _rows(profile: Profile, manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    for index, seconds in enumerate(profile.segment_s):
        yield f"segment {index + 1}", _ms(seconds), ""
        for exit_ in manifest.exits:
            if exit_.after_segment == index + 1 and exit_.index < len(profile.exit_s):
                yield f"exit {exit_.index}", _ms(profile.exit_s[exit_.index]), ""
    yield "whole network held", _ms(sum(profile.segment_s)), f"median of {profile.repeats} runs"
    for cut in sorted({cut for cut, _ in profile.encode_s}):
        times = {position: seconds for (of, position), seconds in profile.encode_s.items() if of == cut}
        slowest = max(times, key=lambda position: times[position])
        name = manifest.cuts[cut].representations[slowest].name
        yield f"encoding {'the input' if cut == 0 else f'cut {cut}'}", _ms(times[slowest]), f"{name}, the slowest"
    if profile.speed_share is not None and profile.speed_share < 1.0:
        yield "speed", f"{profile.speed_share:.0%}", "of full speed: the machine was slowed down meanwhile"
    powers = profile.powers
    if powers is not None:
        yield (
            "idle power",
            f"{powers.idle_watts:.2f} W",
            "as given" if powers.source == "given" else f"by {powers.source}",
        )
        busy = f"{powers.busy_cores:.2f} processors in use: computing adds {powers.compute_watts:.2f} W"
        yield "busy power", f"{powers.busy_watts:.2f} W", busy
        if powers.transmit_watts is not None:
            yield "sending adds", f"{powers.transmit_watts:.2f} W", ""
    if profile.uplink is not None:
        rate = f"{profile.uplink.goodput_bytes_per_s / 1e6:.3g} MB/s"
        yield "goodput of the uplink", rate, f"to {profile.uplink.edge}"
        yield "round trip", _ms(profile.uplink.round_trip_s), "without payload"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"
