"""What frozen segments make of frames: pooled features at some cuts, and the network's own output as the teacher's.

Every view of a frame runs through the network once; training then reads its features as often as it likes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import FrameError, ModelError, StorageError
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import Manifest
from twinsplit.model.measurement import Progress
from twinsplit.model.preprocessing import normalise, prepare
from twinsplit.model.runtime import SegmentRuntime, Session
from twinsplit.model.views import altered

IN_MEMORY_BYTES = 512 * 1024 * 1024
"""Features that take more, all cuts together, lie in files that are mapped into memory."""
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class FrozenFeatures:
    """Of N rows: every frame as it is, then its altered views."""

    by_cut: dict[int, NDArray[np.float32]]
    """Cut to (N, F)."""
    outputs: NDArray[np.float32]
    """(N, K) logits of the whole network (logarithms where it gives probabilities)."""
    labels: NDArray[np.int64] | None
    """(N,) class indices, where known."""
    views: int
    """Rows per frame."""
    skipped: tuple[str, ...]
    """Frames that could not be read, each with its reason."""

    @property
    def frame_count(self) -> int:
        """Frames that could be read."""
        return len(self.outputs) // self.views

    @property
    def teacher_accuracy(self) -> float | None:
        """Share of frames, as they are, that the whole network gets right; ``None`` without labels."""
        if self.labels is None:
            return None
        return float((self.outputs.argmax(axis=1) == self.labels)[:: self.views].mean())


def run_frozen(
    runtime: SegmentRuntime,
    poolings: Mapping[int, Session],
    frames: LabelledFrames,
    *,
    folder: Path,
    views: int = 1,
    seed: int = 1,
    in_memory_bytes: int = IN_MEMORY_BYTES,
    progress: Progress | None = None,
) -> FrozenFeatures:
    """Run ``frames`` through the network and keep what ``poolings`` make of its cuts.

    Args:
        runtime: all segments of a classifier.
        poolings: cut to the session that pools its tensor to (1, F) float32.
        frames: frames of any size; those that cannot be read are left out.
        folder: for mapped files; they are the caller's to remove.
        views: how often a frame is run: as it is, and in ``views`` - 1 altered views; 1 where frames are tensors.
        seed: of the views.
        in_memory_bytes: up to here features stay in memory.
        progress: told after every frame.

    Raises:
        FrameError: not one of the frames can be read.
        ModelError: a cut's tensor or the output holds values that are not finite.
        StorageError: the disk is full or cannot be written.
        ComputeError: ONNX Runtime fails.
    """
    manifest = runtime.manifest
    views = views if manifest.preprocessing.kind == "image" else 1
    by_cut: dict[int, NDArray[np.float32]] = {}
    outputs: list[NDArray[np.float32]] = []
    labels: list[int] = []
    skipped: list[str] = []
    for number, (name, frame, label) in enumerate(frames):
        try:
            prepared = prepare(frame, manifest)
        except FrameError as error:
            skipped.append(f"{name}: {error}")
            continue
        rng = np.random.default_rng((seed, number))
        for view in range(views):
            tensor = prepared.tensor
            if view and prepared.picture is not None:
                tensor = normalise(altered(prepared.picture, rng), manifest)
            pooled, output = _run(runtime, poolings, tensor)
            if not all(np.isfinite(values).all() for values in (output, *pooled.values())):
                raise ModelError(f"{name}: the network makes values of it that are not finite; leave the frame out")
            if not by_cut:
                sizes = {cut: len(values) for cut, values in pooled.items()}
                by_cut = _reserved(len(frames) * views, sizes, folder, in_memory_bytes)
            for cut, values in pooled.items():
                by_cut[cut][len(outputs)] = values
            outputs.append(output)
            if label is not None:
                labels.append(label)
        if progress is not None:
            progress("running frames through the frozen segments", number + 1, len(frames))
    if not outputs:
        first = skipped[0] if skipped else "no frame"
        raise FrameError(f"none of {len(frames)} frames can be read; the first: {first}")
    return FrozenFeatures(
        by_cut={cut: values[: len(outputs)] for cut, values in by_cut.items()},
        outputs=np.stack(outputs),
        labels=np.asarray(labels, dtype=np.int64) if frames.labels is not None else None,
        views=views,
        skipped=tuple(skipped),
    )


def _run(
    runtime: SegmentRuntime, poolings: Mapping[int, Session], tensor: NDArray[Any]
) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
    """Features (F,) by cut, and logits (K,)."""
    pooled: dict[int, NDArray[np.float32]] = {}
    for cut in range(runtime.manifest.segment_count):
        if cut in poolings:
            pooled[cut] = poolings[cut].run(tensor)[0]
        tensor = runtime.run_segment(cut, tensor)
    return pooled, _logits(runtime.manifest, tensor)


def _logits(manifest: Manifest, output: NDArray[Any]) -> NDArray[np.float32]:
    """Logits (K,), and for a network that gives probabilities their logarithms."""
    flat: NDArray[np.float32] = output.reshape(-1).astype(np.float32)
    return np.log(np.maximum(flat, _LEAST_PROBABILITY)) if manifest.output_activation == "probabilities" else flat


def _reserved(
    count: int, sizes: Mapping[int, int], folder: Path, in_memory_bytes: int
) -> dict[int, NDArray[np.float32]]:
    if 4 * count * sum(sizes.values()) <= in_memory_bytes:
        return {cut: np.empty((count, size), np.float32) for cut, size in sizes.items()}
    mapped: dict[int, NDArray[np.float32]] = {}
    try:
        for cut, size in sizes.items():
            path = folder / f"features-{cut}"
            with path.open("wb") as file:
                # A mapped file with holes would end the process, with no word said, where the disk is full.
                os.posix_fallocate(file.fileno(), 0, 4 * count * size)
            mapped[cut] = np.memmap(path, np.float32, "r+", shape=(count, size))
        return mapped
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; free some space, or use fewer frames (--max-frames)") from None
