"""The models that an edge holds: found in a folder, loaded once, measured once.

One set of segment sessions per model serves every cut: the tail after cut k runs segments k .. m-1.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from twinsplit.clock import Clock
from twinsplit.errors import BadMessageError, ComputeError, ModelError, WrongDigestError
from twinsplit.model.batches import gives_the_same
from twinsplit.model.manifest import MANIFEST_NAME, Manifest
from twinsplit.model.payload import PICTURE_KINDS, decode_payload, encode_payload
from twinsplit.model.profile import Profile, made_up_input, measure_profile
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.telemetry.logs import EventLog

_log = EventLog("edge.models")

PROFILE_REPEATS = 15
_DECODE_REPEATS = 5
_DIGEST_SHOWN = 12


class TailRuntime(Protocol):
    """What tails need of :class:`~twinsplit.model.runtime.SegmentRuntime`."""

    def run_segment(self, index: int, tensor: NDArray[Any]) -> NDArray[Any]:
        """Tensor of cut ``index + 1`` from that of cut ``index``."""
        ...


class ElsewhereRuntime:
    """Stands for the segments of a model that this process does not run."""

    def run_segment(self, index: int, tensor: NDArray[Any]) -> NDArray[Any]:
        raise ComputeError(f"segment {index} is run elsewhere, not by this process")


@dataclass(frozen=True, slots=True)
class HeldModel:
    """One model at this edge with what it was measured to cost at start-up."""

    manifest: Manifest
    digest: str
    """Model digest, hex."""
    runtime: TailRuntime
    segment_s: tuple[float, ...]
    """Median time of each segment, seconds, before any emulated slowdown."""
    decode_s: tuple[float, ...]
    """Mean time to decode a payload of cut 0, 1, ... m-1 over its offered representations, seconds."""
    slowdown: float = 1.0
    """Emulation: each segment takes this many times its measured time; 1: off."""
    batches_from: int | None = None
    """First cut after which all segments take several tensors at once; ``None``: the last segment does not."""

    @property
    def tail_s(self) -> tuple[float, ...]:
        """Predicted service time of the tail after cut 0, 1, ... m-1, seconds, decoding included."""
        return tuple(decode_s + self.slowdown * sum(self.segment_s[cut:]) for cut, decode_s in enumerate(self.decode_s))

    @property
    def title(self) -> str:
        """Name, version and the beginning of the digest, for people."""
        return f"{self.manifest.name}/{self.manifest.version} ({self.digest[:_DIGEST_SHOWN]})"


def held_model(models: Mapping[str, HeldModel], digest: str, cut: int) -> HeldModel:
    """The model of a request.

    Raises:
        WrongDigestError: this edge does not hold it.
        BadMessageError: no tail starts at that cut.
    """
    model = models.get(digest)
    if model is None:
        held = ", ".join(m.title for m in models.values())
        raise WrongDigestError(
            f"this edge does not hold the model {digest[:_DIGEST_SHOWN]}, only {held}; copy the same model folder to "
            "the device and the edge"
        )
    if not 0 <= cut < model.manifest.segment_count:
        raise BadMessageError(
            f"cut: {model.title} has tails after cuts 0..{model.manifest.segment_count - 1}, none after {cut}"
        )
    return model


def model_folders(root: Path) -> list[Path]:
    """Folders below ``root`` that hold a manifest: itself, or NAME or NAME/VERSION below it, by name.

    Raises:
        ModelError: there is none.
    """
    if (root / MANIFEST_NAME).is_file():
        return [root]
    found = sorted(path.parent for pattern in ("*", "*/*") for path in root.glob(f"{pattern}/{MANIFEST_NAME}"))
    if not found:
        raise ModelError(
            f"{root}: holds no model; name a folder with {MANIFEST_NAME}, or one of such folders as NAME/VERSION "
            "(twinsplit model split makes them)"
        )
    return found


def load_models(
    root: Path,
    *,
    provider: str = "cpu",
    threads: int = 1,
    slowdown: float = 1.0,
    known: Profile | None = None,
    clock: Clock,
    progress: Callable[[str], None] | None = None,
) -> dict[str, HeldModel]:
    """Load and measure every model below ``root``, by digest.

    Args:
        provider: see :meth:`SegmentRuntime.load`.
        threads: threads of one inference.
        slowdown: emulation, see :attr:`HeldModel.slowdown`.
        known: times of the model that it fits, which is then not measured.
        progress: told a line for people before each model.

    Raises:
        ModelError: no model, one that does not load, or one with digests that differ.
        ProviderError: the provider does not load.
    """
    models: dict[str, HeldModel] = {}
    for folder in model_folders(root):
        if progress is not None:
            progress(f"loading and measuring {folder}")
        runtime = SegmentRuntime.load(folder, provider=provider, threads=threads, with_exits=False)
        if runtime.digest in models:
            _log.warning("model-twice", folder=str(folder), digest=runtime.digest)
            continue
        models[runtime.digest] = measured_model(runtime, slowdown=slowdown, known=known, clock=clock)
    return models


def measured_model(
    runtime: SegmentRuntime, *, slowdown: float = 1.0, known: Profile | None = None, clock: Clock
) -> HeldModel:
    """Measure segments (unless ``known`` fits) and decoding of a loaded model.

    Raises:
        ComputeError: ONNX Runtime fails.
    """
    is_known = known is not None and known.fits(runtime) and len(known.segment_s) == runtime.manifest.segment_count
    profile = known if known is not None and is_known else measure_profile(runtime, PROFILE_REPEATS, clock=clock)
    return HeldModel(
        manifest=runtime.manifest,
        digest=runtime.digest,
        runtime=runtime,
        segment_s=profile.segment_s,
        decode_s=decode_times_s(runtime.manifest, _tensors_of_cuts(runtime), clock),
        slowdown=slowdown,
        batches_from=first_batched_cut(runtime),
    )


def first_batched_cut(runtime: SegmentRuntime) -> int | None:
    """First cut after which all segments say that they take several tensors at once, and give the same for two as for
    each alone; ``None``: the last one does not."""
    tensors = _tensors_of_cuts(runtime)
    first = None
    for index in reversed(range(runtime.manifest.segment_count)):
        if not (runtime.takes_batches(index) and gives_the_same(runtime, index, tensors[index])):
            break
        first = index
    return first


def decode_times_s(manifest: Manifest, tensors: Sequence[NDArray[Any]], clock: Clock) -> tuple[float, ...]:
    """Mean time to decode a payload of cut 0, 1, ... over its offered representations, seconds.

    Args:
        tensors: One of each of these cuts.
    """
    picture = made_up_input(manifest).picture
    decode_s = []
    for cut, tensor in enumerate(tensors):
        medians = []
        for position, entry in enumerate(manifest.cuts[cut].representations):
            if not entry.is_offered or (entry.kind in PICTURE_KINDS and picture is None):
                continue
            payload = encode_payload(manifest, cut, position, tensor, picture)
            times = []
            for _ in range(_DECODE_REPEATS):
                began_s = clock.monotonic_s()
                decode_payload(manifest, cut, payload.header, payload.data)
                times.append(clock.monotonic_s() - began_s)
            medians.append(statistics.median(times))
        decode_s.append(sum(medians) / len(medians) if medians else 0.0)
    return tuple(decode_s)


def _tensors_of_cuts(runtime: SegmentRuntime) -> list[NDArray[Any]]:
    """A tensor of every cut but the last."""
    tensors = [made_up_input(runtime.manifest).tensor]
    for index in range(runtime.manifest.segment_count - 1):
        tensors.append(runtime.run_segment(index, tensors[-1]))
    return tensors
