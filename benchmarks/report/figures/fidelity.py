"""Simulator beside real processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.looks import BLUE, VERMILLION, canvas, legend_below, quiet

_SIDES = (("testbed", "real processes", BLUE, "o", "-"), ("simulator", "simulator", VERMILLION, "X", "--"))


def simulator_and_testbed(document: Mapping[str, Any]) -> Figure:
    """A row for every rule: quantiles of latency, shares of tasks by their end, means by stage."""
    rules = document["rules"]
    figure = canvas(11.0, 0.6 + 2.5 * len(rules))
    panels = figure.subplots(len(rules), 3, squeeze=False, width_ratios=(1.2, 1.2, 1))
    for (rule, found), (latency, ends, stages) in zip(rules.items(), panels, strict=True):
        for rank, (side, words, colour, marker, line) in enumerate(_SIDES):
            quantiles = {int(name[1:]): s for name, s in found["latency_s"][side].items() if name != "mean"}
            latency.plot(
                [1e3 * seconds for seconds in quantiles.values()],
                [share / 100.0 for share in quantiles],
                color=colour,
                marker=marker,
                linestyle=line,
                label=words,
            )
            beside = (rank - 0.5) * 0.4
            shares = [pair[side] for pair in found["stops"].values()]
            ends.barh([row + beside for row in range(len(shares))], shares, 0.38, color=colour)
            means = [pair[side] for pair in found["stages_mean_s"].values()]
            stages.barh(
                [row + beside for row in range(len(means))], [1e3 * (s or 0.0) for s in means], 0.38, color=colour
            )
        latency.set_ylim(0.0, 1.0)
        latency.set_xlim(left=0.0)
        tasks = found["tasks"]["testbed"]
        quiet(latency, f"{rule}, {tasks} real tasks", "latency, ms", "share of answers no later")
        ends.set_yticks(range(len(found["stops"])), list(found["stops"]))
        quiet(ends, "where tasks end", "share of tasks")
        stages.set_yticks(range(len(found["stages_mean_s"])), [n.replace("_", " ") for n in found["stages_mean_s"]])
        quiet(stages, "stages", "mean where entered, ms")
        for axes in (ends, stages):
            axes.invert_yaxis()
    legend_below(figure, panels[0][0], 2)
    return figure
