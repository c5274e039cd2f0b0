"""What of the gap to the clairvoyant is foresight, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.figures.grid import GAP_GOALS, gap_interval
from benchmarks.report.looks import BLACK, GREY, band_of, canvas, look_of, quiet
from benchmarks.rule_figures import BASELINE, REFERENCE

_ENDS = (BASELINE, REFERENCE)


def gap_by_foresight(document: Mapping[str, Any]) -> Figure:
    """A panel for every cell: share of the gap that is closed without seeing one kind of future, or any."""
    cells = document["cells"]
    rules = shown_rules(document)
    figure = canvas(9.0, 0.7 + 1.9 * ((len(cells) + 1) // 2))
    panels = figure.subplots((len(cells) + 1) // 2, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, cell in zip(panels, cells, strict=False):
        for row, rule in enumerate(reversed(rules)):
            gap = cell["rules"][rule]["gap_closed"]
            if gap is None:
                continue
            below, above = band_of(gap, gap_interval(cell, rule))
            look = look_of(rule)
            axes.errorbar(gap, row, xerr=[[below], [above]], color=look.colour, marker=look.marker, capsize=3)
        axes.axvline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
        axes.axvline(GAP_GOALS[0], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rules)), list(reversed(rules)))
        quiet(axes, cell["name"], "share of the gap closed")
        axes.title.set_fontsize(9)
    for axes in panels[len(cells) :]:
        axes.set_visible(False)
    return figure


def shown_rules(document: Mapping[str, Any]) -> list[str]:
    """All but those between which the gap lies."""
    return [rule for rule in document["cells"][0]["rules"] if rule not in _ENDS]
