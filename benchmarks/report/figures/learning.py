"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.looks import BLACK, canvas, legend_below, plain_ticks, quiet, rule_points

_LINEAR_UP_TO = 10.0
_TICKS = (-1000, -100, -10, -5, 0, 5, 10, 100)


def learning_curves(document: Mapping[str, Any]) -> Figure:
    """A column for every scenario; above what is taken off the held-out error, below what following the net brings.

    Scales are linear between -10 and 10 and logarithmic beyond.
    """
    scenarios = document["scenarios"]
    figure = canvas(1.0 + 3.2 * len(scenarios), 5.6)
    panels = figure.subplots(2, len(scenarios), sharex=True, squeeze=False)
    for column, scenario in enumerate(scenarios):
        errors, gains = panels[0][column], panels[1][column]
        for way, points in scenario["curves"].items():
            at = [point["tasks"] for point in points]
            off = [100.0 * point["error_off"] for point in points]
            brought_ms = [1e3 * point["utility_over_open_loop_s"] for point in points]
            rule_points(errors, way, at, off, [_scaled(100.0, point["error_off_ci"]) for point in points])
            rule_points(
                gains, way, at, brought_ms, [_scaled(1e3, point["utility_over_open_loop_ci_s"]) for point in points]
            )
        for axes in (errors, gains):
            axes.axhline(0.0, color=BLACK, linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            # Where few tasks teach too much, curves leave by decades.
            axes.set_yscale("symlog", linthresh=_LINEAR_UP_TO)
            low, high = axes.get_ylim()
            plain_ticks(axes, "y", [tick for tick in _TICKS if low <= tick <= high])
        plain_ticks(gains, "x", (100, 200, 400, 800, 1600, 3200, 6400, 12800))
        gains.tick_params(axis="x", labelrotation=45)
        is_first = column == 0
        quiet(errors, scenario["name"], "", "taken off the held-out error, %" if is_first else "")
        quiet(gains, "", "tasks learnt from (log scale)", "utility over open loop, ms a task" if is_first else "")
    legend_below(figure, panels[0][0], 3)
    return figure


def _scaled(factor: float, interval: list[float] | None) -> list[float] | None:
    return None if interval is None else [factor * end for end in interval]
