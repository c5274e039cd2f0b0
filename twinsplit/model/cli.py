"""``twinsplit model``: split, add exits, check, inspect, profile, export. Commands that need onnx import it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import click

from twinsplit.errors import FrameError, ModelError, SettingsError
from twinsplit.model.exit_command import add_exits
from twinsplit.model.export.command import export
from twinsplit.model.extras import need_onnx
from twinsplit.model.manifest import MODEL_NAME, Manifest, Preprocessing
from twinsplit.model.progress_line import ProgressLine
from twinsplit.model.split_options import frame_sets, pair, parsed_shapes, preprocessing_of, read_labels
from twinsplit.numbers import FiniteRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinsplit.model.preprocessing import Frame

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_ANY = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)
_THREADS = click.IntRange(0, 1024)


def _checked_name(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(MODEL_NAME, name):
        raise click.BadParameter(f"{name!r} is no name; use letters, digits, '.', '_' and '-'", context, parameter)
    return name


@click.group()
def model() -> None:
    """Split ONNX models, give them exits, check, inspect, profile and export them."""


model.add_command(add_exits)
model.add_command(export)


@model.command()
@click.argument("file", type=_FILE)
@click.option("--out", type=_FOLDER, required=True, help="Model folder to make.")
@click.option("--max-segments", type=int, help="At most so many segments; 8 where cuts are chosen.")
@click.option(
    "--cut", "cuts", multiple=True, metavar="NAME", help="Cut at this tensor or node; all cuts are then named."
)
@click.option("--never-cut", "never", multiple=True, metavar="NAME", help="Never cut at this tensor or node.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="INPUT=1,3,224,224", help="The input's shape where it is symbolic."
)
@click.option("--output", metavar="NAME", help="The output to keep where there are several.")
@click.option(
    "--preprocess",
    default="none",
    show_default=True,
    metavar="imagenet|none|FILE",
    help="From frames to the input: as usual for ImageNet, frames are tensors, or settings in a JSON or TOML file.",
)
@click.option("--task", type=click.Choice(["auto", "classification", "raw"]), default="auto", show_default=True)
@click.option(
    "--labels",
    "label_files",
    multiple=True,
    type=_FILE,
    help="Class names, one a line; or a table `file,label` of the frames (default: labels.csv among them).",
)
@click.option("--frames", type=_FOLDER, help="Measure representations (and exits) over the frames of this folder.")
@click.option(
    "--max-frames", type=_COUNT, default=1000, show_default=True, help="Use at most so many of each folder's frames."
)
@click.option(
    "--exit",
    "exits",
    multiple=True,
    metavar="NAME=FILE.onnx",
    help="Early-exit classifier that reads this cut's tensor.",
)
@click.option(
    "--calibration-frames", type=_FOLDER, help="Calibrate exits with these (default: every other one of --frames)."
)
@click.option(
    "--tolerance",
    type=FiniteRange(0, 100),
    default=0.5,
    show_default=True,
    help="Points of accuracy a representation may lose.",
)
@click.option("--device-segments", type=int, metavar="K", help="Devices hold only the first K segments.")
@click.option("--batches", is_flag=True, help="Leave the first axis open: an edge may run several tails at once.")
@click.option("--name", callback=_checked_name, help="Name in the manifest (default: the file's).")
@click.option("--model-version", type=_COUNT, default=1, show_default=True, help="Version in the manifest.")
@click.option("--threads", type=_THREADS, default=0, show_default=True, help="Threads while measuring; 0: all cores.")
@click.option("--force", is_flag=True, help="Replace the model that is in --out.")
def split(
    file: Path,
    out: Path,
    max_segments: int | None,
    cuts: tuple[str, ...],
    never: tuple[str, ...],
    shapes: tuple[str, ...],
    output: str | None,
    preprocess: str,
    task: Literal["auto", "classification", "raw"],
    label_files: tuple[Path, ...],
    frames: Path | None,
    max_frames: int,
    exits: tuple[str, ...],
    calibration_frames: Path | None,
    tolerance: float,
    device_segments: int | None,
    batches: bool,
    name: str | None,
    model_version: int,
    threads: int,
    force: bool,
) -> None:
    """Cut an ONNX FILE into segments and write a model folder."""
    need_onnx()
    from twinsplit.model import build, inspection
    from twinsplit.model.graph import load_network

    cutting = build.CutSettings(
        cuts=cuts,
        never=never,
        max_segments=max_segments,
        shapes=parsed_shapes(shapes),
        output=output,
        is_batch=batches,
    )
    if not all((*cuts, *never)):
        raise SettingsError(
            "--cut and --never-cut take the name of a tensor or node; twinsplit model inspect lists them"
        )
    if calibration_frames is not None and not exits:
        raise SettingsError("--calibration-frames is for exits; give --exit, or leave it out")
    classes, table = read_labels(label_files)
    test, calibration = frame_sets(frames, calibration_frames, classes, table, max_frames, bool(exits))
    preprocessing = Preprocessing()
    if preprocess != "none":
        entry = load_network(file, shapes=cutting.shapes, output=output).input
        preprocessing = preprocessing_of(preprocess, entry)
    with ProgressLine() as progress:
        report = build.build_model(
            file,
            out,
            name=name,
            version=model_version,
            cutting=cutting,
            exits={key: Path(path) for key, path in (pair(text, "--exit", "NAME=FILE.onnx") for text in exits)},
            task=task,
            classes=classes,
            preprocessing=preprocessing,
            test=test,
            calibration=calibration,
            tolerance=tolerance / 100.0,
            device_segments=device_segments,
            threads=threads,
            is_replacing=force,
            progress=progress,
        )
    for note in report.notes:
        click.echo(f"note: {note}")
    click.echo(inspection.described(report.manifest))
    click.echo(f"\nwrote {out}")
    folder = quote(str(out))
    click.echo(f"next: twinsplit model check {folder} --whole {quote(str(file))}")
    click.echo(f"then: python -m edge --models {folder} --twin HOST:PORT")
    click.echo(f"      python -m device --id NAME --model {folder} --twin HOST:PORT --edge HOST:PORT --source SOURCE")


@model.command()
@click.argument("folder", type=_FOLDER)
@click.option("--whole", type=_FILE, help="The ONNX file it was split from: compare outputs.")
@click.option("--runs", type=_COUNT, default=5, show_default=True, help="Random inputs to compare.")
@click.option("--frames", type=_FOLDER, help="Compare these frames too.")
@click.option("--max-frames", type=_COUNT, default=20, show_default=True, help="Use at most so many of them.")
@click.option(
    "--tolerance", type=FiniteRange(min=0), help="Largest difference as a share of the largest output (default 0.001)."
)
@click.option("--provider", default="cpu", show_default=True, help="Execution provider of ONNX Runtime.")
@click.option("--threads", type=_THREADS, default=0, show_default=True, help="Threads; 0: all cores.")
def check(
    folder: Path,
    whole: Path | None,
    runs: int,
    frames: Path | None,
    max_frames: int,
    tolerance: float | None,
    provider: str,
    threads: int,
) -> None:
    """Check a model FOLDER: manifest, digests, that all parts load, and the whole network against its segments."""
    from twinsplit.model import check as checking
    from twinsplit.model.frames import read_frames
    from twinsplit.model.manifest import check_files
    from twinsplit.model.runtime import SegmentRuntime

    runtime = SegmentRuntime.load(folder, provider=provider, threads=threads)
    manifest = runtime.manifest
    check_files(folder, manifest.files())
    click.echo(f"manifest, {len(manifest.files())} files and their digests: right")
    inputs = checking.random_inputs(manifest, runs)
    if frames is not None:
        given = read_frames(frames, classes=manifest.classes, limit=max_frames)
        inputs += [(name, _prepared(name, frame, manifest)) for name, frame, _ in given]
    if whole is None:
        for _, tensor in inputs:
            runtime.run_tail(0, tensor)
        click.echo(
            f"{manifest.segment_count} segments run on {len(inputs)} inputs; name --whole to compare the outputs"
        )
        return
    checking.check_source(whole, manifest)
    session = checking.open_whole(whole, manifest, threads=threads)
    with ProgressLine() as progress:
        comparisons = checking.compare(session, runtime, inputs, tolerance=tolerance, progress=progress)
    for c in comparisons:
        label = {True: ", same label", False: ", ANOTHER LABEL", None: ""}[c.is_same_label]
        click.echo(
            f"{c.name}: {'ok' if c.is_within else 'DIFFERS'}, by {c.difference:.2g} of the largest output{label}"
        )
    wrong = [c for c in comparisons if not c.is_within]
    if wrong:
        raise ModelError(
            f"{len(wrong)} of {len(comparisons)} inputs give other outputs through the segments than through the whole "
            "network; split it again, or allow more with --tolerance"
        )
    click.echo(f"whole and segments agree on {len(comparisons)} inputs")


def _prepared(name: str, frame: Frame, manifest: Manifest) -> NDArray[Any]:
    """
    Raises:
        FrameError: the frame, which is named, cannot be decoded or does not fit.
    """
    from twinsplit.model.preprocessing import prepare

    try:
        return prepare(frame, manifest).tensor
    except FrameError as error:
        raise FrameError(f"{name}: {error}") from None


@model.command()
@click.argument("target", type=_ANY)
@click.option("--png", type=_FILE, help="Draw bytes and compute against depth into this file.")
@click.option("--json", "is_json", is_flag=True, help="The cuts as JSON instead of tables.")
@click.option("--max-segments", type=_COUNT, default=8, show_default=True, help="For an ONNX file: as for split.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=1,3,224,224", help="For an ONNX file: as for split.")
@click.option("--output", metavar="NAME", help="For an ONNX file: as for split.")
def inspect(
    target: Path, png: Path | None, is_json: bool, max_segments: int, shapes: tuple[str, ...], output: str | None
) -> None:
    """Show the cuts of a model folder, or all possible cuts of an ONNX file (those a split would make have a star)."""
    from dataclasses import asdict

    from twinsplit.model import inspection
    from twinsplit.model.manifest import read_manifest

    if target.is_file() and target.suffix == ".onnx":
        need_onnx()
        from twinsplit.model import build, possible_cuts
        from twinsplit.model.graph import load_network

        cutting = build.CutSettings(max_segments=max_segments, shapes=parsed_shapes(shapes), output=output)
        network = load_network(target, shapes=cutting.shapes, output=output)
        points = possible_cuts.points_of_network(network, cutting)
        title = target.name
        notes, manifest = network.notes, None
    else:
        manifest, _ = read_manifest(target)
        points = inspection.points_of_model(manifest)
        title = f"{manifest.name} version {manifest.version}"
        notes = ()
    if is_json:
        click.echo(json.dumps({"model": title, "cuts": [asdict(p) for p in points]}, indent=2))
    elif manifest is not None:
        click.echo(inspection.described(manifest))
    else:
        for note in notes:
            click.echo(f"note: {note}")
        click.echo("\n".join(inspection.points_table(points)))
    if png is not None:
        inspection.draw(points, title, png)
        click.echo(f"drew {png}", err=True)


@model.command()
@click.argument("folder", type=_FOLDER)
@click.option("--provider", default="cpu", show_default=True, help="Execution provider of ONNX Runtime.")
@click.option("--threads", type=_THREADS, default=1, show_default=True, help="Threads of one inference.")
@click.option("--repeats", type=_COUNT, default=20, show_default=True, help="Runs; the median counts.")
@click.option("--out", type=_FILE, help="Keep the profile as JSON.")
def profile(folder: Path, provider: str, threads: int, repeats: int, out: Path | None) -> None:
    """Measure the times of segments, exits and encoders on this machine."""
    from twinsplit.model.profile import measure_profile, save_profile
    from twinsplit.model.runtime import SegmentRuntime

    runtime = SegmentRuntime.load(folder, provider=provider, threads=threads)
    with ProgressLine() as progress:
        measured = measure_profile(runtime, repeats, lambda done, total: progress("profiling", done, total))
    click.echo(
        f"{measured.machine}; {measured.provider}, {measured.threads} threads; median of {measured.repeats} runs"
    )
    total_s = sum(measured.segment_s)
    for index, seconds in enumerate(measured.segment_s):
        click.echo(f"segment {index}: {1e3 * seconds:9.3f} ms  {seconds / total_s:6.1%}")
    click.echo(f"whole:     {1e3 * total_s:9.3f} ms")
    for index, seconds in enumerate(measured.exit_s):
        click.echo(f"exit {index}:    {1e3 * seconds:9.3f} ms")
    for (cut, position), seconds in sorted(measured.encode_s.items()):
        name = runtime.manifest.cuts[cut].representations[position].name
        click.echo(f"cut {cut} as {name:14} {1e3 * seconds:9.3f} ms")
    if out is not None:
        save_profile(measured, out)
        click.echo(f"wrote {out}")
