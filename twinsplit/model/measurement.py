"""What every representation of every cut costs in bytes, time and accuracy, measured over frames.

Segments run once per frame; from each cut only the tails are run again, and those only for representations whose
decoded tensor differs from the exact one. Codecs lose nothing, so they share the run of their representation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import FrameError, SettingsError, TensorError
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import CodecName, Manifest, RepresentationEntry, RepresentationKind
from twinsplit.model.payload import decode_payload, encode_as
from twinsplit.model.preprocessing import PreparedInput, prepare
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told (what is done, how much of it is done, how much there is)."""

DEFAULT_TOLERANCE = 0.005
"""Loss of accuracy above which a representation is not offered: half a point."""
JPEG_QUALITIES = (60, 75, 90)
_CODECS: tuple[CodecName, ...] = ("none", "zstd")
_TENSOR_KINDS: tuple[RepresentationKind, ...] = ("float32", "float16", "uint8", "uint4")
_LEAST_SAVING = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """Result of :func:`measure`."""

    whole_accuracy: float | None
    basis: Literal["labels", "agreement", "none"]
    representations: tuple[tuple[RepresentationEntry, ...], ...]
    """By cut 0..m; the output (cut m) has none."""
    frame_count: int
    skipped: tuple[str, ...] = ()
    """Frames that could not be read, each with its reason."""


@dataclass(slots=True)
class _Tally:
    entries: list[RepresentationEntry]
    """Codecs of one representation."""
    sizes: list[list[int]] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)
    score: float = 0.0
    is_possible: bool = True


def measure(
    runtime: SegmentRuntime,
    frames: LabelledFrames,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Measurement:
    """Measure every representation over ``frames``.

    With labels accuracy is the share of right answers; without it is agreement with the whole network's answer. For
    ``task="raw"`` it is the mean of 1 - |difference| / |output| (Euclidean norms, at least 0), also called agreement.

    Args:
        runtime: all segments, in whose manifest representations need not be stated yet.
        frames: frames of any size.
        tolerance: loss above which a representation is not offered, as a share (0.005 is half a point).
        progress: told after every frame.
        clock: for encoding times.

    Raises:
        SettingsError: a label that is no output of the network.
        FrameError: not one of the frames can be read.
        ComputeError: ONNX Runtime fails.
    """
    # Only what a manifest lists can be decoded.
    manifest = _with_candidates(runtime.manifest)
    now_s = (clock or SystemClock()).monotonic_s
    is_labelled = frames.labels is not None and manifest.task == "classification"
    outputs = math.prod(manifest.cuts[-1].tensor.shape)
    if frames.labels is not None and is_labelled and max(frames.labels) >= outputs:
        raise SettingsError(
            f"a frame is labelled {max(frames.labels)}, but the network has {outputs} outputs, from 0; correct the "
            "table of labels, or leave it out"
        )
    tallies = [[_Tally(group) for group in _groups(manifest, cut)] for cut in range(manifest.segment_count)]
    baseline = 0.0
    count = 0
    skipped: list[str] = []
    for number, (name, frame, label) in enumerate(frames, start=1):
        try:
            prepared = prepare(frame, manifest)
        except FrameError as error:
            skipped.append(f"{name}: {error}")
            continue
        tensors = [prepared.tensor]
        for index in range(manifest.segment_count):
            tensors.append(runtime.run_segment(index, tensors[-1]))
        expected = label if is_labelled else None
        exact_score = score(manifest, tensors[-1], tensors[-1], expected)
        baseline += exact_score
        count += 1
        for cut, groups in enumerate(tallies):
            for tally in groups:
                decoded = _measured_codecs(manifest, cut, tally, tensors[cut], prepared, now_s)
                if decoded is None:
                    continue
                if np.array_equal(decoded, tensors[cut]):
                    tally.score += exact_score
                    continue
                output = runtime.run_tail(cut, decoded)
                if output is not None:
                    tally.score += score(manifest, output, tensors[-1], expected)
        if progress is not None:
            progress("measuring representations", number, len(frames))
    if not count:
        raise FrameError(
            f"none of {len(frames)} frames can be read; the first: {skipped[0] if skipped else 'no frame'}"
        )
    return Measurement(
        whole_accuracy=baseline / count,
        basis="labels" if is_labelled else "agreement",
        representations=(
            *(
                tuple(e for tally in groups for e in _finished(tally, count, baseline / count, tolerance))
                for groups in tallies
            ),
            (),
        ),
        frame_count=count,
        skipped=tuple(skipped),
    )


def unmeasured(runtime: SegmentRuntime, prepared: PreparedInput, *, clock: Clock | None = None) -> Measurement:
    """What can be said without frames: only float32 is offered, with its exact bytes and one encoding time.

    Raises:
        ComputeError: ONNX Runtime fails.
    """
    now_s = (clock or SystemClock()).monotonic_s
    manifest = runtime.manifest
    tensor = prepared.tensor
    representations: list[tuple[RepresentationEntry, ...]] = []
    for cut in range(manifest.segment_count):
        entry = _entry("float32")
        started_s = now_s()
        encoded = encode_as(manifest, cut, entry, tensor)
        seconds = now_s() - started_s
        representations.append((entry.model_copy(update={"mean_bytes": len(encoded.data), "encode_s": seconds}),))
        tensor = runtime.run_segment(cut, tensor)
    return Measurement(None, "none", (*representations, ()), 0)


def with_measurement(manifest: Manifest, measurement: Measurement) -> Manifest:
    """``manifest`` with the representations, the accuracy and the basis that were measured."""
    cuts = [
        cut.model_copy(update={"representations": entries})
        for cut, entries in zip(manifest.cuts, measurement.representations, strict=True)
    ]
    accuracy = measurement.whole_accuracy
    counted = {"accuracy_frames": str(measurement.frame_count)} if measurement.frame_count else {}
    return manifest.model_copy(
        update={
            "cuts": tuple(cuts),
            "whole_accuracy": None if accuracy is None else round(accuracy, 6),
            "accuracy_basis": measurement.basis,
            "provenance": manifest.provenance | counted,
        }
    )


def score(manifest: Manifest, output: NDArray[Any], exact: NDArray[Any], label: int | None) -> float:
    """1 for a right answer (without ``label``: the exact one), else 0; for raw outputs a share (:func:`measure`)."""
    if manifest.task == "classification":
        return float(int(output.reshape(-1).argmax()) == (int(exact.reshape(-1).argmax()) if label is None else label))
    exact_values = exact.astype(np.float64).reshape(-1)
    difference = float(np.linalg.norm(output.astype(np.float64).reshape(-1) - exact_values))
    norm = float(np.linalg.norm(exact_values))
    if difference == 0.0:
        return 1.0
    return max(0.0, 1.0 - difference / norm) if norm > 0.0 else 0.0


def _with_candidates(manifest: Manifest) -> Manifest:
    """``manifest`` with every representation that a cut could have, nothing measured yet."""
    cuts = [
        cut.model_copy(update={"representations": tuple(e for group in _groups(manifest, cut.index) for e in group)})
        for cut in manifest.cuts[:-1]
    ]
    return manifest.model_copy(update={"cuts": (*cuts, manifest.cuts[-1])})


def _groups(manifest: Manifest, cut: int) -> list[list[RepresentationEntry]]:
    """Representations that decode to the same tensor, one list each."""
    dtype = manifest.cuts[cut].tensor.dtype
    kinds = {"float32": _TENSOR_KINDS, "float64": _TENSOR_KINDS, "float16": ("float32", "uint8", "uint4")}
    groups = [[_entry(kind, codec=codec) for codec in _CODECS] for kind in kinds.get(dtype, ("float32",))]
    if cut == 0 and manifest.preprocessing.kind == "image":
        groups.append([_entry("png")])
        groups.extend([_entry("jpeg", quality=quality)] for quality in JPEG_QUALITIES)
    return groups


def _entry(kind: RepresentationKind, *, codec: CodecName = "none", quality: int | None = None) -> RepresentationEntry:
    return RepresentationEntry(kind=kind, codec=codec, quality=quality, mean_bytes=1.0, encode_s=0.0)


def _measured_codecs(
    manifest: Manifest,
    cut: int,
    tally: _Tally,
    tensor: NDArray[Any],
    prepared: PreparedInput,
    now_s: Callable[[], float],
) -> NDArray[Any] | None:
    """Encode with every codec, book bytes and seconds, and decode one of them; ``None``: not possible for this cut."""
    if not tally.is_possible:
        return None
    sizes, seconds = [], []
    encoded: EncodedTensor | None = None
    with suppress(TensorError):
        # Unless the caches are warm, the codec that comes first looks slow.
        encode_as(manifest, cut, tally.entries[0], tensor, prepared.picture)
    for entry in tally.entries:
        started_s = now_s()
        try:
            encoded = encode_as(manifest, cut, entry, tensor, prepared.picture)
        except TensorError:
            # Such as a value that is not finite, which no affine representation holds.
            tally.is_possible = False
            return None
        seconds.append(now_s() - started_s)
        sizes.append(len(encoded.data))
    tally.sizes.append(sizes)
    tally.seconds.append(seconds)
    assert encoded is not None
    return decode_payload(manifest, cut, encoded.header, encoded.data)


def _finished(tally: _Tally, count: int, baseline: float, tolerance: float) -> Sequence[RepresentationEntry]:
    if not tally.is_possible:
        return []
    accuracy = tally.score / count
    loss = max(0.0, baseline - accuracy)
    sizes = np.mean(np.asarray(tally.sizes, dtype=np.float64), axis=0)
    finished = []
    for position, entry in enumerate(tally.entries):
        if position and sizes[position] > (1.0 - _LEAST_SAVING) * sizes[0]:
            continue  # the codec saves nothing worth its time
        finished.append(
            entry.model_copy(
                update={
                    "mean_bytes": round(float(sizes[position]), 1),
                    "encode_s": round(statistics.median(s[position] for s in tally.seconds), 9),
                    "accuracy": round(accuracy, 6),
                    "loss": round(loss, 6),
                    "is_offered": loss <= tolerance,
                }
            )
        )
    return finished
