"""From one ONNX file to a model folder: cut, write, compare, measure, calibrate, and only then put in place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from twinsplit import __version__
from twinsplit.errors import SettingsError, UnsupportedModelError
from twinsplit.model.batches import gives_the_same
from twinsplit.model.calibration import DEFAULT_BINS
from twinsplit.model.check import SOURCE_DIGEST_KEY, SOURCE_KEY, compare, open_whole, random_inputs, source_digest
from twinsplit.model.cuts import (
    DEFAULT_MAX_SEGMENTS,
    CutCandidate,
    choose_cuts,
    find_cuts,
    resolve_cuts,
    tensors_called,
)
from twinsplit.model.draft import ModelDraft, check_out
from twinsplit.model.exits import attach
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.graph import Network, load_network
from twinsplit.model.manifest import MOST_CLASS_NAME, Cut, Manifest, Preprocessing, TensorSpec
from twinsplit.model.measurement import (
    DEFAULT_TOLERANCE,
    Progress,
    measure,
    unmeasured,
    with_measurement,
)
from twinsplit.model.preprocessing import picture_shape
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.model.segments import EXTERNAL_OVER_BYTES

Task = Literal["auto", "classification", "raw"]
ExitFiles: TypeAlias = Mapping[int, Path] | Mapping[str, Path] | Mapping[int | str, Path]
_COMPARED_INPUTS = 2
_SHAPING_OPS = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "QuantizeLinear", "DequantizeLinear"}
)
_PROBABILITY_OPS = frozenset({"Softmax", "Sigmoid", "QLinearSoftmax", "QLinearSigmoid"})


@dataclass(frozen=True)
class CutSettings:
    """Where to cut. Names are those of tensors, or of nodes for their first output."""

    cuts: Sequence[str] = ()
    """Exactly these; empty: chosen, see :func:`twinsplit.model.cuts.choose_cuts`."""
    never: Sequence[str] = ()
    max_segments: int | None = None
    """``None``: as many as ``cuts`` make; where these are chosen, :data:`twinsplit.model.cuts.DEFAULT_MAX_SEGMENTS`."""
    shapes: Mapping[str, tuple[int, ...]] | None = None
    """Input name to shape, for symbolic dimensions."""
    output: str | None = None
    """The output to keep where there are several."""
    external_over_bytes: int = EXTERNAL_OVER_BYTES
    is_batch: bool = False
    """Leave the first axis of cuts open, so that an edge may run several tails at once."""


@dataclass(frozen=True)
class BuildReport:
    """What :func:`build_model` made."""

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]
    """What was assumed, left out or could not be measured, for the person who splits."""


def build_model(
    whole: Path,
    out: Path,
    *,
    name: str | None = None,
    version: int = 1,
    cutting: CutSettings | None = None,
    exits: ExitFiles | None = None,
    task: Task = "auto",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    test: LabelledFrames | None = None,
    calibration: LabelledFrames | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    bins: int = DEFAULT_BINS,
    device_segments: int | None = None,
    provenance: Mapping[str, str] | None = None,
    threads: int = 0,
    is_replacing: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Make the model folder ``out`` from the ONNX file ``whole``.

    Args:
        whole: the network; external data beside it.
        out: the model folder; nothing is written there before all has succeeded.
        name: name in the manifest; ``None``: from the file's.
        version: version in the manifest, from 1.
        cutting: where to cut.
        exits: early-exit classifiers by the cut (number or tensor name) they read; ONNX files from the cut's tensor to
            logits (1, K). They need ``test`` and ``calibration``.
        task: ``auto`` takes an output (1, K) or (1, K, 1, 1) of floats for a classifier's.
        classes: class names by output index.
        preprocessing: ``None``: frames are tensors.
        test: frames to measure representations and exits over; ``None``: only float32 is offered.
        calibration: frames to calibrate exits with, apart from ``test``.
        tolerance: loss of accuracy above which a representation is not offered, as a share.
        bins: confidence bins per exit.
        device_segments: how many segments a device holds; ``None``: all.
        provenance: more entries for the manifest's.
        threads: of ONNX Runtime while measuring; 0: all cores.
        is_replacing: take the place of a model that is in ``out`` (other files there stay).
        progress: told how far long work is.

    Raises:
        UnsupportedModelError: the network cannot be split as asked; the text names the reason.
        ModelFileError: external data is missing.
        ManifestError: the preprocessing does not fit the input.
        SettingsError: settings that contradict one another, or ``out`` is taken.
        FrameError: none of the frames can be read.
        StorageError: the disk is full or cannot be written.
    """
    check_out(out, is_replacing)
    exits = exits or {}
    if exits and (test is None or calibration is None):
        raise SettingsError("exits must be measured and calibrated: give frames for it (--frames)")
    cutting = cutting or CutSettings()
    tell = progress or _silent
    tell("reading the network", 0, 1)
    network = load_network(whole, shapes=cutting.shapes, output=cutting.output)
    cuts = chosen_cuts(network, find_cuts(network), cutting)
    notes = list(network.notes)
    if not cuts:
        notes.append("no inner cut is worth it: there is one segment, and a task offloads its input or nothing")
    _check_asked(device_segments, len(cuts) + 1, classes)
    decided_task = _task(network.output, task, classes, notes)
    notes.extend(_note_of_several(network))
    specs = (network.input, *(c.tensor for c in cuts), network.output)
    with ModelDraft(specs, out, progress=progress) as draft:
        manifest = Manifest(
            schema_version=1,
            name=name or name_of(whole),
            version=version,
            task=decided_task,
            classes=tuple(classes),
            output_activation=_activation(network),
            preprocessing=preprocessing or Preprocessing(),
            segments=draft.write_segments(
                network, cuts, external_over_bytes=cutting.external_over_bytes, is_batch=cutting.is_batch
            ),
            cuts=tuple(Cut(index=k, tensor=spec) for k, spec in enumerate(draft.specs)),
            device_segments=device_segments,
            provenance={
                SOURCE_KEY: whole.name,
                SOURCE_DIGEST_KEY: source_digest(whole),
                "made_by": f"twinsplit {__version__}",
                **(provenance or {}),
            },
        )
        if manifest.preprocessing.kind == "image":
            picture_shape(manifest.preprocessing, network.input)
        draft.write_manifest(manifest)
        tell("loading the network and its segments", 0, 1)
        runtime = SegmentRuntime.load(draft.folder, threads=threads)
        _compare_with_whole(whole, runtime, threads, progress)
        if cutting.is_batch:
            notes.extend(_batch_notes(runtime))
        notes.extend(_frame_notes(manifest))
        manifest = _measured(manifest, runtime, test, tolerance, notes, progress)
        if test is not None and calibration is not None and exits:
            by_cut = sorted((_cut_number(draft, key), file) for key, file in exits.items())
            attached = attach(draft, by_cut, runtime, test, calibration, bins=bins, threads=threads, progress=progress)
            manifest = manifest.model_copy(update={"exits": attached.exits})
        draft.write_manifest(manifest)
        draft.put_in_place(manifest)
    return BuildReport(folder=out, manifest=manifest, notes=tuple(notes))


def chosen_cuts(network: Network, candidates: Sequence[CutCandidate], cutting: CutSettings) -> list[CutCandidate]:
    """The cuts that ``cutting`` asks for, from input to output.

    Raises:
        UnsupportedModelError: a cut asked for is not possible.
        SettingsError: more cuts than segments allow, or a cut asked for and forbidden.
    """
    most = DEFAULT_MAX_SEGMENTS if cutting.max_segments is None else cutting.max_segments
    if most < 1:
        raise SettingsError(f"--max-segments is {most}; it must be at least 1")
    never = tensors_called(network, cutting.never)
    if not cutting.cuts:
        return choose_cuts(network, candidates, max_segments=most, never=never)
    cuts = resolve_cuts(network, candidates, cutting.cuts)
    if cutting.max_segments is not None and len(cuts) >= most:
        raise SettingsError(f"the cuts asked for make {len(cuts) + 1} segments, but --max-segments is {most}; raise it")
    both = [c.tensor.name for c in cuts if c.tensor.name in never]
    if both:
        raise SettingsError(f"'{both[0]}' is asked for with --cut and forbidden with --never-cut")
    return cuts


def name_of(whole: Path) -> str:
    """A name for the manifest from a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", whole.stem).strip("-._") or "model"


def _task(output: TensorSpec, task: Task, classes: Sequence[str], notes: list[str]) -> Literal["classification", "raw"]:
    count = math.prod(output.shape)
    is_vector = len(output.shape) >= 2 and output.shape[:2] == (1, count) and count >= 2
    looks_right = is_vector and output.dtype.startswith("float")
    if task == "raw" or (task == "auto" and not looks_right and not classes):
        if task == "auto":
            notes.append(f"output {output.shape} is not a classifier's: it is passed on as a raw tensor")
        return "raw"
    if not looks_right:
        raise UnsupportedModelError(
            f"output '{output.name}' is {output.dtype} {output.shape}, but a classifier's is (1, K) of floats; "
            "keep another output (--output), or pass it on as it is (--task raw)"
        )
    if classes and len(classes) != count:
        raise SettingsError(f"{len(classes)} class names for {count} outputs; one name per output is needed")
    if task == "auto" and not classes:
        notes.append(f"output {output.shape} is read as {count} classes; if it is none, say --task raw")
    return "classification"


def _note_of_several(network: Network) -> list[str]:
    """Whether the first axis looks like a fixed batch of several frames."""
    first, last = network.input.shape[:1], network.output.shape[:1]
    if first != last or first in ((), (1,)):
        return []
    return [
        f"input and output both start with an axis of {first[0]}: if that is a batch, every task is {first[0]} frames; "
        "for one frame a task, export the network with a batch of 1, or with a free first axis"
    ]


def _activation(network: Network) -> Literal["logits", "probabilities"]:
    """Whether the last operator that is not mere shaping makes probabilities."""
    name = network.output.name
    for node in reversed(network.nodes):
        if name in node.output:
            if node.op_type not in _SHAPING_OPS:
                return "probabilities" if node.op_type in _PROBABILITY_OPS else "logits"
            name = node.input[0]
    return "logits"


def _check_asked(device_segments: int | None, segments: int, classes: Sequence[str]) -> None:
    if device_segments is not None and not 1 <= device_segments <= segments:
        raise SettingsError(f"a device cannot hold {device_segments} of {segments} segments")
    if any(len(name) > MOST_CLASS_NAME for name in classes):
        raise SettingsError(f"a class name has more than {MOST_CLASS_NAME} characters; shorten it")


def _measured(
    manifest: Manifest,
    runtime: SegmentRuntime,
    test: LabelledFrames | None,
    tolerance: float,
    notes: list[str],
    progress: Progress | None,
) -> Manifest:
    """The manifest with what its representations take and lose."""
    if test is None:
        notes.append("without frames only float32 is offered: measure the other representations with --frames")
        return with_measurement(manifest, unmeasured(runtime, made_up_input(manifest)))
    measurement = measure(runtime, test, tolerance=tolerance, progress=progress)
    notes.extend(f"frame left out: {reason}" for reason in measurement.skipped)
    return with_measurement(manifest, measurement)


def _silent(what: str, done: int, total: int) -> None:
    pass


def _compare_with_whole(whole: Path, runtime: SegmentRuntime, threads: int, progress: Progress | None) -> None:
    session = open_whole(whole, runtime.manifest, threads=threads)
    for comparison in compare(session, runtime, random_inputs(runtime.manifest, _COMPARED_INPUTS), progress=progress):
        if not comparison.is_within:
            raise UnsupportedModelError(
                f"the segments do not give what the whole network gives ({comparison.name}: off by "
                f"{comparison.difference:.2g} of the largest output); random operators cannot be split"
            )


def _frame_notes(manifest: Manifest) -> list[str]:
    """Cuts at which a tensor is still the frame."""
    cuts = manifest.cuts[1 : manifest.first_sent_cut(is_tensors_only=True)]
    return [
        f"nothing is multiplied before cut {cut.index} ('{cut.tensor.name}'), so that its tensor shows the frame: a "
        "device with --payloads tensors-only never sends it"
        for cut in cuts
    ]


def _batch_notes(runtime: SegmentRuntime) -> list[str]:
    """Segments that do not do with several tensors at once what they do with each."""
    tensor, notes = made_up_input(runtime.manifest).tensor, []
    for index in runtime.segments:
        if not (runtime.takes_batches(index) and gives_the_same(runtime, index, tensor)):
            notes.append(f"segment {index} takes one tensor at a time: no edge will run tails through it in a batch")
        tensor = runtime.run_segment(index, tensor)
    return notes


def _cut_number(draft: ModelDraft, key: int | str) -> int:
    names = [spec.name for spec in draft.specs]
    number = key if isinstance(key, int) else names.index(key) if key in names else -1
    if not 0 < number < len(names) - 1:
        raise SettingsError(f"an exit reads cut {key!r}, but the inner cuts are {', '.join(names[1:-1])}")
    return number
