"""Exits of a model folder that is being made: written, calibrated on one set of frames and measured on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsplit.errors import SettingsError
from twinsplit.model.calibration import DEFAULT_BINS, calibrate, observe
from twinsplit.model.draft import ModelDraft
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import Exit, Manifest
from twinsplit.model.measurement import Progress
from twinsplit.model.runtime import SegmentRuntime, open_session


@dataclass(frozen=True)
class AttachedExits:
    """What :func:`attach` made, and what it saw on the test frames. Without labels *right* is what the network says."""

    exits: tuple[Exit, ...]
    agreements: tuple[float, ...]
    """By exit: share of the test frames on which it says what the whole network says."""
    whole_accuracy: float
    """Of the whole network on the same test frames; 1 without labels."""
    test_count: int
    """Test frames that could be read."""


def attach(
    draft: ModelDraft,
    by_cut: Sequence[tuple[int, Path]],
    runtime: SegmentRuntime,
    test: LabelledFrames,
    calibration: LabelledFrames,
    *,
    bins: int = DEFAULT_BINS,
    threads: int = 0,
    progress: Progress | None = None,
) -> AttachedExits:
    """Write exits into ``draft``, calibrate them all together and measure them.

    Args:
        draft: of the same cuts as ``runtime``.
        by_cut: (inner cut, ONNX file from its tensor to logits), in ascending order.
        runtime: all segments.
        test: frames to measure with.
        calibration: frames to calibrate with, apart from ``test``.
        bins: confidence bins per exit.
        threads: of ONNX Runtime; 0: all cores.
        progress: told after every frame.

    Raises:
        SettingsError: the network is no classifier.
        UnsupportedModelError: an exit does not fit its cut.
        FrameError: not one of the frames can be read.
        StorageError: the disk is full or cannot be written.
    """
    check_classifier(runtime.manifest)
    written = [draft.write_exit(index, cut, file) for index, (cut, file) in enumerate(by_cut)]
    sessions = [
        (cut, open_session(draft.folder / part.file, threads=threads))
        for (cut, _), (part, _) in zip(by_cut, written, strict=True)
    ]
    seen = observe(runtime, sessions, calibration, what="calibrating exits", progress=progress)
    tested = observe(runtime, sessions, test, what="measuring exits", progress=progress)
    exits = tuple(
        Exit(
            index=index,
            after_segment=by_cut[index][0],
            file=written[index][0].file,
            sha256=written[index][0].sha256,
            macs=written[index][1],
            accuracy=round(float(tested.is_exit_right[:, index].mean()), 6),
            bin_edges=part.bin_edges,
            p_right=part.p_right,
            p_whole_right=part.p_whole_right,
            prior=part.prior,
            transitions=part.transitions,
        )
        for index, part in enumerate(calibrate(seen, bins))
    )
    return AttachedExits(
        exits=exits,
        agreements=tuple(float(share) for share in tested.is_exit_agreeing.mean(axis=0)),
        whole_accuracy=float(tested.is_whole_right.mean()),
        test_count=len(tested.is_whole_right),
    )


def check_classifier(manifest: Manifest) -> None:
    """See that an exit's answer would mean anything.

    Raises:
        SettingsError: the network's output is not a classifier's.
    """
    if manifest.task != "classification":
        raise SettingsError(
            "exits answer with a class, but this network's output is not a classifier's (task: raw); "
            "split it with --task classification if it is one"
        )
