"""A Triton model repository: each segment a model, so that weights are loaded once, and each tail an ensemble of them.

``NAME.segment_K`` runs segment K; ``NAME`` (the whole network) and ``NAME.from_cut_K`` chain segments. Where all
segments take several tensors at once, Triton may batch requests of different tails at every segment that they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from twinsplit.errors import StorageError
from twinsplit.model.batches import gives_the_same
from twinsplit.model.export.files import copy, make_room
from twinsplit.model.export.graphs import ends_of
from twinsplit.model.export.pbtxt import Field, Message, Word, pbtxt
from twinsplit.model.manifest import Manifest, TensorSpec, check_files, read_manifest
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip.datatypes import DATATYPES
from twinsplit.oip.names import tail_name

Backend = Literal["onnxruntime", "python"]
InstanceKind = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """How Triton is to run the segments."""

    backend: Backend = "onnxruntime"
    """``python``: by ONNX Runtime in Triton's Python backend, for builds of Triton without the other one."""
    instances: int = 1
    """Executions of each segment at once."""
    kind: InstanceKind = "auto"
    max_batch: int = 8
    """Tensors at once where all segments take several; 1: each by itself."""
    batch_delay_us: int = 0
    """How long Triton may wait for a batch to fill, microseconds."""
    threads: int = 1
    """Threads of one execution on a CPU."""


@dataclass(frozen=True, slots=True)
class TritonExport:
    """What was written."""

    models: tuple[str, ...]
    """Names of the ensembles, the whole network first."""
    segments: tuple[str, ...]
    max_batch: int
    """0: requests are not batched."""


def export_triton(
    folder: Path, out: Path, settings: TritonSettings | None = None, *, is_replacing: bool = False
) -> TritonExport:
    """Write the model in ``folder`` as a Triton model repository ``out``.

    Raises:
        ModelError: the model folder cannot be used, or has a segment with more than one input.
        StorageError: ``out`` cannot be written.
    """
    settings = settings or TritonSettings()
    manifest, _ = read_manifest(folder)
    check_files(folder, manifest.files())
    max_batch = settings.max_batch if settings.max_batch > 1 and _takes_batches(folder) else 0
    make_room(out, manifest.name, is_replacing=is_replacing)
    segments = []
    for segment in manifest.segments:
        name = f"{manifest.name}.segment_{segment.index}"
        entry, output = manifest.cuts[segment.index].tensor, manifest.cuts[segment.index + 1].tensor
        write_model(out / name, 1, folder / segment.file, entry, output, settings, max_batch, [*segment.external_files])
        segments.append(name)
    models = tuple(tail_name(manifest.name, cut) for cut in range(manifest.segment_count))
    for cut, name in enumerate(models):
        _write(out / name / "config.pbtxt", pbtxt(_ensemble(manifest, cut, name, segments, folder, max_batch)))
        # An ensemble has no files, but its version must be there.
        _folder(out / name / str(manifest.version))
    return TritonExport(models, tuple(segments), max_batch)


def write_model(
    model: Path,
    version: int,
    onnx_file: Path,
    entry: TensorSpec,
    output: TensorSpec,
    settings: TritonSettings,
    max_batch: int,
    external_files: Sequence[str] = (),
) -> None:
    """One model of a repository, ``model``, that runs ``onnx_file`` from tensor ``entry`` to tensor ``output``.

    Args:
        max_batch: 0: the file takes one tensor at a time.
        external_files: names of files beside ``onnx_file`` that hold its weights.

    Raises:
        ModelError: the file has more than one input.
        StorageError: it cannot be written.
    """
    place = _folder(model / str(version))
    copy(onnx_file, place / "model.onnx")
    for name in external_files:
        copy(onnx_file.parent / name, place / name)
    if settings.backend == "python":
        source = resources.files("twinsplit.model.export").joinpath("triton_model.py").read_text(encoding="utf-8")
        _write(place / "model.py", source)
    entry_name, output_name = ends_of(onnx_file)
    config: list[Field] = [
        ("name", model.name),
        ("backend", settings.backend),
        ("max_batch_size", max_batch),
        ("input", _tensor(entry_name, entry, max_batch)),
        ("output", _tensor(output_name, output, max_batch)),
        ("instance_group", [("count", settings.instances), ("kind", Word(f"KIND_{settings.kind.upper()}"))]),
    ]
    if max_batch:
        config.append(("dynamic_batching", [("max_queue_delay_microseconds", settings.batch_delay_us)]))
    for key in ("intra_op_thread_count", "inter_op_thread_count"):
        count = settings.threads if key.startswith("intra") else 1
        config.append(("parameters", [("key", key), ("value", [("string_value", str(count))])]))
    _write(model / "config.pbtxt", pbtxt(config))


def _ensemble(
    manifest: Manifest, cut: int, name: str, segments: Sequence[str], folder: Path, max_batch: int
) -> Message:
    last = manifest.segment_count
    names = [each.tensor.name for each in manifest.cuts]
    steps: list[Field] = []
    for index in range(cut, last):
        entry_name, output_name = ends_of(folder / manifest.segments[index].file)
        step: Message = [
            ("model_name", segments[index]),
            ("model_version", -1),
            ("input_map", [("key", entry_name), ("value", names[index])]),
            ("output_map", [("key", output_name), ("value", names[index + 1])]),
        ]
        steps.append(("step", step))
    entry, output = manifest.cuts[cut].tensor, manifest.cuts[last].tensor
    return [
        ("name", name),
        ("platform", "ensemble"),
        ("max_batch_size", max_batch),
        ("input", _tensor(entry.name, entry, max_batch)),
        ("output", _tensor(output.name, output, max_batch)),
        ("ensemble_scheduling", steps),
    ]


def _tensor(name: str, spec: TensorSpec, max_batch: int) -> Message:
    sizes = spec.shape[1:] if max_batch else spec.shape
    kind = Word(f"TYPE_{DATATYPES[spec.dtype]}")
    return [("name", name), ("data_type", kind), *(("dims", size) for size in sizes)]


def _takes_batches(folder: Path) -> bool:
    """Whether every segment takes several tensors at once, and gives the same for two as for each alone."""
    runtime = SegmentRuntime.load(folder, with_exits=False)
    if any(len(cut.tensor.shape) < 2 for cut in runtime.manifest.cuts):
        return False
    tensor = made_up_input(runtime.manifest).tensor
    for index in runtime.segments:
        if not (runtime.takes_batches(index) and gives_the_same(runtime, index, tensor)):
            return False
        tensor = runtime.run_segment(index, tensor)
    return True


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; name a folder that can be written") from None
    return folder


def _write(file: Path, text: str) -> None:
    _folder(file.parent)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}; free some space or name another folder") from None
