"""What real processes say to one another, by plans and when they are asked at every epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.report.looks import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, canvas, legend_below, quiet
from benchmarks.rule_figures import ratio_interval

POLLED = ", polled"
"""Behind the rule of a run that asks at every epoch."""
_COLOURS = (BLUE, SKY, ORANGE, VERMILLION, GREEN, PURPLE)
_OTHERS = "others"


def messages_by_kind(document: Mapping[str, Any]) -> Figure:
    """A bar for every rule: messages per task by sender and kind, the rarer kinds together."""
    sent = {title: _per_task(found) for title, found in document["rules"].items()}
    totals = sum(sent.values(), Counter[str]())
    kinds = [kind for kind, _ in totals.most_common(len(_COLOURS))]
    rows = list(sent)
    figure = canvas(9.0, 1.3 + 0.45 * len(rows))
    axes = figure.subplots()
    left = np.zeros(len(rows))
    for kind, colour in (*zip(kinds, _COLOURS, strict=False), (_OTHERS, GREY)):
        named = [kind] if kind != _OTHERS else [other for other in totals if other not in kinds]
        widths = np.array([sum(sent[title][each] for each in named) for title in rows])
        if widths.any():
            axes.barh(rows, widths, 0.7, left, color=colour, edgecolor="white", label=kind)
            left += widths
    axes.invert_yaxis()
    quiet(axes, "", "messages per task")
    legend_below(figure, axes, 4)
    return figure


def over_polled(document: Mapping[str, Any], rule: str) -> tuple[float, list[float] | None]:
    """Cost of ``rule`` by plans over that of the same rule polled, and its paired interval over seeds."""
    planned, polled = (_costs_s(document, title) for title in (rule, rule + POLLED))
    return float(planned.mean() / polled.mean()), ratio_interval(planned, polled)


def polled_rule(document: Mapping[str, Any]) -> str:
    """The rule that ran both ways."""
    titles: list[str] = list(document["rules"])
    return next(title for title in titles if title.endswith(POLLED)).removesuffix(POLLED)


def _costs_s(document: Mapping[str, Any], title: str) -> NDArray[np.float64]:
    return np.array([run["cost_s"] for run in document["rules"][title]["testbed"]["by_seed"].values()])


def _per_task(found: Mapping[str, Any]) -> Counter[str]:
    """Messages by sender and kind, all devices together."""
    runs = list(found["testbed"]["by_seed"].values())
    sent: Counter[str] = Counter()
    for run in runs:
        for words, count in run["messages_by_kind"].items():
            service, _, kind = words.partition(" ")
            sent[f"{service.partition('-')[0]}: {kind}"] += count
    tasks = sum(run["tasks"] for run in runs)
    return Counter({kind: count / tasks for kind, count in sent.items()})
