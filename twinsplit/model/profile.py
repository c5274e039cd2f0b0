"""How long segments, exits and encoders take on this machine, measured; kept as JSON beside a service's state."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import ModelFileError, StorageError, TensorError
from twinsplit.model.manifest import Manifest
from twinsplit.model.payload import PICTURE_KINDS, encode_payload
from twinsplit.model.preprocessing import PreparedInput, normalise, picture_shape
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.whole_file import write_whole

PROFILE_FORMAT = 2
"""Format 1 has times alone, and is still read."""
_WARM_UP = 2
_FEWEST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Powers:
    """What a device draws, as calibrated."""

    source: str
    """Meter that measured it; ``given``: told by a person."""
    idle_watts: float
    busy_watts: float
    """Of the whole device while it runs the network without a pause."""
    busy_cores: float
    """Processor seconds per second that this took, above 0."""
    transmit_watts: float | None = None
    """Added while sending; ``None``: not measured."""

    @property
    def compute_watts(self) -> float:
        """Added while computing."""
        return max(0.0, self.busy_watts - self.idle_watts)


@dataclass(frozen=True, slots=True)
class UplinkMeasurement:
    """The way to an edge, as calibrated."""

    edge: str
    """HOST:PORT."""
    goodput_bytes_per_s: float
    round_trip_s: float
    """Without payload."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Median times of one model on one machine, seconds, and what a calibration measured besides."""

    model_digest: str
    provider: str
    threads: int
    machine: str
    """Processor and operating system, free text."""
    repeats: int
    segment_s: tuple[float, ...]
    """By segment index from 0; as many as the runtime held."""
    exit_s: tuple[float, ...]
    """By exit index; as many as the runtime held."""
    encode_s: dict[tuple[int, int], float]
    """(cut, position of the representation) to encoding time, for every offered representation of a held cut."""
    speed_share: float | None = None
    """Speed of the processor meanwhile over its full speed; ``None``: unknown, taken as full."""
    powers: Powers | None = None
    uplink: UplinkMeasurement | None = None

    def tail_s(self, cut: int) -> float:
        """Time of the segments after ``cut``."""
        return sum(self.segment_s[cut:])

    def fits(self, runtime: SegmentRuntime) -> bool:
        """Whether it was measured on this model with this provider and as many threads, and has the times of all that
        ``runtime`` holds."""
        exits = runtime.manifest.exits
        return (
            (self.model_digest, self.provider, self.threads) == (runtime.digest, runtime.provider, runtime.threads)
            and len(self.segment_s) == len(runtime.segments)
            and sum(runtime.holds_exit(e.index) for e in exits) <= len(self.exit_s) <= len(exits)
        )


def measure_profile(
    runtime: SegmentRuntime,
    repeats: int = 20,
    progress: Callable[[int, int], None] | None = None,
    *,
    clock: Clock | None = None,
    budget_s: float = 20.0,
) -> Profile:
    """Run every loaded segment, exit and offered representation ``repeats`` times on a made-up frame.

    Args:
        runtime: holds segments from 0 on.
        progress: told (runs done, runs in all) after every run through the network.
        budget_s: ends early (after three runs) when so many seconds have passed, for slow machines.

    Raises:
        ComputeError: ONNX Runtime fails.
    """
    now_s = (clock or SystemClock()).monotonic_s
    manifest = runtime.manifest
    prepared = made_up_input(manifest)
    held_exits = [e for e in manifest.exits if runtime.holds_exit(e.index)]
    segment_times: list[list[float]] = [[] for _ in runtime.segments]
    exit_times: list[list[float]] = [[] for _ in held_exits]
    encode_times: dict[tuple[int, int], list[float]] = {}
    began_s = now_s()
    done = 0
    for run in range(_WARM_UP + repeats):
        is_counted = run >= _WARM_UP
        tensor = prepared.tensor
        for cut in range(len(runtime.segments) + 1):
            picture = prepared.picture if cut == 0 else None
            for position, seconds in _encoding_times(manifest, cut, tensor, picture, now_s):
                if is_counted:
                    encode_times.setdefault((cut, position), []).append(seconds)
            for order, exit_ in enumerate(held_exits):
                if exit_.after_segment == cut:
                    started_s = now_s()
                    runtime.run_exit(exit_.index, tensor)
                    if is_counted:
                        exit_times[order].append(now_s() - started_s)
            if cut < len(runtime.segments):
                started_s = now_s()
                tensor = runtime.run_segment(cut, tensor)
                if is_counted:
                    segment_times[cut].append(now_s() - started_s)
        done += is_counted
        if progress is not None:
            progress(run + 1, _WARM_UP + repeats)
        if done >= _FEWEST_REPEATS and now_s() - began_s > budget_s:
            break
    return Profile(
        model_digest=runtime.digest,
        provider=runtime.provider,
        threads=runtime.threads,
        machine=machine_name(),
        repeats=done,
        segment_s=tuple(statistics.median(times) for times in segment_times),
        exit_s=tuple(statistics.median(times) for times in exit_times),
        encode_s={key: statistics.median(times) for key, times in encode_times.items()},
    )


def made_up_input(manifest: Manifest, seed: int = 0) -> PreparedInput:
    """An input as from a camera (soft shapes and noise), or random numbers where frames are tensors."""
    rng = np.random.default_rng(seed)
    spec = manifest.cuts[0].tensor
    if manifest.preprocessing.kind == "image":
        height, width, channels = picture_shape(manifest.preprocessing, spec)
        rows, columns = np.mgrid[0:height, 0:width]
        waves = [
            np.sin(rows * a + columns * b + c) for a, b, c in rng.uniform((-0.1, -0.1, 0), (0.1, 0.1, 6), (channels, 3))
        ]
        noise = rng.normal(0.0, 4.0, (height, width, channels))
        picture = (127.5 + 90.0 * np.stack(waves, axis=-1) + noise).clip(0, 255).astype(np.uint8)
        return PreparedInput(picture=picture, tensor=normalise(picture, manifest))
    return PreparedInput(picture=None, tensor=random_tensor(spec.shape, spec.dtype, rng))


def random_tensor(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> NDArray[Any]:
    """Normal deviates, or for integer types 0 and 1, which are valid as index, token or truth value alike."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    return rng.integers(0, 2, shape).astype(kind)


def save_profile(profile: Profile, path: Path) -> None:
    """Write ``profile`` as JSON, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    document = asdict(profile) | {
        "format": PROFILE_FORMAT,
        "encode_s": [[cut, position, seconds] for (cut, position), seconds in sorted(profile.encode_s.items())],
    }
    try:
        write_whole(path, (json.dumps(document, indent=2) + "\n").encode())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; free some space or name another file") from None


def load_profile(path: Path) -> Profile:
    """Read what :func:`save_profile` wrote, of this version or an older one.

    Raises:
        ModelFileError: missing, unreadable or not a profile of a format that is known.
    """
    cure = "measure again (twinsplit model profile --out FILE)"
    try:
        return _Document.model_validate_json(path.read_text(encoding="utf-8")).profile()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}; {cure}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise ModelFileError(
            f"{path}: not a profile that this version reads ({place}: {first['msg']}); {cure}"
        ) from None
    except ValueError:
        raise ModelFileError(f"{path}: not a profile, which is UTF-8 text; {cure}") from None


_Known = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Powers(_Part):
    source: str
    idle_watts: _Known
    busy_watts: _Known
    busy_cores: _Positive
    transmit_watts: _Known | None = None


class _Uplink(_Part):
    edge: str
    goodput_bytes_per_s: _Positive
    round_trip_s: _Known


class _Document(_Part):
    """The file's schema."""

    format: Literal[1, 2]
    model_digest: str
    provider: str
    threads: int = Field(ge=1)
    machine: str
    repeats: int = Field(ge=0)
    segment_s: tuple[_Known, ...]
    exit_s: tuple[_Known, ...]
    encode_s: tuple[tuple[int, int, _Known], ...]
    speed_share: _Positive | None = None
    powers: _Powers | None = None
    uplink: _Uplink | None = None

    @model_validator(mode="after")
    def _has_what_its_format_has(self) -> _Document:
        newer = {"speed_share", "powers", "uplink"} & self.model_fields_set
        if self.format == 1 and newer:
            raise ValueError(f"format 1 has no {', '.join(sorted(newer))}")
        return self

    def profile(self) -> Profile:
        """What it says."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "format"}
        values["encode_s"] = {(cut, position): seconds for cut, position, seconds in self.encode_s}
        values["powers"] = None if self.powers is None else Powers(**self.powers.model_dump())
        values["uplink"] = None if self.uplink is None else UplinkMeasurement(**self.uplink.model_dump())
        return Profile(**values)


def machine_name() -> str:
    """Processor and operating system as far as they are known, for provenance."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{processor}, {platform.system()} {platform.machine()}"


def _encoding_times(
    manifest: Manifest,
    cut: int,
    tensor: NDArray[Any],
    picture: NDArray[np.uint8] | None,
    now_s: Callable[[], float],
) -> list[tuple[int, float]]:
    times = []
    for position, entry in enumerate(manifest.cuts[cut].representations):
        if not entry.is_offered or (entry.kind in PICTURE_KINDS and picture is None):
            continue
        started_s = now_s()
        try:
            encode_payload(manifest, cut, position, tensor, picture)
        except TensorError:
            continue
        times.append((position, now_s() - started_s))
    return times
