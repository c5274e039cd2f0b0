"""What a model folder or an ONNX file looks like to whoever splits it: tables, and a drawing of bytes and compute.

A model folder is shown where there is neither onnx nor ONNX Runtime: its manifest says it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinsplit.errors import ConfigurationError, StorageError
from twinsplit.model.manifest import Cut, Manifest, RepresentationEntry


@dataclass(frozen=True, slots=True)
class CutPoint:
    """One cut, made or possible."""

    name: str
    """Tensor name."""
    label: str
    """``cut 2``, or for a possible cut its place in depth."""
    depth: int
    """Operators before it for an ONNX file, the cut's number for a model folder."""
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    """Of the tensor's own elements."""
    smallest_bytes: float | None
    """Mean bytes of the smallest offered representation; ``None``: nothing is offered or measured."""
    compute_share: float
    """Share of the network's MACs before it, 0..1."""
    is_chosen: bool
    """An inner cut of the model folder, or one that a split would choose."""


def points_of_model(manifest: Manifest) -> list[CutPoint]:
    """Cuts 0..m of a model folder."""
    total = sum(s.macs for s in manifest.segments)
    points = []
    before = 0
    for cut in manifest.cuts:
        offered = [r.mean_bytes for r in cut.representations if r.is_offered]
        points.append(
            CutPoint(
                name=cut.tensor.name,
                label=f"cut {cut.index}",
                depth=cut.index,
                shape=cut.tensor.shape,
                dtype=cut.tensor.dtype,
                size_bytes=cut.tensor.size_bytes,
                smallest_bytes=min(offered) if offered else None,
                compute_share=before / total if total else cut.index / manifest.segment_count,
                is_chosen=0 < cut.index < manifest.segment_count,
            )
        )
        if cut.index < manifest.segment_count:
            before += manifest.segments[cut.index].macs
    return points


def described(manifest: Manifest) -> str:
    """Everything about the model folder, in tables with a blank line between them."""
    sections = [
        summary(manifest),
        points_table(points_of_model(manifest)),
        exits_table(manifest),
        representations_table(manifest.cuts),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def summary(manifest: Manifest) -> list[str]:
    """Lines about the whole model folder."""
    kind = f"classification, {len(manifest.classes) or 'unnamed'} classes" if manifest.task != "raw" else "raw output"
    macs = sum(s.macs for s in manifest.segments)
    lines = [
        f"{manifest.name} version {manifest.version}: {kind}, {manifest.segment_count} segments, {_count(macs)}MAC, "
        f"{len(manifest.exits)} exits"
    ]
    if manifest.whole_accuracy is not None:
        frames = manifest.provenance.get("accuracy_frames", "unknown")
        lines.append(f"accuracy {manifest.whole_accuracy:.1%} by {manifest.accuracy_basis} over {frames} frames")
    else:
        lines.append("accuracy not measured: only float32 is offered (twinsplit model split --frames measures)")
    if manifest.held_segments < manifest.segment_count:
        lines.append(f"a device holds the first {manifest.held_segments} segments")
    return lines


def points_table(points: Sequence[CutPoint]) -> list[str]:
    """The table of cuts, a line each, with a heading."""
    heading = ["", "depth", "tensor", "type", "shape", "bytes", "smallest", "compute before"]
    return _aligned([heading, *(_point_row(p) for p in points)])


def representations_table(cuts: Sequence[Cut]) -> list[str]:
    """Every representation of every cut, a line each, with a heading."""
    rows = [["cut", "representation", "bytes", "encode ms", "accuracy", "loss (points)", "offered"]]
    for cut in cuts:
        rows.extend(_representation_row(cut, r) for r in cut.representations)
    return _aligned(rows)


def exits_table(manifest: Manifest) -> list[str]:
    """Every exit, a line each, with a heading; empty without exits."""
    if not manifest.exits:
        return []
    rows = [["exit", "after segment", "compute", "accuracy", "P(right | bin)"]]
    for e in manifest.exits:
        levels = " ".join(f"{p:.2f}" for p in e.p_right)
        rows.append([str(e.index), str(e.after_segment), f"{_count(e.macs)}MAC", f"{e.accuracy:.1%}", levels])
    return _aligned(rows)


def draw(points: Sequence[CutPoint], title: str, path: Path) -> None:
    """Bytes (logarithmic) and compute against depth, as PNG.

    Raises:
        ConfigurationError: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("drawing needs matplotlib; pip install 'twinsplit[model]'") from None
    figure = Figure(figsize=(10, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    depths = [p.depth for p in points]
    axes.step(depths, [p.size_bytes for p in points], where="mid", color="tab:blue", alpha=0.5)
    axes.plot(depths, [p.size_bytes for p in points], ".", color="tab:blue", label="bytes of the tensor")
    chosen = [p for p in points if p.is_chosen]
    axes.plot(
        [p.depth for p in chosen], [p.size_bytes for p in chosen], "o", color="tab:red", label="cut", fillstyle="none"
    )
    measured = [(p.depth, p.smallest_bytes) for p in points if p.smallest_bytes is not None]
    if measured:
        depths_measured, bytes_measured = zip(*measured, strict=True)
        axes.plot(depths_measured, bytes_measured, "v", color="tab:green", label="smallest representation offered")
    axes.set_yscale("log")
    axes.set_xlabel("depth: cut" if points[0].label.startswith("cut") else "depth: operators before the cut")
    axes.set_ylabel("bytes")
    axes.grid(visible=True, alpha=0.3)
    compute = axes.twinx()
    compute.plot(depths, [100.0 * p.compute_share for p in points], color="tab:orange", label="compute before the cut")
    compute.set_ylabel("share of compute before the cut, %")
    compute.set_ylim(0.0, 105.0)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    axes.set_title(title)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; name a file that can be written") from None


def _point_row(p: CutPoint) -> list[str]:
    return [
        "*" if p.is_chosen else "",
        p.label,
        p.name,
        p.dtype,
        "x".join(map(str, p.shape)) or "scalar",
        f"{_count(p.size_bytes)}B",
        "-" if p.smallest_bytes is None else f"{_count(p.smallest_bytes)}B",
        f"{p.compute_share:.1%}",
    ]


def _representation_row(cut: Cut, r: RepresentationEntry) -> list[str]:
    return [
        str(cut.index),
        r.name,
        f"{_count(r.mean_bytes)}B",
        f"{1e3 * r.encode_s:.3f}",
        "-" if r.accuracy is None else f"{r.accuracy:.2%}",
        "-" if r.accuracy is None else f"{100.0 * r.loss:.2f}",
        "yes" if r.is_offered else "no",
    ]


def _count(value: float) -> str:
    for unit in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} T"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
