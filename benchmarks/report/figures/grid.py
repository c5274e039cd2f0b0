"""The grid: cost by load, gap closed by cell, where tasks stop, every rule beside one-time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.looks import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    band_of,
    canvas,
    cut_to_middles,
    legend_below,
    look_of,
    plain_ticks,
    quiet,
    rule_points,
)
from benchmarks.rule_figures import BASELINE, REFERENCE, ratio_interval

Cell = Mapping[str, Any]

GAP_GOALS = (0.88, 0.93)
"""Of every cell, of the median."""
_GAP_RULES = ("one-time-threshold-best", "open-loop", "learned")
_STOPPING_RULES = (BASELINE, "learned")
_FAR_OFF = ("device-only", "edge-only", "static-best", "threshold-static-best")
_PAYLOAD_COLOURS = (SKY, GREEN, BLUE, PURPLE)
_ORDER = {"edge": 0, "exit": 1, "device": 2}
_EXIT_COLOURS = (YELLOW, ORANGE, VERMILLION)


def swept(document: Mapping[str, Any]) -> list[Cell]:
    """The cells that differ in rate, load, burst and link alone, among those of other kinds."""
    return [cell for cell in document["cells"] if cell["name"].startswith("rate ")]


def cost_by_load(document: Mapping[str, Any]) -> Figure:
    """A panel for every rate and burst (rows) and link (columns); costs reach over decades, hence their scale."""
    figure = _by_load(document, lambda figures: (figures["cost_s"], figures["cost_ci_s"]), "cost of a task, s")
    for row in _rows_of(figure):
        row[0].set_yscale("log")
        cut_to_middles(row, 0.7, 1.4)
        plain_ticks(row[0], "y", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
    return figure


def ratio_by_load(document: Mapping[str, Any]) -> Figure:
    """The same over one-time's cost, where rules lie near one another; those far off are left out."""
    figure = _by_load(
        document,
        lambda figures: (figures["cost_ratio_to_one_time"], figures["cost_ratio_ci"]),
        "cost over one-time's",
        _FAR_OFF,
    )
    for axes in figure.axes:
        axes.set_ylim(0.5, 1.25)
    return figure


def gap_closed_by_cell(document: Mapping[str, Any]) -> Figure:
    """One line for every cell, by what learned closes; intervals over seeds, paired."""
    known = [cell for cell in document["cells"] if cell["rules"]["learned"]["gap_closed"] is not None]
    known.sort(key=lambda cell: cell["rules"]["learned"]["gap_closed"])
    figure = canvas(8.5, 1.6 + 0.17 * len(known))
    axes = figure.subplots()
    least = -0.05
    for rule in _GAP_RULES:
        look = look_of(rule)
        for row, cell in enumerate(known):
            if rule not in cell["rules"]:
                continue
            gap = cell["rules"][rule]["gap_closed"]
            below, above = band_of(gap, gap_interval(cell, rule)) if rule == "learned" else (0.0, 0.0)
            axes.errorbar(
                max(gap, least),
                row,
                xerr=[[below], [above]],
                color=look.colour,
                marker=look.marker if gap >= least else "$<$",
                markersize=5,
                linewidth=0,
                elinewidth=0.8,
                label=rule if row == 0 else None,
            )
    for goal, words in zip(GAP_GOALS, ("every cell", "median"), strict=True):
        axes.axvline(goal, color=BLACK, linewidth=0.8, linestyle=":")
        axes.text(goal, len(known) - 0.2, f" {goal:g} {words}", fontsize=7, rotation=30)
    axes.set_yticks(range(len(known)), [cell["name"] for cell in known])
    axes.set_xlim(least - 0.03, 1.1)
    axes.set_ylim(-0.8, len(known) + 0.2)
    quiet(axes, "", "share of the gap from one-time to clairvoyant that is closed")
    axes.tick_params(axis="y", labelsize=7)
    legend_below(figure, axes, len(_GAP_RULES))
    return figure


def stops_by_load(document: Mapping[str, Any]) -> Figure:
    """Stacked shares; means over links and bursts, a column for every rate."""
    cells = swept(document)
    rates = sorted({cell["scenario"]["task_rate_per_s"] for cell in cells})
    rules = [rule for rule in _STOPPING_RULES if all(rule in cell["rules"] for cell in cells)]
    ends = _ends(cell["rules"][rule]["stops"] for cell in cells for rule in rules)
    colours = _end_colours(ends)
    figure = canvas(2.0 + 2.3 * len(rates), 0.8 + 2.3 * len(rules))
    panels = figure.subplots(len(rules), len(rates), sharey=True, squeeze=False)
    for rule, row in zip(rules, panels, strict=True):
        for rate, axes in zip(rates, row, strict=True):
            by_load = defaultdict(list)
            for cell in cells:
                if cell["scenario"]["task_rate_per_s"] == rate:
                    by_load[cell["scenario"]["load_share"]].append(cell["rules"][rule]["stops"])
            loads = sorted(by_load)
            bottom = np.zeros(len(loads))
            for end in ends:
                shares = np.array([np.mean([stops.get(end, 0.0) for stops in by_load[load]]) for load in loads])
                axes.bar(range(len(loads)), shares, 0.8, bottom, color=colours[end], edgecolor="white", label=end)
                bottom += shares
            axes.set_xticks(range(len(loads)), [f"{load:g}" for load in loads])
            axes.set_ylim(0.0, 1.0)
            quiet(axes, f"{rule}, {rate:g} tasks/s", "edge load", "share of tasks" if axes is row[0] else "")
            axes.grid(visible=False)
    legend_below(figure, panels[0][0], 4)
    return figure


def ratios_over_cells(document: Mapping[str, Any]) -> Figure:
    """Every cell a dot, every rule a line, with quartiles."""
    cells = document["cells"]
    rules = list(dict.fromkeys(rule for cell in cells for rule in cell["rules"]))
    figure = canvas(8.5, 1.0 + 0.36 * len(rules))
    axes = figure.subplots()
    spread = np.random.default_rng(1)
    for row, rule in enumerate(reversed(rules)):
        ratios = np.array([cell["rules"][rule]["cost_ratio_to_one_time"] for cell in cells if rule in cell["rules"]])
        axes.boxplot(
            ratios,
            orientation="horizontal",
            positions=[row],
            widths=0.6,
            showfliers=False,
            medianprops={"color": BLACK, "linewidth": 1.5},
            boxprops={"color": GREY},
            whiskerprops={"color": GREY},
            capprops={"color": GREY},
        )
        heights = row + spread.uniform(-0.2, 0.2, len(ratios))
        axes.plot(ratios, heights, ".", color=look_of(rule).colour, markersize=4, alpha=0.7, zorder=3)
        axes.annotate(
            f"{np.median(ratios):.2f}",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.axvline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rules)), list(reversed(rules)))
    plain_ticks(axes, "x", (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50))
    quiet(axes, f"{len(cells)} cells; at the right the median", "cost over one-time's (log scale)")
    return figure


def gap_interval(cell: Cell, rule: str) -> list[float] | None:
    """Of the share of the gap that ``rule`` closes: paired over seeds; ``None`` where there is one seed."""
    costs = [np.array(list(cell["rules"][name]["cost_s_by_seed"].values())) for name in (BASELINE, rule, REFERENCE)]
    if len(costs[0]) < 2:
        return None
    return ratio_interval(costs[0] - costs[1], costs[0] - costs[2])


def _by_load(
    document: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], tuple[float, Sequence[float] | None]],
    title: str,
    left_out: Sequence[str] = (),
) -> Figure:
    cells = swept(document)
    rows = sorted({_row(cell) for cell in cells})
    links = sorted({cell["scenario"]["uplink_bytes_per_s"] for cell in cells})
    loads = sorted({cell["scenario"]["load_share"] for cell in cells})
    rules = list(dict.fromkeys(rule for cell in cells for rule in cell["rules"] if rule not in left_out))
    figure = canvas(1.0 + 3.1 * len(links), 1.2 + 1.8 * len(rows))
    panels = figure.subplots(len(rows), len(links), sharex=True, sharey="row", squeeze=False)
    for row, line in zip(rows, panels, strict=True):
        for link, axes in zip(links, line, strict=True):
            here = {
                cell["scenario"]["load_share"]: cell["rules"]
                for cell in cells
                if _row(cell) == row and cell["scenario"]["uplink_bytes_per_s"] == link
            }
            for rank, rule in enumerate(rules):
                at = [load for load in sorted(here) if rule in here[load]]
                found = [read(here[load][rule]) for load in at]
                # Side by side, or intervals would hide one another.
                beside = 0.004 * (rank - len(rules) / 2.0)
                rule_points(axes, rule, [load + beside for load in at], [m for m, _ in found], [i for _, i in found])
            axes.set_xticks(loads)
            words = f"{row[0]:g} tasks/s, bursts {row[1]:g} s, {link / 1e3:g} kB/s"
            quiet(axes, words, "edge load" if row == rows[-1] else "", title if link == links[0] else "")
    if panels.size:
        legend_below(figure, panels[0][0], 5)
    return figure


def _rows_of(figure: Figure) -> list[list[Any]]:
    """Its panels, row by row."""
    rows: dict[int, list[Any]] = {}
    for axes in figure.axes:
        place: Any = axes.get_subplotspec()
        rows.setdefault(place.rowspan.start, []).append(axes)
    return list(rows.values())


def _row(cell: Cell) -> tuple[float, float]:
    return cell["scenario"]["task_rate_per_s"], cell["scenario"]["load_burst_s"]


def _ends(all_stops: Iterable[Mapping[str, float]]) -> list[str]:
    """Ends of tasks, first those at the edge, then those at exits, then the others."""
    found = {end for stops in all_stops for end in stops}
    return sorted(found, key=lambda end: (_ORDER.get(end.partition(" ")[0].rstrip(","), len(_ORDER)), end))


def _end_colours(ends: Sequence[str]) -> dict[str, str]:
    payloads = [end for end in ends if end.startswith("edge")]
    exits = [end for end in ends if end.startswith("exit")]
    colours = {end: _PAYLOAD_COLOURS[i % len(_PAYLOAD_COLOURS)] for i, end in enumerate(payloads)}
    colours |= {end: _EXIT_COLOURS[i % len(_EXIT_COLOURS)] for i, end in enumerate(exits)}
    return {end: colours.get(end, GREY if end == "device" else BLACK) for end in ends}
