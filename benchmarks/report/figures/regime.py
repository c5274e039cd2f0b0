"""A change of regime under a twin that learns while it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.looks import BLACK, BLUE, GREEN, VERMILLION, canvas, legend_below, look_of, quiet

TRACKED = {
    "task_rate_per_s": ("task rate", GREEN),
    "goodput_bytes_per_s": ("goodput of the uplink", BLUE),
    "backlog_mean_s": ("mean backlog of the edge", VERMILLION),
}
"""What the twin tracks: words and colour."""
_NEAR = 0.1


def regime_change(document: Mapping[str, Any]) -> Figure:
    """Cost by window of time around the step, what became of weights, and what the twin tracks right after it."""
    figure = canvas(10.5, 6.0)
    costs, tracked = figure.subplots(2, 1, height_ratios=(1.6, 1))
    at_s = [start + document["window_s"] / 2.0 for start in document["windows_from_s"]]
    for rule, figures in document["rules"].items():
        look = look_of(rule)
        windows = [float("nan") if cost is None else cost for cost in figures["windows_s"]]
        costs.plot(
            at_s,
            windows,
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            linewidth=look.width,
            markersize=4,
            label=rule,
        )
        if rule == "learned-online":
            known = [(at, ci) for at, ci in zip(at_s, figures["windows_ci_s"], strict=True) if ci is not None]
            costs.fill_between(
                [at for at, _ in known],
                [ci[0] for _, ci in known],
                [ci[1] for _, ci in known],
                color=look.colour,
                alpha=0.15,
                linewidth=0,
                label="learned-online, 95 %",
            )
    events = [event for by_run in document["weights"]["events"].values() for event in by_run]
    step_at_s = document["scenario"]["step_at_s"]
    highest = max(cost for figures in document["rules"].values() for cost in figures["windows_s"] if cost is not None)
    costs.set_ylim(0.0, 1.2 * highest)
    for result, marker, colour in (("promoted", "^", GREEN), ("rolled-back", "v", BLACK)):
        happened_s = [event["at_s"] - step_at_s for event in events if event["result"] == result]
        if happened_s:
            costs.plot(
                happened_s,
                [0.0] * len(happened_s),
                marker,
                color=colour,
                markersize=7,
                clip_on=False,
                label=f"weights {result}",
            )
    costs.axvline(0.0, color=BLACK, linewidth=0.8, linestyle=":")
    quiet(costs, "", "seconds after the step", "cost of a task, s")
    for name, (words, colour) in TRACKED.items():
        track = document["tracked"][name]
        shown = track["mean_by_second"]
        values = [float("nan") if value is None else value / track["after"] for value in shown["values"]]
        tracked.plot([shown["from_s"] + i for i in range(len(values))], values, color=colour, label=words)
    tracked.axhspan(1.0 - _NEAR, 1.0 + _NEAR, color=BLACK, alpha=0.1, linewidth=0)
    tracked.axvline(0.0, color=BLACK, linewidth=0.8, linestyle=":")
    tracked.set_ylim(0.0, min(4.0, tracked.get_ylim()[1]))
    quiet(tracked, "", "seconds after the step", "tracked over what holds after it")
    tracked.legend(fontsize=7, frameon=False)
    legend_below(figure, costs, 5)
    return figure
