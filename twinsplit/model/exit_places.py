"""At which cuts exits stand: those asked for, or those that are worth it by share of compute."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twinsplit.errors import ModelError, SettingsError
from twinsplit.model.manifest import Manifest

COMPUTE_SHARES = (0.25, 0.5)
"""Where exits pay without knowing more: early enough to save most of the time, late enough to know something."""
LATEST_SHARE = 0.8
"""After it, an exit saves little of what the answer costs."""


def exit_places(manifest: Manifest, after: Sequence[int | str], taken: Collection[int]) -> list[int]:
    """Inner cuts for new exits, ascending.

    Without ``after``: the free cuts nearest to :data:`COMPUTE_SHARES` of the compute that a device holds, none of them
    behind :data:`LATEST_SHARE` of the whole unless there is no earlier one.

    Args:
        manifest: of the model.
        after: cuts by number or tensor name.
        taken: cuts at which exits stay.

    Raises:
        ModelError: the model has no inner cut.
        SettingsError: not an inner cut that devices reach, named twice, or taken.
    """
    names = [cut.tensor.name for cut in manifest.cuts]
    if manifest.segment_count == 1:
        raise ModelError(
            f"{manifest.name} is one segment, so there is no cut that an exit could stand at; split it at some "
            "(twinsplit model split --cut NAME; twinsplit model inspect FILE.onnx lists them)"
        )
    reached = range(1, min(manifest.held_segments, manifest.segment_count - 1) + 1)
    if after:
        places = [_number(key, names, reached) for key in after]
        twice = [cut for cut in places if places.count(cut) > 1]
        if twice:
            raise SettingsError(f"--after names cut {twice[0]} twice")
        both = [cut for cut in places if cut in taken]
        if both:
            raise SettingsError(
                f"an exit stands after cut {both[0]} already; --replace takes the model's own exits off first"
            )
        return sorted(places)
    shares = compute_shares(manifest)
    early = [cut for cut in reached if shares[cut] <= LATEST_SHARE] or [reached[0]]
    held = shares[manifest.held_segments]
    chosen = {min(early, key=lambda cut: abs(shares[cut] - share * held)) for share in COMPUTE_SHARES}
    free = sorted(chosen - set(taken))
    if not free:
        raise SettingsError(
            f"exits stand after cut {' and '.join(map(str, sorted(chosen)))} already, which would be chosen; "
            "name other cuts with --after, or take the model's own exits off with --replace"
        )
    return free


def compute_shares(manifest: Manifest) -> list[float]:
    """Share of the network's MACs before cut 0..m; by number of segments where MACs are not known."""
    macs = [segment.macs for segment in manifest.segments]
    if not sum(macs):
        macs = [1] * len(macs)
    return [sum(macs[:cut]) / sum(macs) for cut in range(len(macs) + 1)]


def _number(key: int | str, names: list[str], reached: range) -> int:
    cut = int(key) if isinstance(key, int) or key.isdecimal() else -1
    if cut not in reached and key in names:  # exporters do name tensors by numbers
        cut = names.index(str(key))
    if cut not in reached:
        listed = ", ".join(f"{k} ({names[k]})" for k in reached)
        raise SettingsError(f"--after {key}: an exit stands after an inner cut that devices reach: {listed}")
    return cut
