"""Exits trained afterwards beside those trained with the network: `twinsplit bench exits` (~5 minutes of a core).

The shipped network's own exits, trained jointly with it on 55,000 frames and labels, are taken off; `model add-exits`
makes new ones on its frozen segments. Test frames are the 10,000 that the shipped figures are made on, calibration
frames 2,000 that the network never saw. Training frames are composed anew of garments that the network was trained on.
What flatters the new exits: the segments were trained to serve exits at these very cuts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.frames import DatasetError, compose_jpegs, load_garments
from twinsplit.errors import SourceError
from twinsplit.model.added_exits import add_exits
from twinsplit.model.distillation import HeadSettings
from twinsplit.model.frame_parts import FrameParts
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import read_manifest

DOWNLOAD_FOLDER = Path("build/model/download")
"""Where `python -m models.train` keeps Fashion-MNIST, too."""
CALIBRATION_SEED = 2
"""Of the frames that `models.train --seed 1` makes of its training garments; the first of these are held out."""
TEST_SEED = 3
FIRST_TRAINED_GARMENT = 5_000
TRAINING_SEED = 100
"""Plus the benchmark's seed: other places, sizes, colours and backgrounds than the network was trained on."""


@dataclass(frozen=True)
class Recipe:
    """One way of training."""

    frames: int
    views: int = HeadSettings.views
    hidden: int = HeadSettings.hidden
    is_labelled: bool = False


RECIPES = (
    Recipe(1_000, views=1),
    Recipe(1_000),
    Recipe(5_000),
    Recipe(5_000, is_labelled=True),
    Recipe(5_000, hidden=0),
    Recipe(20_000, views=1),
)


def measure(
    shipped: Path,
    *,
    recipes: Sequence[Recipe] = RECIPES,
    test_frames: int = 10_000,
    calibration_frames: int = 2_000,
    threads: int = 1,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Accuracy of the shipped exits and of those that each recipe makes, on the same test frames.

    Raises:
        ModelError: the shipped model folder cannot be used.
        SourceError: Fashion-MNIST is neither installed nor downloadable.
    """
    manifest, _ = read_manifest(shipped)
    cuts = [e.after_segment for e in manifest.exits]
    progress("composing frames")
    most = max(recipe.frames for recipe in recipes)
    training = _composed("train", range(FIRST_TRAINED_GARMENT, FIRST_TRAINED_GARMENT + most), TRAINING_SEED + seed)
    calibration = _composed("train", range(calibration_frames), CALIBRATION_SEED)
    test = _composed("t10k", range(test_frames), TEST_SEED)
    rows = []
    whole_accuracy = None
    for recipe in recipes:
        progress(_named(recipe))
        chosen = training.at(range(recipe.frames))
        parts = FrameParts(chosen if recipe.is_labelled else replace(chosen, labels=None), calibration, test)
        began_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            added = add_exits(
                shipped,
                Path(scratch) / "exits",
                parts,
                after=cuts,
                head=HeadSettings(views=recipe.views, hidden=recipe.hidden, seed=seed),
                is_replacing=True,
                threads=threads,
            )
        whole_accuracy = added.attached.whole_accuracy
        rows.append(
            {
                "recipe": _named(recipe),
                "frames": recipe.frames,
                "views": recipe.views,
                "hidden": recipe.hidden,
                "is_labelled": recipe.is_labelled,
                "seconds": round(time.perf_counter() - began_s, 1),
                "exits": [
                    {
                        "cut": new.after_segment,
                        "accuracy": new.accuracy,
                        "agreement": agreement,
                        "macs": new.macs,
                        "points_to_joint": 100 * (new.accuracy - own.accuracy),
                    }
                    for new, own, agreement in zip(
                        added.attached.exits, manifest.exits, added.attached.agreements, strict=True
                    )
                ],
            }
        )
    return {
        "joint": [{"cut": e.after_segment, "accuracy": e.accuracy, "macs": e.macs} for e in manifest.exits],
        "whole_accuracy": whole_accuracy,
        "test_frames": test_frames,
        "calibration_frames": calibration_frames,
        "threads": threads,
        "rows": rows,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    joint = found["joint"]
    out = [
        f"{'exits':<44}"
        + "".join(f"{'cut ' + str(e['cut']) + ': right':>14} {'agrees':>7} {'MACs':>7}" for e in joint),
        f"{'joint: 55,000 frames, 16 epochs, labels':<44}" + "".join(_cells(e) for e in joint),
    ]
    out.extend(f"{row['recipe']:<44}" + "".join(_cells(e) for e in row["exits"]) for row in found["rows"])
    return [
        *out,
        f"Whole network: {found['whole_accuracy']:.1%} right; {found['test_frames']:,} test frames, "
        f"{found['threads']} thread(s).",
    ]


def _cells(found: dict[str, Any]) -> str:
    agreement = f"{found['agreement']:.1%}" if "agreement" in found else ""
    return f"{found['accuracy']:>14.1%} {agreement:>7} {found['macs'] / 1e6:>6.2f}M"


def _named(recipe: Recipe) -> str:
    head = f"{recipe.hidden} units" if recipe.hidden else "linear"
    views = f" x {recipe.views} views" if recipe.views > 1 else ""
    return f"{recipe.frames:,} frames{views}, {head}, {'labels' if recipe.is_labelled else 'no labels'}"


def _composed(part: str, indices: range, seed: int) -> LabelledFrames:
    try:
        garments = load_garments(part, DOWNLOAD_FOLDER)
    except DatasetError as error:
        raise SourceError(str(error)) from None
    chosen = slice(indices.start, indices.stop)
    return LabelledFrames(list(compose_jpegs(garments.images[chosen], seed)), garments.labels[chosen].tolist())
