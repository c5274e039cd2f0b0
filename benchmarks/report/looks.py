"""How figures look: one look for every rule in all of them, in colours that colour-blind people can tell apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

DOTS_PER_INCH = 100
_COLOURS = 255
"""Of a PNG: a palette makes the file a third."""

BLACK, GREY = "#000000", "#8c8c8c"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"
"""Okabe and Ito's."""
_OLIVE, _SLATE, _BROWN = "#9a8c00", "#4d4d4d", "#7f3b08"
"""Their yellow, dark enough for a line on white, and two that differ from all of theirs in lightness."""


@dataclass(frozen=True, slots=True)
class Look:
    """Of one rule."""

    colour: str
    marker: str
    line: str = "-"
    width: float = 1.0


_LOOKS = {
    "device-only": Look(GREY, "s", ":"),
    "edge-only": Look(GREY, "D", "--"),
    "static-best": Look(GREY, "v", "-."),
    "one-time-myopic": Look(SKY, "<", "--"),
    "one-time": Look(BLUE, "o", "-", 1.8),
    "one-time-best": Look(PURPLE, "P", "-", 1.4),
    "threshold-static-best": Look(_OLIVE, "^", "-."),
    "one-time-threshold-best": Look(PURPLE, "P", "-", 1.4),
    "load-only": Look(_SLATE, ">", "--"),
    "open-loop": Look(GREEN, "X", "-", 1.4),
    "learned-one-head": Look(_BROWN, "p", ":", 1.2),
    "learned-factual": Look(ORANGE, "s", "--", 1.2),
    "learned": Look(VERMILLION, "*", "-", 1.8),
    "learned-online": Look(VERMILLION, "*", "-", 1.8),
    "learned-frozen": Look(_BROWN, "p", ":", 1.2),
    "open-loop, exact state": Look(SKY, "x", "--"),
    "clairvoyant": Look(BLACK, "d", "--", 1.4),
    "optimum": Look(BLACK, "h", "-", 1.4),
    "blind": Look(BLUE, "d"),
    "blind-to-arrivals": Look(SKY, "d"),
    "blind-to-load": Look(SKY, "s"),
    "blind-to-uplink": Look(SKY, "o"),
}
_OTHER = Look(BLACK, ".", ":")


def look_of(rule: str) -> Look:
    """The look of a rule; one that has none of its own is a dotted line."""
    return _LOOKS.get(rule, _OTHER)


def canvas(width_in: float, height_in: float) -> Figure:
    """An empty figure that needs no display, its parts laid out by themselves."""
    figure = Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """``figure`` as a PNG; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", facecolor="white", metadata={"Software": None})
    small = io.BytesIO()
    with Image.open(drawn) as picture:
        # The other ways of making a palette mix colours that cover little.
        few = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(small, format="PNG", optimize=True)
    return small.getvalue()


def band_of(middle: float, interval: Sequence[float] | None) -> tuple[float, float]:
    """Lengths below and above ``middle`` of an interval around it, for error bars; 0 where there is none."""
    if interval is None:
        return 0.0, 0.0
    return max(0.0, middle - interval[0]), max(0.0, interval[1] - middle)


def bands_of(middles: Sequence[float], intervals: Sequence[Sequence[float] | None]) -> tuple[list[float], list[float]]:
    """The same of several."""
    bands = [band_of(middle, interval) for middle, interval in zip(middles, intervals, strict=True)]
    return [below for below, _ in bands], [above for _, above in bands]


def rule_points(
    axes: Any,
    rule: str,
    at: Sequence[float],
    middles: Sequence[float],
    intervals: Sequence[Sequence[float] | None],
    label: str | None = None,
) -> None:
    """One rule as points on a line with their intervals."""
    look = look_of(rule)
    axes.errorbar(
        at,
        middles,
        yerr=bands_of(middles, intervals),
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=look.width,
        markersize=5 if look.width < 1.8 else 6.5,
        elinewidth=0.9,
        capsize=2,
        label=rule if label is None else label,
        zorder=3 if look.width > 1.0 else 2,
    )


def legend_below(figure: Figure, axes: Any, columns: int) -> None:
    """One legend of a whole figure, under its panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def cut_to_middles(panels: Sequence[Any], below: float, above: float) -> None:
    """Let what is drawn as points in ``panels``, which share an axis, decide the scale: long intervals are cut off.

    Args:
        below: room beneath the lowest point, as a factor on a log scale, else a share of the height.
        above: the same over the highest.
    """
    heights = [h for axes in panels for drawn in axes.containers for h in drawn.lines[0].get_ydata()]
    low, high = min(heights, default=0.1), max(heights, default=1.0)
    if panels[0].get_yscale() == "log":
        panels[0].set_ylim(low * below, high * above)
        return
    height = (high - low) or 1.0
    panels[0].set_ylim(low - below * height, high + above * height)


def plain_ticks(axes: Any, way: str, ticks: Sequence[float]) -> None:
    """Numbers as people write them on the log scale of axis ``way``, ``x`` or ``y``."""
    low, high = axes.get_xlim() if way == "x" else axes.get_ylim()
    within = [tick for tick in ticks if low <= tick <= high]
    axes.set(**{f"{way}ticks": within, f"{way}ticklabels": [f"{tick:g}" for tick in within]})
    (axes.xaxis if way == "x" else axes.yaxis).set_minor_locator(NullLocator())


def quiet(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Titles, a light grid, no frame above and to the right."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
