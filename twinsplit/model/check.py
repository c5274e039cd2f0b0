"""Whole network against its segments: the parts of a cut model need not be bit-identical to the whole (fusion differs),
so they are compared with a tolerance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import ModelError
from twinsplit.model.manifest import Manifest
from twinsplit.model.measurement import Progress
from twinsplit.model.payload import decode_payload, encode_as
from twinsplit.model.preprocessing import normalise, picture_shape
from twinsplit.model.profile import random_tensor
from twinsplit.model.runtime import SegmentRuntime, Session, open_session

SOURCE_KEY = "source"
SOURCE_DIGEST_KEY = "source_sha256"
"""Entries of the manifest's provenance that name the file it was made from."""
TOLERANCES = {"float16": 2e-2}
DEFAULT_TOLERANCE = 1e-3
"""Largest difference of an output element, as a share of the largest element."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One input through the whole network and through the segments."""

    name: str
    difference: float
    """Largest absolute difference of an output element, as a share of the largest absolute element of the whole's."""
    is_within: bool
    is_same_label: bool | None
    """``None``: the output is not a classifier's."""


def open_whole(file: Path, manifest: Manifest, *, provider: str = "CPUExecutionProvider", threads: int = 1) -> Session:
    """The uncut network that ``manifest`` was made from, by the names of its input and output.

    Raises:
        ComputeError: ONNX Runtime cannot load it.
    """
    return open_session(
        file,
        provider=provider,
        threads=threads,
        entry=manifest.cuts[0].tensor.name,
        output=manifest.cuts[-1].tensor.name,
    )


def check_source(file: Path, manifest: Manifest) -> None:
    """See that ``file`` is the one the manifest was made from, where it says.

    Raises:
        ModelError: it is another, or cannot be read.
    """
    known = manifest.provenance.get(SOURCE_DIGEST_KEY)
    if known is not None and source_digest(file) != known:
        raise ModelError(
            f"{file}: not the file this model was split from ({manifest.provenance.get(SOURCE_KEY, 'unknown')}); "
            "name that one, or split the model again (twinsplit model split)"
        )


def source_digest(file: Path) -> str:
    """SHA-256 of an ONNX file, external data apart.

    Raises:
        ModelError: it cannot be read.
    """
    hasher = hashlib.sha256()
    try:
        with file.open("rb") as source:
            while chunk := source.read(1 << 20):
                hasher.update(chunk)
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}; name the ONNX file the model was split from") from None
    return hasher.hexdigest()


def random_inputs(manifest: Manifest, count: int, seed: int = 0) -> list[tuple[str, NDArray[Any]]]:
    """Named random inputs: pictures of noise where frames are pictures, else normal deviates."""
    rng = np.random.default_rng(seed)
    spec = manifest.cuts[0].tensor
    inputs: list[tuple[str, NDArray[Any]]] = []
    for index in range(count):
        if manifest.preprocessing.kind == "image":
            shape = picture_shape(manifest.preprocessing, spec)
            tensor = normalise(rng.integers(0, 256, shape, dtype=np.uint8), manifest)
        else:
            tensor = random_tensor(spec.shape, spec.dtype, rng)
        inputs.append((f"random {index + 1}", tensor))
    return inputs


def compare(
    whole: Session,
    runtime: SegmentRuntime,
    inputs: Iterable[tuple[str, NDArray[Any]]],
    *,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> list[Comparison]:
    """Run every (name, input tensor) through ``whole`` and through all segments.

    Between segments the tensor goes through its lossless representation, as an offload at that cut would send it.

    Args:
        whole: the uncut network.
        runtime: all segments.
        inputs: as cut 0 has them.
        tolerance: see :data:`DEFAULT_TOLERANCE`; ``None``: by the output's type.
        progress: told after every input.

    Raises:
        ComputeError: ONNX Runtime fails.
    """
    manifest = runtime.manifest
    limit = TOLERANCES.get(manifest.cuts[-1].tensor.dtype, DEFAULT_TOLERANCE) if tolerance is None else tolerance
    comparisons = []
    listed = list(inputs)
    for number, (name, tensor) in enumerate(listed, start=1):
        expected = whole.run(tensor)
        for index in range(manifest.segment_count):
            tensor = runtime.run_segment(index, _through_the_wire(manifest, index, tensor))
        difference = relative_difference(expected, tensor)
        is_same = None
        if manifest.task == "classification":
            is_same = int(expected.reshape(-1).argmax()) == int(tensor.reshape(-1).argmax())
        comparisons.append(Comparison(name, difference, difference <= limit, is_same))
        if progress is not None:
            progress("comparing whole and segments", number, len(listed))
    return comparisons


def relative_difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest absolute difference as a share of the largest absolute value expected; infinite where shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    first, second = expected.astype(np.float64), found.astype(np.float64)
    is_plain = np.isfinite(first)
    if not np.array_equal(first[~is_plain], second[~is_plain], equal_nan=True):
        return float("inf")
    largest = float(np.abs(first[is_plain]).max(initial=0.0))
    difference = float(np.abs(first[is_plain] - second[is_plain]).max(initial=0.0))
    if np.isnan(difference):
        return float("inf")
    return difference / largest if largest > 0.0 else difference


def _through_the_wire(manifest: Manifest, cut: int, tensor: NDArray[Any]) -> NDArray[Any]:
    for entry in manifest.cuts[cut].representations:
        if entry.kind == "float32":
            encoded = encode_as(manifest, cut, entry, tensor)
            return decode_payload(manifest, cut, encoded.header, encoded.data)
    return tensor
