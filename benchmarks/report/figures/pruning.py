"""Necessary conditions R1-R3, and the factor on caused waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.looks import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    bands_of,
    canvas,
    cut_to_middles,
    legend_below,
    look_of,
    quiet,
    rule_points,
)

_WAY_COLOURS = (BLUE, GREEN, ORANGE)


def reduction(document: Mapping[str, Any]) -> Figure:
    """By scenario: decisions compared and found different, choices pruned, planning time, utility lost."""
    found = document["reduction"]
    rows = list(range(len(found)))
    figure = canvas(11.5, 1.7 + 0.6 * len(found))
    pruned, times, lost = figure.subplots(1, 3, sharey=True)
    pruned.barh(rows, [100.0 * each["pruned_share"] for each in found], 0.5, color=BLUE)
    for row, each in zip(rows, found, strict=True):
        decisions = each["decisions"]["open-loop"]
        words = f"{decisions['different']:,} of {decisions['compared']:,} decisions differ"
        pruned.text(1.0, row + 0.38, words, fontsize=7, color=BLACK)
    quiet(pruned, "choices of going on that R1 and R2 prune", "share, %")
    ways = list(found[0]["planning_time"])
    for rank, way in enumerate(ways):
        ratios = [each["planning_time"][way]["ratio"] for each in found]
        intervals = [each["planning_time"][way]["ratio_ci"] for each in found]
        beside = 0.22 * (rank - (len(ways) - 1) / 2.0)
        times.errorbar(
            ratios,
            [row + beside for row in rows],
            xerr=bands_of(ratios, intervals),
            color=_WAY_COLOURS[rank % len(_WAY_COLOURS)],
            marker="osD"[rank % 3],
            linestyle="",
            capsize=2,
            label=way,
        )
    times.axvline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
    quiet(times, "planning time", "with R1 and R2 over without")
    times.legend(fontsize=7, frameon=False)
    for rank, rule in enumerate(found[0]["utility"]):
        utility = [each["utility"][rule] for each in found]
        shares = [100.0 * each["utility_lost_share"] for each in utility]
        intervals = [
            None
            if each["utility_lost_ci_s"] is None
            else [100.0 * end / each["cost_without_s"] for end in each["utility_lost_ci_s"]]
            for each in utility
        ]
        look = look_of(rule)
        lost.errorbar(
            shares,
            [row + 0.2 * (rank - 0.5) for row in rows],
            xerr=bands_of(shares, intervals),
            color=look.colour,
            marker=look.marker,
            linestyle="",
            capsize=2,
            label=rule,
        )
    lost.axvline(0.0, color=BLACK, linewidth=0.8, linestyle=":")
    quiet(lost, "utility lost with R1 and R2", "share of cost, %")
    lost.legend(fontsize=7, frameon=False)
    pruned.set_yticks(rows, [each["name"] for each in found])
    pruned.set_ylim(len(found) - 0.3, -0.6)
    return figure


def price_of_waiting(document: Mapping[str, Any]) -> Figure:
    """A panel for every scenario: cost with the factor 1 / (1 - rho_d) over that without, by load of the device."""
    prices = document["price_of_waiting"]
    figure = canvas(1.0 + 3.4 * len(prices), 3.4)
    panels = figure.subplots(1, len(prices), squeeze=False)[0]
    for scenario, axes in zip(prices, panels, strict=True):
        for rule in dict.fromkeys(row["rule"] for row in scenario["rows"]):
            rows = sorted(
                (row for row in scenario["rows"] if row["rule"] == rule), key=lambda row: float(row["device_load"])
            )
            rule_points(
                axes,
                rule,
                [row["device_load"] for row in rows],
                [row["cost_ratio"] for row in rows],
                [row["cost_ratio_ci"] for row in rows],
            )
        axes.axhline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
        cut_to_middles([axes], 0.4, 0.4)
        quiet(
            axes,
            scenario["name"],
            "share of time in which the device works",
            "cost with the factor over without" if axes is panels[0] else "",
        )
    legend_below(figure, panels[0], 2)
    return figure
