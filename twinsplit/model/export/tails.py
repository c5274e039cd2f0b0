"""Every tail of a model as an ONNX model by itself, for servers that cannot chain models.

``OUT/NAME/VERSION/model.onnx`` is the whole network, ``OUT/NAME.from_cut_K/VERSION/model.onnx`` the tail after cut K:
the layout that Triton, OpenVINO Model Server and KServe read. Versions lie beside one another. Tails overlap, so
weights would be written again for each. Where that is more than a few megabytes they lie in one file per segment beside
the models, and all models' names for it are links to the same file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinsplit.errors import StorageError, UnsupportedModelError
from twinsplit.model.export.files import copy, make_room_for_version, put
from twinsplit.model.export.graphs import ends_of, joined, move_weights, parts_of, weight_bytes
from twinsplit.model.export.pbtxt import pbtxt
from twinsplit.model.manifest import Manifest, check_files, read_manifest
from twinsplit.oip.names import tail_name

Weights = Literal["auto", "inside", "beside"]
MOST_INSIDE_BYTES = 64 << 20
"""Up to so much in all, weights are simply written into every tail that has them."""
_MOST_IN_FILE_BYTES = 1 << 30
"""Protobuf ends at 2 GB."""


@dataclass(frozen=True, slots=True)
class TailsExport:
    """What was written."""

    models: tuple[str, ...]
    """Names, the whole network first."""
    files: tuple[Path, ...]
    """The ONNX file of each."""
    is_beside: bool
    """Whether weights lie in files that the tails share."""


def export_tails(folder: Path, out: Path, *, weights: Weights = "auto", is_replacing: bool = False) -> TailsExport:
    """Write every tail of the model in ``folder`` into ``out``.

    Raises:
        ModelError: the model folder cannot be used, or has a segment with more than one input.
        StorageError: ``out`` cannot be written.
    """
    manifest, _ = read_manifest(folder)
    check_files(folder, manifest.files())
    for segment in manifest.segments:
        found = ends_of(folder / segment.file)
        named = tuple(manifest.cuts[index].tensor.name for index in (segment.index, segment.index + 1))
        if found != named:
            raise UnsupportedModelError(
                f"{segment.file} goes from {found[0]} to {found[1]}, and its manifest says from {named[0]} to "
                f"{named[1]}; split the model again (twinsplit model split)"
            )
    graphs = parts_of([folder / segment.file for segment in manifest.segments])
    sizes = [weight_bytes(graph) for graph in graphs]
    # Segment k is in the tails after cuts 0..k.
    repeated = sum(size * (index + 1) for index, size in enumerate(sizes))
    is_large = repeated > MOST_INSIDE_BYTES if weights == "auto" else weights == "beside"
    is_beside = is_large or sum(sizes) > _MOST_IN_FILE_BYTES
    make_room_for_version(out, manifest.name, manifest.version, is_replacing=is_replacing)
    with tempfile.TemporaryDirectory(dir=out, prefix=".weights-") as temporary:
        beside = _weight_files(folder, manifest, graphs, Path(temporary), is_beside=is_beside)
        models = tuple(tail_name(manifest.name, cut) for cut in range(manifest.segment_count))
        files = tuple(
            _write_tail(out / name / str(manifest.version), graphs[cut:], name, beside[cut:])
            for cut, name in enumerate(models)
        )
    return TailsExport(models, files, is_beside)


def _weight_files(
    folder: Path, manifest: Manifest, graphs: Sequence[Any], place: Path, *, is_beside: bool
) -> list[list[Path]]:
    """By segment, the files beside it that hold its weights."""
    found = []
    for segment, graph in zip(manifest.segments, graphs, strict=True):
        files = []
        for name in segment.external_files:
            copy(folder / name, place / name)
            files.append(place / name)
        if is_beside:
            file = place / f"segment_{segment.index}.weights"
            try:
                move_weights(graph, file)
            except OSError as error:
                raise StorageError(f"{file}: {error.strerror}; free some space or name another folder") from None
            files.append(file)
        found.append(files)
    return found


def _write_tail(place: Path, graphs: Sequence[Any], name: str, beside: Sequence[Sequence[Path]]) -> Path:
    file = place / "model.onnx"
    # Triton alone reads it, finds the rest in the network itself, and would serve the highest version only.
    config = pbtxt([("name", name), ("backend", "onnxruntime"), ("version_policy", [("all", [])])])
    try:
        place.mkdir(parents=True)
        file.write_bytes(joined(graphs, name).SerializeToString())
        (place.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}; free some space or name another folder") from None
    for each in (weights for of_segment in beside for weights in of_segment):
        put(each, place / each.name)
    return file
