"""Frames shared out for training, calibration and test, so that no figure is made with frames that shaped it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinsplit.errors import SettingsError
from twinsplit.model.frames import LabelledFrames

LEAST_TRAINING = 100
LEAST_HELD_OUT = 40
"""For calibration and for test each: five for each of eight bins. Fewer make figures that mean nothing."""
HELD_OUT_SHARE = 0.15


@dataclass(frozen=True)
class FrameParts:
    """Frames for three purposes, none of them in two."""

    train: LabelledFrames
    calibration: LabelledFrames
    test: LabelledFrames


def shared_out(
    frames: LabelledFrames,
    seed: int,
    *,
    calibration: LabelledFrames | None = None,
    test: LabelledFrames | None = None,
) -> FrameParts:
    """Share ``frames`` out at random by ``seed``: 15 % each for calibration and test, where these are not given.

    Raises:
        SettingsError: too few.
    """
    order = np.random.default_rng(seed).permutation(len(frames)).tolist()
    size = max(LEAST_HELD_OUT, int(HELD_OUT_SHARE * len(frames)))
    drawn = size * ((calibration is None) + (test is None))
    least = LEAST_TRAINING + drawn // size * LEAST_HELD_OUT
    if len(frames) < least:
        raise SettingsError(
            f"{len(frames)} frames are too few: {least} are the least, a thousand a start, more are better; "
            "name a folder that holds more with --frames"
        )
    if calibration is None:
        calibration, order = frames.at(sorted(order[:size])), order[size:]
    if test is None:
        test, order = frames.at(sorted(order[:size])), order[size:]
    return FrameParts(frames.at(sorted(order)), calibration, test)


def check_parts(parts: FrameParts, class_count: int) -> None:
    """See that every part is large enough, and that labels mean classes 0..``class_count`` - 1.

    Raises:
        SettingsError: they are not; the text says which.
    """
    for purpose, part, least in (
        ("train with", parts.train, LEAST_TRAINING),
        ("calibrate with", parts.calibration, LEAST_HELD_OUT),
        ("test with", parts.test, LEAST_HELD_OUT),
    ):
        if len(part) < least:
            raise SettingsError(f"{len(part)} frames to {purpose} are too few: {least} are the least")
        wrong = [label for label in part.labels or () if not 0 <= label < class_count]
        if wrong:
            raise SettingsError(
                f"label {wrong[0]} is none of the model's {class_count} classes, 0 to {class_count - 1}; see --labels"
            )
    if (parts.calibration.labels is None) != (parts.test.labels is None):
        raise SettingsError("calibration and test frames must both have labels, or neither: accuracy has one basis")
