"""``twinsplit model add-exits``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from twinsplit.model.extras import need_onnx, need_torch
from twinsplit.model.progress_line import ProgressLine
from twinsplit.model.split_options import command_line, frame_parts

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("add-exits")
@click.argument("folder", type=_FOLDER)
@click.option("--frames", type=_FOLDER, required=True, help="Frames to train with; 30 % are kept apart, as said above.")
@click.option(
    "--labels",
    "table",
    type=_FILE,
    help="Table `file,label` of the frames, labels being class names or indices (default: labels.csv among them).",
)
@click.option(
    "--after",
    multiple=True,
    metavar="CUT",
    help="Cut (number or tensor name) to attach an exit after; may be repeated (default: near 1/4 and 1/2 of the "
    "compute).",
)
@click.option("--out", type=_FOLDER, help="Model folder to make (default: the next version, beside FOLDER).")
@click.option("--calibration-frames", type=_FOLDER, help="Calibrate with these instead of 15 % of --frames.")
@click.option("--test-frames", type=_FOLDER, help="Measure with these instead of 15 % of --frames.")
@click.option(
    "--max-frames",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Use at most so many of each folder's frames.",
)
@click.option(
    "--hidden",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    help="Units between the head's two layers; 0: one linear layer.",
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Run every training picture so often: as it is, then cropped, mirrored, lighter or darker.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True, help="Passes over all views.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the parts, the weights and the order.")
@click.option("--replace", "is_replacing", is_flag=True, help="Take the model's own exits off first.")
@click.option("--threads", type=click.IntRange(min=0), default=0, show_default=True, help="Threads; 0: all cores.")
@click.pass_context
def add_exits(
    context: click.Context,
    folder: Path,
    frames: Path,
    table: Path | None,
    after: tuple[str, ...],
    out: Path | None,
    calibration_frames: Path | None,
    test_frames: Path | None,
    max_frames: int,
    hidden: int,
    views: int,
    epochs: int,
    seed: int,
    is_replacing: bool,
    threads: int,
) -> None:
    """Train early exits for a model FOLDER and write a new version of it.

    An exit is a small classifier (pooling, then one or two linear layers) that reads the tensor after a cut; a device
    that is sure enough of its answer stops there. The network itself stays as it is: frames run through its segments
    once, and the exits learn from what it answers (distillation), and from labels where frames have them.

    Frames are shared out at random: 70 % train, 15 % calibrate (what a confidence is worth), 15 % measure. Neighbouring
    frames of a video are nearly the same; then name --calibration-frames and --test-frames from other recordings.
    Without labels every accuracy is agreement with the whole network, and the manifest says so.

    \b
    twinsplit model split resnet50.onnx --out models/resnet50/1 --preprocess imagenet
    twinsplit model add-exits models/resnet50/1 --frames pictures/
    twinsplit model check models/resnet50/2 --whole resnet50.onnx

    Exits that the model has stay and are calibrated anew with the others; --replace takes them off. FOLDER is never
    changed, and nothing is overwritten. Needs torch and onnx: pip install 'twinsplit[model]'.
    """
    need_onnx()
    need_torch()
    from twinsplit.model import added_exits, inspection
    from twinsplit.model.distillation import HeadSettings
    from twinsplit.model.manifest import read_manifest

    source, _ = read_manifest(folder)
    out = out or added_exits.next_version_folder(folder, source.version + 1)
    parts = frame_parts(source.classes, frames, table, calibration_frames, test_frames, max_frames, seed)
    with ProgressLine() as progress:
        added = added_exits.add_exits(
            folder,
            out,
            parts,
            after=after,
            head=HeadSettings(hidden=hidden, views=views, epochs=epochs, seed=seed),
            is_replacing=is_replacing,
            provenance={"exits_command": command_line(context)},
            threads=threads,
            progress=progress,
        )
    for note in added.notes:
        click.echo(f"note: {note}")
    click.echo(inspection.described(added.manifest))
    click.echo("")
    for line in added_exits.exit_lines(added):
        click.echo(line)
    click.echo(f"\nwrote {out}; {folder} is as it was")
    click.echo(f"next: twinsplit model check {quote(str(out))}")
