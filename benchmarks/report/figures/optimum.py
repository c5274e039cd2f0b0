"""A setting small enough for dynamic programming: rules beside the optimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.looks import BLACK, GREY, band_of, canvas, look_of, quiet
from benchmarks.rule_figures import ratio_interval

OPTIMUM = "optimum"
GOAL = 1.02
"""Cost over the optimum's, at most."""


def beside_the_optimum(document: Mapping[str, Any]) -> Figure:
    """Every rule's cost over the optimum's; intervals over seeds, paired."""
    rules = [rule for rule in document["rules"] if rule != OPTIMUM]
    figure = canvas(8.0, 1.1 + 0.36 * len(rules))
    axes = figure.subplots()
    for row, rule in enumerate(reversed(rules)):
        ratio, interval = over_optimum(document, rule)
        below, above = band_of(ratio, interval)
        look = look_of(rule)
        axes.errorbar(
            ratio, row, xerr=[[below], [above]], color=look.colour, marker=look.marker, markersize=7, capsize=3
        )
    axes.axvspan(1.0, GOAL, color=GREY, alpha=0.25, linewidth=0)
    axes.axvline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rules)), list(reversed(rules)))
    quiet(axes, "grey: within 2 %", "cost over the optimum's")
    return figure


def over_optimum(document: Mapping[str, Any], rule: str) -> tuple[float, list[float] | None]:
    """Ratio of the cost of ``rule`` to the optimum's and its interval, paired over seeds."""
    costs, best = (np.array(list(document["rules"][n]["cost_s_by_seed"].values())) for n in (rule, OPTIMUM))
    return float(costs.mean() / best.mean()), None if len(costs) < 2 else ratio_interval(costs, best)
