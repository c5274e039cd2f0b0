"""Exits for a model that is already split: small heads trained on its frozen segments, in a new version of the model.

Needs onnx and torch. The segments stay as they are; the model they come from is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinsplit import __version__
from twinsplit.errors import SettingsError
from twinsplit.model.calibration import DEFAULT_BINS
from twinsplit.model.distillation import HeadSettings, train_head
from twinsplit.model.draft import ModelDraft
from twinsplit.model.exit_head import write_head, write_pooling
from twinsplit.model.exit_places import exit_places
from twinsplit.model.exits import AttachedExits, attach, check_classifier
from twinsplit.model.features import IN_MEMORY_BYTES, FrozenFeatures, run_frozen
from twinsplit.model.frame_parts import FrameParts, check_parts
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import Manifest
from twinsplit.model.measurement import Progress, measure, with_measurement
from twinsplit.model.runtime import SegmentRuntime, open_session


@dataclass(frozen=True)
class AddedExits:
    """What :func:`add_exits` made."""

    folder: Path
    manifest: Manifest
    attached: AttachedExits
    trained_frames: int
    """Training frames that could be read."""
    teacher_accuracy: float | None
    """Of the whole network on the training frames; ``None`` without labels."""
    notes: tuple[str, ...]
    """What was left out, measured anew or looks wrong, for the person who trains."""


def add_exits(
    folder: Path,
    out: Path,
    frames: FrameParts,
    *,
    after: Sequence[int | str] = (),
    head: HeadSettings | None = None,
    is_replacing: bool = False,
    bins: int = DEFAULT_BINS,
    version: int | None = None,
    provenance: Mapping[str, str] | None = None,
    threads: int = 0,
    in_memory_bytes: int = IN_MEMORY_BYTES,
    progress: Progress | None = None,
) -> AddedExits:
    """Train exits for the model in ``folder`` and write it with them to ``out``.

    Exits that the model has stay, and are calibrated anew together with the new ones, unless ``is_replacing``. Accuracy
    is by labels where calibration and test frames have them, else it is agreement with the whole network. A model that
    was measured by the other of the two, or by neither, is measured anew: one manifest has one basis.

    Args:
        folder: the model; nothing in it changes.
        out: the folder to make; must not hold anything.
        frames: what to train, calibrate and measure with. Training frames may have labels or not.
        after: inner cuts by number or tensor name; empty: chosen by share of compute
            (:func:`twinsplit.model.exit_places.exit_places`).
        head: shape and training of the heads.
        is_replacing: take off the exits that the model has.
        bins: confidence bins per exit.
        version: version in the manifest; ``None``: one more than the model's.
        provenance: more entries for the manifest's.
        threads: of ONNX Runtime; 0: all cores.
        in_memory_bytes: features up to here stay in memory, more lie in files beside ``out`` while this runs.
        progress: told how far long work is.

    Raises:
        SettingsError: too few frames, labels that do not fit, a cut that is none or has an exit, ``out`` is taken, or
            the network is no classifier.
        ModelError: the model has no inner cut, cannot be read or run, or its tensors cannot be used.
        FrameError: none of the frames can be read.
        StorageError: the disk is full or cannot be written.
    """
    _check_untaken(out)
    head = head or HeadSettings()
    runtime = SegmentRuntime.load(folder, threads=threads, with_exits=not is_replacing)
    source = runtime.manifest
    check_classifier(source)
    kept = {} if is_replacing else {e.after_segment: folder / e.file for e in source.exits}
    places = exit_places(source, after, kept)
    check_parts(frames, math.prod(source.cuts[-1].tensor.shape))
    notes: list[str] = []
    with ModelDraft([c.tensor for c in source.cuts], out, progress=progress) as draft:
        draft.copy_segments(folder, source.segments)
        seen = _seen(draft, runtime, places, frames.train, head, in_memory_bytes, progress)
        notes.extend(f"frame left out: {reason}" for reason in seen.skipped)
        notes.extend(_doubts(seen.teacher_accuracy, seen.outputs.argmax(axis=1), seen.outputs.shape[1]))
        files = kept | _trained(draft, seen, places, head, progress)
        attached = attach(
            draft,
            sorted(files.items()),
            runtime,
            frames.test,
            frames.calibration,
            bins=bins,
            threads=threads,
            progress=progress,
        )
        manifest = source
        basis = "agreement" if frames.test.labels is None else "labels"
        if source.accuracy_basis != basis:
            manifest = with_measurement(source, measure(runtime, frames.test, progress=progress))
            if source.accuracy_basis != "none":
                notes.append(
                    f"the model was measured by {source.accuracy_basis} before and is measured by {basis} now, as its "
                    "exits are: one manifest has one basis"
                )
        told = {
            "exits_from": f"{source.name} version {source.version}, digest {runtime.digest}",
            "exits_made_by": f"twinsplit {__version__}",
            "exits_taught_by": "the network's answers" + (" and labels" if seen.labels is not None else ""),
            "exits_frames": f"{seen.frame_count} to train, {len(frames.calibration)} to calibrate, "
            f"{attached.test_count} to test",
            "exits_trained_after": ", ".join(f"cut {cut}" for cut in places),
            "exits_head": f"{head.hidden} hidden units" if head.hidden else "one linear layer",
            "exits_views": str(seen.views),
            "exits_seed": str(head.seed),
            "exits_beside_whole": f"{attached.whole_accuracy:.6f} by {basis} on the exits' test frames",
        }
        manifest = manifest.model_copy(
            update={
                "version": version or source.version + 1,
                "exits": attached.exits,
                "provenance": manifest.provenance | told | dict(provenance or {}),
            }
        )
        draft.write_manifest(manifest)
        draft.put_in_place(manifest)
    return AddedExits(out, manifest, attached, seen.frame_count, seen.teacher_accuracy, tuple(notes))


def _seen(
    draft: ModelDraft,
    runtime: SegmentRuntime,
    places: Sequence[int],
    frames: LabelledFrames,
    head: HeadSettings,
    in_memory_bytes: int,
    progress: Progress | None,
) -> FrozenFeatures:
    """Pooled features of ``frames`` at the cuts of ``places``, and what the whole network answers."""
    poolings = {}
    for cut in places:
        file = draft.folder / f"pooling-{cut}.onnx"
        write_pooling(draft.specs[cut], file)
        poolings[cut] = open_session(file, threads=runtime.threads)
    return run_frozen(
        runtime,
        poolings,
        frames,
        folder=draft.folder,
        views=head.views,
        seed=head.seed,
        in_memory_bytes=in_memory_bytes,
        progress=progress,
    )


def _trained(
    draft: ModelDraft, seen: FrozenFeatures, places: Sequence[int], head: HeadSettings, progress: Progress | None
) -> dict[int, Path]:
    """By cut: the ONNX file of the exit that was trained for it."""
    files = {}
    for cut in places:
        what = f"training the exit after cut {cut}"
        layers = train_head(seen.by_cut[cut], seen.outputs, seen.labels, head, what=what, progress=progress)
        files[cut] = draft.folder / f"trained-{cut}.onnx"
        write_head(draft.specs[cut], layers, files[cut])
    return files


def next_version_folder(folder: Path, version: int) -> Path:
    """Where version 2, say, of the model in ``folder`` goes: ``.../2`` beside ``.../1``, else ``NAME-2``."""
    place = folder.resolve()
    return folder.parent / str(version) if place.name.isdecimal() else folder.parent / f"{place.name}-{version}"


def _check_untaken(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out}: is there already, and no model is overwritten; name another folder with --out")


def _doubts(teacher_accuracy: float | None, answers: Any, outputs: int) -> list[str]:
    doubts = []
    if teacher_accuracy is not None and teacher_accuracy < 2.0 / outputs:
        doubts.append(
            f"the whole network is right on {teacher_accuracy:.1%} of the training frames, hardly more than by chance: "
            "the labels may be those of other classes or in another order"
        )
    if len(np.unique(answers)) == 1:
        doubts.append(
            "the whole network answers the same on every training frame, so its exits will too: "
            "are these the frames it was made for, and the preprocessing it was trained with?"
        )
    return doubts


def exit_lines(added: AddedExits) -> list[str]:
    """What the exits are worth beside the whole network, for people."""
    attached, manifest = added.attached, added.manifest
    is_labelled = manifest.accuracy_basis == "labels"
    lines = []
    for found, agreement in zip(attached.exits, attached.agreements, strict=True):
        right = f"right on {found.accuracy:.1%} of the test frames, " if is_labelled else ""
        lines.append(
            f"exit after cut {found.after_segment}: {right}says what the whole network says on {agreement:.1%}"
        )
    whole = f"the whole network is right on {attached.whole_accuracy:.1%}; " if is_labelled else ""
    return [*lines, f"{whole}{added.trained_frames} frames trained, {attached.test_count} tested"]
