"""Panels in few words: what it asks, in which unit, what it means, and when it may be empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.boards.frame import DATASOURCE

SECONDS, BYTES, BYTES_PER_S, SHARE, COUNT, JOULES, WATTS, CELSIUS = (
    "s", "bytes", "Bps", "percentunit", "short", "joule", "watt", "celsius",
)  # fmt: skip
PER_S = "ops"
PER_MIN = "cpm"
CORES = "suffix:cores"
SQUARE_SECONDS = "suffix:s²"
YES_NO = "bool_yes_no"
NONE = "none"
"""An ordinal, a factor, or a state that stands there in words."""
EMPTY = "May be empty: "
"""Begins the part of a description that says when a panel shows nothing: for readers, and the test of all queries."""
HEIGHT = 8
_STAT_HEIGHT = 4


class Ask(NamedTuple):
    """One query of a panel."""

    expr: str
    legend: str = "__auto"
    unit: str | None = None
    """``None``: the panel's. Another one gets an axis of its own."""


def quantiles(metric: str, match: str = "", by: str = "") -> list[Ask]:
    """Median and 95th percentile of a histogram; ``match`` are label matchers, ``by`` a label that stays."""
    inner = f"rate({metric}_bucket{{{match}}}[$__rate_interval])"
    labels, prefix = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return [
        Ask(f"histogram_quantile({q}, sum by ({labels}) ({inner}))", prefix + name)
        for q, name in ((0.5, "median"), (0.95, "95 %"))
    ]


def lines(
    title: str,
    text: str,
    unit: str,
    *asks: Ask | str,
    width: int = 12,
    may_be_empty: str | None = None,
    is_stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(_description(text, may_be_empty))
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(HEIGHT)
        .line_width(1)
        .fill_opacity(30 if is_stacked else 5)
        .show_points(VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if is_stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if most is not None:
        panel.min(0.0).max(most)
    for ref, ask in zip(ascii_uppercase, _asks(asks), strict=False):
        panel.with_target(prometheus.Dataquery().expr(ask.expr).legend_format(ask.legend).ref_id(ref).range())
        if ask.unit is not None:
            panel.override_by_query(ref, [DynamicConfigValue(id_val="unit", value=ask.unit)])
    return panel


def number(
    title: str,
    text: str,
    unit: str,
    ask: Ask | str,
    *,
    width: int = 3,
    may_be_empty: str | None = None,
    bad_from: float | None = None,
    words: Mapping[str, str] | None = None,
) -> stat.Panel:
    """One value now, with its course behind it; red from ``bad_from`` on, ``words`` in place of numbers."""
    (query,) = _asks((ask,))
    steps = [Threshold(value=None, color="green" if bad_from is not None else "text")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    panel = (
        stat.Panel()
        .title(title)
        .description(_description(text, may_be_empty))
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(_STAT_HEIGHT)
        .graph_mode(BigValueGraphMode.NONE if words else BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .thresholds(build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .no_value("-")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .with_target(prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id("A").range())
    )
    if words:
        panel.mappings([_mapping(words)])
    return panel


def states(
    title: str,
    text: str,
    *asks: Ask | str,
    words: Mapping[str, str],
    width: int = 12,
    may_be_empty: str | None = None,
) -> statetimeline.Panel:
    """Which of several states held when."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(_description(text, may_be_empty))
        .datasource(DATASOURCE)
        .unit(NONE)
        .span(width)
        .height(HEIGHT)
        .show_value(VisibilityMode.NEVER)
        .merge_values(True)
        .mappings([_mapping(words)])
    )
    for ref, ask in zip(ascii_uppercase, _asks(asks), strict=False):
        panel.with_target(prometheus.Dataquery().expr(ask.expr).legend_format(ask.legend).ref_id(ref).range())
    return panel


class Column(NamedTuple):
    """One column of a table."""

    title: str
    unit: str
    expr: str


def rows(
    title: str,
    text: str,
    columns: Sequence[Column],
    *,
    by: str,
    by_title: str,
    link: tuple[str, str] | None = None,
    width: int = 24,
    may_be_empty: str | None = None,
) -> table.Panel:
    """One row per value of label ``by``, one column per query; ``link``: (title, URL) of a row."""
    panel = (
        table.Panel()
        .title(title)
        .description(_description(text, may_be_empty))
        .datasource(DATASOURCE)
        .unit(NONE)
        .span(width)
        .height(HEIGHT)
        .show_header(True)
    )
    names = {by: by_title}
    order = {by: 0}
    for index, (ref, column) in enumerate(zip(ascii_uppercase, columns, strict=False), start=1):
        target = prometheus.Dataquery().expr(column.expr).format(PromQueryFormat.TABLE).ref_id(ref).instant()
        panel.with_target(target)
        names[f"Value #{ref}"] = column.title
        order[f"Value #{ref}"] = index
        panel.override_by_name(column.title, [DynamicConfigValue(id_val="unit", value=column.unit)])
    if link is not None:
        entry = {"title": link[0], "url": link[1]}
        panel.override_by_name(by_title, [DynamicConfigValue(id_val="links", value=[entry])])
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    organised = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=organised))


def _asks(asks: Sequence[Ask | str]) -> list[Ask]:
    return [Ask(ask) if isinstance(ask, str) else ask for ask in asks]


def _description(text: str, may_be_empty: str | None) -> str:
    return text if may_be_empty is None else f"{text} {EMPTY}{may_be_empty}."


def _mapping(words: Mapping[str, str]) -> ValueMap:
    colours = {"good": "green", "bad": "red", "some": "orange"}
    options = {}
    for index, (value, word) in enumerate(words.items()):
        name, _, colour = word.partition("|")
        options[value] = ValueMappingResult(text=name, color=colours[colour or "good"], index=index)
    return ValueMap(options=options)
