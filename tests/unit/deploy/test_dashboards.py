"""The committed dashboards, as Grafana will read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.promql import faults

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "deploy/grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24
UNITS = {"_seconds": "s", "_bytes_per_second": "Bps", "_bytes": "bytes", "_watts": "watt", "_celsius": "celsius"}
"""Of a gauge by the end of its name."""
WITHOUT_UNIT = {"Epoch: reported", "Epoch: predicted", "Version of the weights", "Speed factor"}
"""Ordinals, and a factor."""


def test_there_are_the_four_that_are_promised() -> None:
    assert BOARDS.keys() == {"fleet", "device", "decisions", "signalling"}


def panels_of(name: str) -> list[dict[str, Any]]:
    """All panels of a dashboard but its row headings."""
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    for panel in panels_of(name):
        title, text = panel["title"], panel["description"]
        assert text.endswith("."), title
        assert text.count(" ") >= 3, title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"] == DATASOURCE, title


def units_of(panel: dict[str, Any]) -> dict[str, str]:
    """Unit of each query by its name in the panel."""
    config = panel["fieldConfig"]
    units = {target["refId"]: config["defaults"]["unit"] for target in panel["targets"]}
    for override in config["overrides"]:
        if override["matcher"]["id"] == "byFrameRefID":
            (setting,) = override["properties"]
            units[override["matcher"]["options"]] = setting["value"]
    assert units.keys() == {target["refId"] for target in panel["targets"]}, panel["title"]
    return units


@pytest.mark.parametrize("name", BOARDS)
def test_every_axis_is_in_the_unit_of_what_is_asked_for(name: str) -> None:
    for panel in panels_of(name):
        units = units_of(panel)
        for target in panel["targets"]:
            query, unit = target["expr"], units[target["refId"]]
            assert (unit == "cpm") == query.startswith("60 * "), panel["title"]
            gauge = re.fullmatch(r"twinsplit_(\w+)(?:\{(?!.*field).*\})?", query)
            if gauge is not None:
                known = [each for ending, each in UNITS.items() if gauge[1].endswith(ending)]
                assert [unit] == known or (not known and unit not in UNITS.values()), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_number_that_has_a_unit_shows_it(name: str) -> None:
    for panel in panels_of(name):
        config = panel["fieldConfig"]
        if panel["type"] == "table":
            settings = [each for override in config["overrides"] for each in override["properties"]]
            units = [each["value"] for each in settings if each["id"] == "unit"]
            assert len(units) == len(panel["targets"])
        elif panel["title"] in WITHOUT_UNIT or config["defaults"].get("mappings"):
            continue
        else:
            units = list(units_of(panel).values())
        assert "none" not in units, panel["title"]


def test_prediction_errors_of_seconds_and_of_counts_have_axes_of_their_own() -> None:
    (panel,) = [panel for panel in panels_of("signalling") if panel["title"] == "Prediction error by field"]
    units = units_of(panel)
    assert {target["expr"]: units[target["refId"]] for target in panel["targets"]} == {
        'twinsplit_prediction_error{field=~".+_s", field!="goodput_bytes_per_s"}': "s",
        'twinsplit_prediction_error{field!~".+_s"}': "short",
    }


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_asks_for_what_services_give(name: str) -> None:
    for panel in panels_of(name):
        queries = [target["expr"] for target in panel["targets"]]
        assert queries, panel["title"]
        assert [fault for query in queries for fault in faults(query)] == [], panel["title"]
        # Recorded series are there only where this project's rules are loaded.
        assert not re.search(r"\b(instance|fleet):", " ".join(queries)), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_only_known_variables_are_used(name: str) -> None:
    board = BOARDS[name]
    known = {variable["name"] for variable in board["templating"]["list"]}
    assert "datasource" in known
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    assert used - known <= {"__rate_interval", "__value", "__url_time_range"}
    assert known - {"datasource"} <= used


def test_variables_of_one_name_are_of_one_kind() -> None:
    """Links hand their values from one dashboard to the next."""
    kinds: dict[str, bool] = {}
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            assert kinds.setdefault(variable["name"], variable["multi"]) == variable["multi"], variable["name"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_grid_and_do_not_overlap(name: str) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        cells |= taken
    assert len(cells) == GRID * (1 + max(y for _, y in cells)), "a line has a hole"


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_numbered_and_their_names_differ(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    titles = [(panel["type"] == "row", panel["title"]) for panel in panels]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", BOARDS)
def test_every_dashboard_leads_to_the_others_and_shows_alerts(name: str) -> None:
    board = BOARDS[name]
    others = {f"/d/{other['uid']}" for other in BOARDS.values() if other is not board}
    assert {link["url"] for link in board["links"]} == others
    assert all(link["keepTime"] and link["includeVars"] for link in board["links"])
    (alerts,) = board["annotations"]["list"]
    assert alerts["expr"].startswith("ALERTS{")
    assert alerts["datasource"] == DATASOURCE


@pytest.mark.parametrize("name", BOARDS)
def test_the_provisioned_source_is_chosen_and_another_can_be(name: str) -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    (source,) = provisioned["datasources"]
    variables = {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}
    variable = variables.pop("datasource")
    assert (variable["type"], variable["query"], variable["hide"]) == ("datasource", "prometheus", 0)
    assert (variable["current"]["text"], variable["current"]["value"]) == (source["name"], source["uid"])
    assert all(other["datasource"] == DATASOURCE for other in variables.values())
    for other in variables.values():
        assert faults(other["query"].removeprefix("label_values(")) == []


def test_the_fleet_leads_to_one_device() -> None:
    (panel,) = [panel for panel in BOARDS["fleet"]["panels"] if panel["title"] == "Devices"]
    (link,) = [
        entry
        for override in panel["fieldConfig"]["overrides"]
        for setting in override["properties"]
        if setting["id"] == "links"
        for entry in setting["value"]
    ]
    assert link["url"].startswith(f"/d/{BOARDS['device']['uid']}?var-device=")


def test_reported_and_predicted_layer_stand_side_by_side() -> None:
    panels = {panel["title"]: panel for panel in BOARDS["device"]["panels"]}
    for name in ("Epoch", "Queue"):
        left, right = panels[f"{name}: reported"], panels[f"{name}: predicted"]
        assert left["gridPos"]["y"] == right["gridPos"]["y"]
        assert left["gridPos"]["x"] + left["gridPos"]["w"] == right["gridPos"]["x"]
        assert all(any("mirror_actual" in t["expr"] for t in panel["targets"]) for panel in (left, right))


def test_provisioning_points_to_where_dashboards_are_mounted() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/twinsplit.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(twinsplit_no_such_total[5m])", "twinsplit_no_such_total is not in the catalogue"),
        ('sum(twinsplit_queue_length{epoch="1"})', "twinsplit_queue_length has no label epoch"),
        ("sum by (colour) (twinsplit_queue_length)", "no metric here has label colour"),
        ("twinsplit_task_latency_seconds", "twinsplit_task_latency_seconds is not in the catalogue"),
        ("twinsplit_tasks_total > 3", "twinsplit_tasks_total is a counter and is not a rate"),
    ],
)
def test_a_query_that_asks_for_nothing_there_is_found_out(query: str, fault: str) -> None:
    assert faults(query) == [fault]
