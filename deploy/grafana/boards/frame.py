"""What all dashboards share: variables, links to one another, alert annotations, numbering."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PROVISIONED = VariableOption(text="Prometheus", value="twinsplit-prometheus", selected=True)
"""The data source of ``provisioning/datasources``; where there is none of that name Grafana takes its default one."""
TAG = "twinsplit"
BOARD_UIDS = {
    "Fleet": "twinsplit-fleet",
    "One device": "twinsplit-device",
    "Decisions": "twinsplit-decisions",
    "Signalling and transport": "twinsplit-signalling",
}


class Board(Builder[Dashboard]):
    """One dashboard: rows of panels, numbered in their order."""

    def __init__(self, title: str, description: str, variables: Sequence[Builder[VariableModel]] = ()) -> None:
        self._builder = (
            build.Dashboard(title)
            .uid(BOARD_UIDS[title])
            .description(description)
            .tags([TAG])
            .timezone("browser")
            .time("now-15m", "now")
            .refresh("5s")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .with_variable(
                build.DatasourceVariable("datasource")
                .label("Data source")
                .description("The Prometheus that scrapes the services.")
                .type("prometheus")
                .current(PROVISIONED)
            )
            .annotation(_Alerts())
        )
        for variable in variables:
            self._builder.with_variable(variable)
        for other, uid in BOARD_UIDS.items():
            if other != title:
                self._builder.link(
                    build.DashboardLink(other)
                    .type(DashboardLinkType.LINK)
                    .url(f"/d/{uid}")
                    .tooltip(f"Dashboard: {other}")
                    .include_vars(True)
                    .keep_time(True)
                )
        self._panels = 0

    def row(self, title: str, *panels: Builder[Panel]) -> Board:
        """A row with its panels, whose widths fill lines of 24."""
        self._panels += 1
        self._builder.with_row(build.Row(title).id(self._panels))
        for panel in panels:
            self._panels += 1
            self._builder.with_panel(_Numbered(panel, self._panels))
        return self

    def build(self) -> Dashboard:
        """The dashboard."""
        return self._builder.build()


def instances(name: str, service: str, label: str, *, is_multiple: bool) -> build.QueryVariable:
    """A variable of the instances of ``service``; ``is_multiple``: several, or all of them.

    Links between dashboards hand values on by name, so one of several needs another name than one of one.
    """
    variable = (
        build.QueryVariable(name)
        .label(label)
        .description(f"The {service} by its address as Prometheus scrapes it.")
        .datasource(DATASOURCE)
        .query(f'label_values(twinsplit_build_info{{service="{service}"}}, instance)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(is_multiple)
        .include_all(is_multiple)
    )
    if is_multiple:
        variable.all_value(".*").current(VariableOption(text="All", value="$__all", selected=True))
    return variable


class _Numbered(Builder[Panel]):
    """A panel with a number that stays the same from one build to the next."""

    def __init__(self, panel: Builder[Panel], number: int) -> None:
        self._panel = panel
        self._number = number

    def build(self) -> Panel:
        panel = self._panel.build()
        panel.id_val = self._number
        return panel


class _AlertQuery(AnnotationQuery):
    """The SDK does not know what Prometheus' annotations show."""

    def to_json(self) -> dict[str, object]:
        return {
            **super().to_json(),
            "titleFormat": "{{alertname}}",
            "textFormat": "{{job}} {{instance}}",
            "tagKeys": "severity",
            "step": "15s",
        }


class _Alerts(Builder[AnnotationQuery]):
    """Alerts of this project while they fire."""

    def build(self) -> AnnotationQuery:
        return _AlertQuery(
            name="Alerts",
            datasource=DATASOURCE,
            icon_color="red",
            expr='ALERTS{alertname=~"Twinsplit.+", alertstate="firing"}',
        )
