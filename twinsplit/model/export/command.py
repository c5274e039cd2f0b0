"""``twinsplit model export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
from click.core import ParameterSource

from twinsplit.model.extras import need_onnx

_FOLDER = click.Path(file_okay=False, path_type=Path)


_OF_TRITON = ("backend", "instances", "instance_kind", "max_batch", "batch_delay_us", "threads")
_OF_TAILS = ("weights",)


def _is_given(name: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _given_of_the_other(kind: str) -> list[str]:
    """Options that stand there and mean nothing to this form."""
    others = _OF_TAILS if kind == "triton" else _OF_TRITON
    return [f"--{name.replace('_', '-')}" for name in others if _is_given(name)]


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--to",
    "kind",
    type=click.Choice(["triton", "tails"]),
    required=True,
    help="A Triton model repository, or every tail as one ONNX model, for servers that cannot chain models.",
)
@click.argument("out", type=_FOLDER)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    default="onnxruntime",
    show_default=True,
    help="Triton's backend; python: for builds of Triton without the other one.",
)
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Triton: executions of each segment at once.",
)
@click.option(
    "--instance-kind",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Triton: where they run; auto: on the GPUs where there are some.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Triton: tensors at once, where all segments take several (model split --batches).",
)
@click.option(
    "--batch-delay-us",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Triton: how long a batch may wait to fill, microseconds.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Triton: threads of one execution."
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "inside", "beside"]),
    default="auto",
    show_default=True,
    help="Tails: in every file that has them, or once in files that the tails share; auto: by size.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace this model (with --to tails: this version of it) where OUT holds it already; others there stay.",
)
def export(
    folder: Path,
    kind: Literal["triton", "tails"],
    out: Path,
    backend: Literal["onnxruntime", "python"],
    instances: int,
    instance_kind: Literal["auto", "cpu", "gpu"],
    max_batch: int,
    batch_delay_us: int,
    threads: int,
    weights: Literal["auto", "inside", "beside"],
    force: bool,
) -> None:
    """Write the model in FOLDER into OUT, for another inference server.

    \b
    twinsplit model export models/alexnet-fashion/1 --to triton repository
    twinsplit model export models/alexnet-fashion/1 --to tails tails
    """
    need_onnx()
    from twinsplit.errors import SettingsError
    from twinsplit.model.export.files import disk_bytes

    given = _given_of_the_other(kind)
    if given:
        raise SettingsError(f"{', '.join(given)}: not for --to {kind}; leave it out")
    if out.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(
            f"{out} is in the model folder itself, whose files nobody could then tell apart; name another"
        )

    if kind == "triton":
        from twinsplit.model.export.triton import TritonSettings, export_triton

        settings = TritonSettings(backend, instances, instance_kind, max_batch, batch_delay_us, threads)
        found = export_triton(folder, out, settings, is_replacing=force)
        batches = f"batches of up to {found.max_batch}" if found.max_batch else "one tensor at a time"
        if max_batch > 1 and not found.max_batch and _is_given("max_batch"):
            batches += ": its segments take no more; twinsplit model split --batches makes such that do"
        click.echo(f"{len(found.segments)} segments ({batches}) and {len(found.models)} ensembles:")
        names, start = found.models, f"tritonserver --model-repository {out}"
    else:
        from twinsplit.model.export.tails import export_tails

        tails = export_tails(folder, out, weights=weights, is_replacing=force)
        place = "once, beside the tails" if tails.is_beside else "in every tail that has them"
        click.echo(f"{len(tails.models)} tails, weights {place}:")
        names, start = tails.models, f"any server that reads {out}/NAME/VERSION/model.onnx"
    for name in names:
        click.echo(f"  {name}")
    click.echo(f"wrote {out}, {disk_bytes(out) / 1e6:.1f} MB")
    click.echo(f"next: {start}")
    click.echo(f"then: python -m edge --models {folder} --engine oip://HOST:PORT")
