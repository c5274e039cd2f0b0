"""What tails cost at a back end: each measured once when the edge starts, as those that an edge runs itself are.

A measured time holds the way there and back, since that is what a tail costs whoever waits for it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.engine.back_end import BackEnd, BackEndError
from edge.models import ElsewhereRuntime, HeldModel, decode_times_s, model_folders
from twinsplit.clock import Clock
from twinsplit.errors import ModelError
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.model.profile import made_up_input, random_tensor
from twinsplit.oip.names import tail_name

REPEATS = 7
_WARM_UP = 2
_ROUNDS = 3
"""Rounds of as many tails at once as may be under way, to see how many a back end runs at once."""
_CALL_S = 60.0
"""A first call may load a model."""
_FULL_S = 0.01
"""Pause before one that is full is asked again: it takes fewer at once than may be under way, or others use it, too."""


def read_models(root: Path, clock: Clock) -> dict[str, HeldModel]:
    """Every model below ``root`` by digest, with its decoding measured and no time of its segments yet. Only manifests
    are read.

    Raises:
        ModelError: no model, or two that a back end could not tell apart.
    """
    models: dict[str, HeldModel] = {}
    names: dict[tuple[str, int], Path] = {}
    for folder in model_folders(root):
        manifest, data = read_manifest(folder)
        digest = manifest_digest(data)
        other = names.setdefault((manifest.name, manifest.version), folder)
        if digest in models:
            continue
        if other != folder:
            raise ModelError(
                f"{folder} and {other} are both {manifest.name} version {manifest.version}, which an engine cannot "
                "tell apart; split one with another --name or --model-version"
            )
        count = manifest.segment_count
        decode_s = decode_times_s(manifest, [_tensor(manifest, cut) for cut in range(count)], clock)
        models[digest] = HeldModel(manifest, digest, ElsewhereRuntime(), (0.0,) * count, decode_s)
    return models


def asked_of(models: Sequence[HeldModel]) -> list[tuple[str, str]]:
    """Name and version of every tail, as a back end must have them."""
    return [
        (tail_name(model.manifest.name, cut), str(model.manifest.version))
        for model in models
        for cut in range(model.manifest.segment_count)
    ]


async def with_tail_times(model: HeldModel, back_end: BackEnd, clock: Clock) -> HeldModel:
    """``model`` with the times of its tails at ``back_end``, one after the other.

    A segment's time is what its tail takes more than the next one; what all take, the way there, counts to the last.

    Raises:
        TwinsplitError: the back end does not answer a tail.
    """
    tails_s = [0.0]
    for cut in reversed(range(model.manifest.segment_count)):
        times = await _times_s(model, back_end, cut, clock, _WARM_UP + REPEATS)
        # A longer tail cannot take less; where it seems to, the hop is all there is.
        tails_s.append(max(statistics.median(times[_WARM_UP:]), tails_s[-1]))
    tails_s.reverse()
    segment_s = tuple(longer - shorter for longer, shorter in pairwise(tails_s))
    return HeldModel(model.manifest, model.digest, model.runtime, segment_s, model.decode_s)


async def parallelism_and_factor(model: HeldModel, back_end: BackEnd, limit: int, clock: Clock) -> tuple[float, float]:
    """How many tails ``back_end`` runs at once when it gets ``limit``, and how long one takes over what is expected.

    Raises:
        TwinsplitError: the back end does not answer.
    """
    expected_s = sum(model.segment_s)
    alone_s = statistics.median((await _times_s(model, back_end, 0, clock, _WARM_UP + REPEATS))[_WARM_UP:])
    began_s = clock.monotonic_s()
    await asyncio.gather(*(_times_s(model, back_end, 0, clock, _ROUNDS) for _ in range(limit)))
    took_s = clock.monotonic_s() - began_s
    return limit * _ROUNDS * alone_s / max(took_s, 1e-9), alone_s / max(expected_s, 1e-9)


async def _times_s(model: HeldModel, back_end: BackEnd, cut: int, clock: Clock, count: int) -> list[float]:
    """Times of so many calls, one after the other."""
    tensor = _tensor(model.manifest, cut)
    times: list[float] = []
    until_s = clock.monotonic_s() + _CALL_S
    while len(times) < count:
        began_s = clock.monotonic_s()
        try:
            await back_end.infer(model.manifest, model.digest, cut, tensor, timeout_s=_CALL_S, budget_s=None)
        except BackEndError as failure:
            if not failure.is_full or began_s >= until_s:
                raise
            await asyncio.sleep(_FULL_S)
        else:
            times.append(clock.monotonic_s() - began_s)
    return times


@lru_cache(maxsize=64)
def _tensor(manifest: Manifest, cut: int) -> NDArray[Any]:
    if cut == 0:
        return made_up_input(manifest).tensor
    spec = manifest.cuts[cut].tensor
    return random_tensor(spec.shape, spec.dtype, np.random.default_rng(cut))
