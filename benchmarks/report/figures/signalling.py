"""What signalling costs and buys: messages against cost, the mirror's errors, delay, loss and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.report.looks import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    bands_of,
    canvas,
    cut_to_middles,
    legend_below,
    plain_ticks,
    quiet,
)

Variant = Mapping[str, Any]

MESSAGES_GOAL = 0.5
"""Of the polled ones, at most."""
COST_GOAL = 1.02
"""Over exact state's."""
_EVERY_CHANGE = ", every change of a decision"
_TITLES = {
    "backlog_s": "backlog: the twin's, s",
    "device_backlog_s": "backlog: the device's, s",
    "epoch": "epoch wrong, share",
    "busy": "busy or idle wrong, share",
    "queue_length": "queue length, tasks",
    "task_rate_per_s": "task rate, 1/s",
    "busy_share": "busy share",
    "uplink_wait_s": "wait for the uplink, s",
    "goodput_share": "goodput, share of it",
    "profile_share": "profile, share of it",
    "misled": "decisions misled, share",
    "lost_s": "lost by these, s a task",
}
"""Fields of :data:`benchmarks.simulator.mirror_errors.FIELDS`, in short."""
_COLUMNS = 4
_DIGITS = 9
"""Of an error: less is rounding."""


def messages_against_cost(document: Mapping[str, Any]) -> Figure:
    """Every way of signalling a point; grey: the goal. Disturbed worlds are in a figure of their own."""
    found = by_name(document)
    figure = canvas(8.5, 4.8)
    axes = figure.subplots()
    thresholds = [v for v in found.values() if v["group"] == "threshold"]
    lines: list[tuple[str, list[Variant], str, str, str]] = [
        ("plans, as shipped", [found["plans"]], VERMILLION, "*", ""),
        ("plans, other thresholds", [v for v in thresholds if not is_every_change(v)], VERMILLION, "o", ":"),
        ("plans, updates at every change of a decision", list(filter(is_every_change, thresholds)), BLUE, "o", "-"),
        ("periodic status", [v for name, v in found.items() if name.startswith("periodic")], GREEN, "s", "--"),
        ("polled at every epoch", [found["polled"]], BLACK, "D", ""),
    ]
    for words, variants, colour, marker, line in lines:
        if variants:
            variants.sort(key=lambda v: v["messages_per_task"])
            _costs(axes, [v["messages_per_task"] for v in variants], variants, words, colour, marker, line)
    for variant in found.values():
        if variant["name"].startswith("periodic"):
            axes.annotate(
                f"{variant['signalling']['period_s']:g} s",
                (variant["messages_per_task"], variant["cost_ratio_to_exact"]),
                xytext=(4, -11),
                textcoords="offset points",
                fontsize=7,
                color=GREEN,
            )
    most = MESSAGES_GOAL * found["polled"]["messages_per_task"]
    cut_to_middles([axes], 0.25, 0.25)
    low, high = min(0.99, axes.get_ylim()[0]), axes.get_ylim()[1]
    left = 0.8 * min(v["messages_per_task"] for v in found.values() if v["messages_per_task"] > 0.0)
    axes.add_patch(Rectangle((left, low), most - left, COST_GOAL - low, color=GREY, alpha=0.2, linewidth=0))
    axes.axhline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_ylim(low, high)
    axes.set_xscale("log")
    plain_ticks(axes, "x", (0.1, 0.2, 0.5, 1, 2, 5, 10, 20))
    quiet(axes, "", "messages per task (log scale)", "cost over that with exact state")
    legend_below(figure, axes, 3)
    return figure


def mirror_errors(document: Mapping[str, Any]) -> Figure:
    """Mean absolute error of every mirrored field, by what reports are worth: thresholds of edge and device."""
    variants = [v for v in by_name(document).values() if v["name"] == "plans" or v["group"] == "threshold"]
    variants = [v for v in variants if not is_every_change(v)]
    variants.sort(key=lambda v: v["signalling"]["backlog_threshold_s"])
    shipped = next(n for n, v in enumerate(variants) if v["name"] == "plans")
    fields = [field for field in _TITLES if any(field in v["errors"] for v in variants)]
    rows = -(-len(fields) // _COLUMNS)
    figure = canvas(10.5, 2.1 * rows + 0.5)
    panels = list(figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).flat)
    names = [
        f"{1e3 * v['signalling']['backlog_threshold_s']:g}\n{1e3 * v['signalling']['report_threshold_s']:g}"
        f"\n{v['messages_per_task']:.1f}"
        for v in variants
    ]
    for axes, field in zip(panels, fields, strict=False):
        errors = [round(v["errors"].get(field, float("nan")), _DIGITS) for v in variants]
        axes.plot(errors, color=BLUE, marker="o", linewidth=1.2)
        axes.plot([shipped], [errors[shipped]], color=VERMILLION, marker="*", markersize=10)
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_ylim(0.0, 1.2 * max(*errors, 0.001))
        quiet(axes, _TITLES[field], "", "")
    for axes in panels[len(fields) :]:
        axes.set_visible(False)
    figure.supxlabel("report threshold of the edge, ms / of the device, ms / messages per task", fontsize=8)
    return figure


def disturbances(document: Mapping[str, Any]) -> Figure:
    """Plans and polling under noise of service times, delay and loss, over exact state in the same world."""
    groups: tuple[tuple[str, str, Callable[[Variant], float]], ...] = (
        ("jitter", "variation of service times, %", lambda v: 100.0 * _number(v["name"])),
        ("delay", "one-way delay, ms", lambda v: 1e3 * float(v["signalling"]["delay_s"])),
        ("loss", "messages lost, %", lambda v: 100.0 * float(v["signalling"]["loss_share"])),
        ("disorder", "10 ms + exp(50 ms)", lambda _: 0.0),
    )
    figure = canvas(10.5, 3.4)
    panels = figure.subplots(1, len(groups), sharey=True, width_ratios=(3, 3, 3, 1.6))
    for axes, (group, title, read) in zip(panels, groups, strict=True):
        for word, colour, marker in (("plans", VERMILLION, "*"), ("polled", BLACK, "D")):
            variants = [v for v in document["variants"] if v["group"] == group and v["name"].startswith(word)]
            _costs(axes, [read(v) for v in variants], variants, word, colour, marker, "-")
        axes.set_yscale("log")
        axes.axhline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
        quiet(axes, group, title, "cost over exact state's (log scale)" if axes is panels[0] else "")
    panels[1].set_xscale("log")
    plain_ticks(panels[1], "x", (1, 10, 50, 200))
    panels[3].set_xticks([])
    disturbed = [v for v in document["variants"] if v["group"] in {group for group, _, _ in groups}]
    highest = max(v["cost_ratio_to_exact"] for v in disturbed)
    panels[0].set_ylim(0.9, 1.3 * highest)
    plain_ticks(panels[0], "y", (1, 1.5, 2, 3, 5, 10, 20, 50, 100))
    legend_below(figure, panels[0], 2)
    return figure


def by_name(document: Mapping[str, Any]) -> dict[str, Variant]:
    """Variants of a frontier that are of the undisturbed world."""
    return {v["name"]: v for v in document["variants"] if v["group"] in ("scheme", "threshold")}


def is_every_change(variant: Variant) -> bool:
    """Whether its twin sends an update whenever a decision would change, whatever the change is worth."""
    return str(variant["name"]).endswith(_EVERY_CHANGE)


def has_thresholds(document: Mapping[str, Any]) -> bool:
    """Whether thresholds and disturbances were varied: a quick frontier leaves them out."""
    return any(variant["group"] == "threshold" for variant in document["variants"])


def _costs(
    axes: Any, at: Sequence[float], variants: Sequence[Variant], words: str, colour: str, marker: str, line: str
) -> None:
    ratios = [v["cost_ratio_to_exact"] for v in variants]
    axes.errorbar(
        at,
        ratios,
        yerr=bands_of(ratios, [v["cost_ratio_ci"] for v in variants]),
        color=colour,
        marker=marker,
        linestyle=line,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
        markersize=9 if marker == "*" else 5,
        label=words,
    )


def _number(name: str) -> float:
    return float(name.rpartition(" ")[2])
