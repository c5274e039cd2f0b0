"""Deadlines: answers in time, right answers in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.looks import BLACK, VERMILLION, bands_of, canvas, look_of, plain_ticks, quiet

AGAINST = "open-loop_against_one-time-best"


def in_time(document: Mapping[str, Any]) -> Figure:
    """Above: shares and accuracy of every rule; below: what open-loop gains on the best one-time rule, paired."""
    cells = sorted(document["deadlines"], key=lambda cell: cell["deadline_s"])
    at = [1e3 * cell["deadline_s"] for cell in cells]
    figure = canvas(9.0, 5.4)
    panels = figure.subplots(2, 2, sharex=True, height_ratios=(1.5, 1))
    for column, (name, words) in enumerate(
        (("share_in_time", "share of tasks answered in time"), ("accuracy_in_time", "accuracy in time"))
    ):
        above, below = panels[0][column], panels[1][column]
        for rule in cells[0]["rules"]:
            look = look_of(rule)
            above.plot(
                at,
                [cell["rules"][rule][name] for cell in cells],
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                linewidth=1.4,
                label=rule,
            )
        quiet(above, words, "", "share of all tasks")
        gains = [100.0 * cell[AGAINST][f"{name}_gain"] for cell in cells]
        intervals = [cell[AGAINST][f"{name}_gain_ci"] for cell in cells]
        in_points = [None if ci is None else [100.0 * end for end in ci] for ci in intervals]
        below.errorbar(
            at, gains, yerr=bands_of(gains, in_points), color=VERMILLION, marker="X", linewidth=1.2, capsize=3
        )
        below.axhline(0.0, color=BLACK, linewidth=0.8, linestyle=":")
        below.set_xscale("log")
        plain_ticks(below, "x", at)
        quiet(below, "", "deadline, ms (log scale)", "more than one-time-best, points")
    panels[0][0].legend(fontsize=8, frameon=False)
    return figure
