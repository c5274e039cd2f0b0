"""Rules by promtool; and a real Prometheus at the three real services, which every panel and every rule is asked of.

The queries were run on Debian's Prometheus (2.42 in Debian 12); docs/how-to/dashboards.md says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmarks.testbed.process import HOST, ServiceProcess, free_ports
from tests.integration.device_bench import write_profile
from tests.system.prometheus_server import PrometheusServer, prometheus

pytestmark = [pytest.mark.needs("promtool"), pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
MODEL = ROOT / "models/alexnet-fashion/1"
BOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
EMPTY = "May be empty: "
"""As deploy/grafana/boards/panels.py writes it into a panel's description."""
OBSERVED_S = 40.0
LATELY_S = 20.0
SEGMENT_S = 0.00015
"""Of one segment before any emulated slowdown."""
SETTLED_S = 60.0
"""Other work of the machine may bring services near an alert, for a while."""
COMPARISON = re.compile(r"\s(==|>|<)\s[\d.]+$")

NO_SENSOR = "not every machine has the sensor"
PANELS_THAT_MAY_BE_EMPTY = {
    "Pairs ruled out": "the twin service here has `reduction` off, as by default",
    "Held-out gain": "no lesson may have ended yet",
    "Training loss": "no lesson may have ended yet",
    "Problems of the source": "a folder of pictures has none",
    "Ways to edges": "the device here is told its edge",
    "Round trip to edges": "the device here is told its edge",
    "Sent on": "there is one edge here",
    "Tails per batch": "the edge here makes no batches",
    "Servers behind edges": "the edge here runs its tails itself",
    "Wait at servers behind edges": "the edge here runs its tails itself",
    "Certificates": "the services here speak without TLS",
    "Computing processes": "the edge here runs its tails in a thread",
    "Power": NO_SENSOR,
    "Meters": NO_SENSOR,
    "Temperature": NO_SENSOR,
    "Speed": NO_SENSOR,
    "Throttled": NO_SENSOR,
}
"""Panels that may be empty at these services. All others must show something, also those that an idle device leaves
empty, as their descriptions say."""
VECTORS_THAT_MAY_BE_EMPTY = {
    "TwinsplitEnergySensorLost": "this machine has no energy meter",
    "TwinsplitDeviceThrottled": "this machine does not tell",
    "TwinsplitCertificateEnds": "the services here speak without TLS; test_twin_tls.py reads the metric",
}
"""Alerts whose vector is not there without sensors or TLS. All others must have one, also while nothing fires."""


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_rules_give_what_their_unit_tests_expect(file: Path) -> None:
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_is_found_out(tmp_path: Path) -> None:
    """So that the test above can fail."""
    text = (PROMETHEUS / "tests/services.yml").read_text(encoding="utf-8")
    file = tmp_path / "services.yml"
    file.write_text(
        text.replace("../rules/", f"{PROMETHEUS}/rules/").replace("loses 10%", "loses 11%"), encoding="utf-8"
    )
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "TwinsplitTasksLost" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus.yml", "own-prometheus.yml"])
def test_configurations_are_valid(name: str) -> None:
    command = ["promtool", "check", "config", str(PROMETHEUS / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_devices_of_a_file_are_called_by_the_names_in_it() -> None:
    command = ["promtool", "check", "service-discovery", "--timeout=1s", str(PROMETHEUS / "own-prometheus.yml")]
    done = subprocess.run([*command, "twinsplit-device"], capture_output=True, text=True, check=True)
    targets = json.loads(done.stdout[done.stdout.index("[") :])
    addresses = {target["labels"]["instance"]: target["labels"]["__address__"] for target in targets}
    assert addresses == {"pi-gate": "192.168.1.21:7201", "pi-yard": "192.168.1.22:7201"}
    assert all("name" not in target["labels"] and target["labels"]["site"] == "home" for target in targets)


class Observed(NamedTuple):
    """What was scraped, and what the variables of dashboards stand for."""

    server: PrometheusServer
    device: str
    seconds: float


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Twin, edge, device and other users at work for a while, with an outage of the uplink early on."""
    folder = tmp_path_factory.mktemp("observed")
    # Made up, so that where tasks end does not depend on how fast this machine is.
    profile = str(write_profile(MODEL, folder / "profile.json", segment_s=SEGMENT_S, exit_s=SEGMENT_S / 2))
    twin, twin_http, edge, edge_http, device, device_http, port = (f"{HOST}:{p}" for p in free_ports(7))
    load = "from twinsplit.cli import main; main()"
    services = [
        ServiceProcess("twin", [
            "-m", "twin_service", "--listen", twin, "--http-listen", twin_http, "--state", str(folder / "state"),
            "--rule", "multi-step", "--learning-share", "0.9",
        ], folder, _port(twin_http)),
        ServiceProcess("edge", [
            "-m", "edge", "--listen", edge, "--http-listen", edge_http, "--models", str(MODEL), "--twin", twin,
            "--profile", profile, "--emulate-slowdown", "10", "--queue-capacity", "8",
        ], folder, _port(edge_http)),
        ServiceProcess("device", [
            "-m", "device", "--id", "camera", "--model", str(MODEL), "--twin", twin, "--listen", device,
            "--http-listen", device_http, "--source", f"frames:{MODEL / 'frames'}", "--arrivals", "poisson:14",
            "--sink", str(folder / "tasks.jsonl"), "--profile", profile, "--emulate-slowdown", "60",
            "--emulate-uplink-bytes-per-s", "60000", "--emulate-uplink-outages", "12+1",
        ], folder, _port(device_http)),
        ServiceProcess("load", [
            "-c", load, "edge", "load", edge, "--model", str(MODEL), "--load", "0.6", "--quiet",
        ], folder),
    ]  # fmt: skip
    targets = {"twinsplit-twin": [twin_http], "twinsplit-edge": [edge_http], "twinsplit-device": [device_http]}
    try:
        for service in services:
            service.start()
            if service.http_port is not None:
                service.wait_until_ready()
        with prometheus(folder, _port(port), targets) as server:
            began_s = time.monotonic()
            server.await_values("twinsplit_regret_seconds_count > 0", 120.0)
            time.sleep(max(0.0, began_s + OBSERVED_S - time.monotonic()))
            # A call that ends, as people make it.
            status = [sys.executable, "-c", load, "device", "status", device]
            subprocess.run(status, cwd=ROOT, check=True, capture_output=True, timeout=60.0)
            server.await_values('twinsplit_rpc_handled_total{method="GetStatus"} > 0', 30.0)
            for service in services:
                service.check()
            yield Observed(server, device_http, time.monotonic() - began_s)
    finally:
        for service in reversed(services):
            service.stop()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _asked(expression: str, device: str) -> str:
    """A panel's query with its variables put in, as Grafana does."""
    return (
        expression.replace("$__rate_interval", "10s")
        .replace('=~"$devices"', '=~".*"')
        .replace('=~"$edges"', '=~".*"')
        .replace("$device", device)
    )


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something_or_says_why_not(observed: Observed, path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    empty, excused = [], []
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = _asked(target["expr"], observed.device)
            assert "$" not in query, query
            found = (
                observed.server.values(query)
                if target.get("instant")
                else observed.server.values_over(query, observed.seconds)
            )
            if any(value == value for value in found):
                continue
            is_excused = EMPTY in panel["description"] and panel["title"] in PANELS_THAT_MAY_BE_EMPTY
            (excused if is_excused else empty).append(f"{panel['title']}: {query}")
    assert empty == []
    print(f"{path.stem}: empty, and said so:", *excused, sep="\n  ")


def test_panels_that_may_be_empty_are_panels() -> None:
    titles = {panel["title"] for path in BOARDS for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]}
    assert PANELS_THAT_MAY_BE_EMPTY.keys() <= titles


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_variable_has_values_and_annotations_can_be_asked(observed: Observed, path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    for variable in board["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert match, variable["query"]
        values = observed.server.data(f"label/{match[2]}/values", **{"match[]": match[1]})
        assert len(values) == 1, variable["name"]
    for annotation in board["annotations"]["list"]:
        observed.server.values_over(annotation["expr"], observed.seconds)


def test_every_target_is_up(observed: Observed) -> None:
    targets = observed.server.data("targets")["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {"twinsplit-twin", "twinsplit-edge", "twinsplit-device"}
    # One scrape may come too late on a busy machine.
    assert observed.server.values("max_over_time(up[20s])") == [1.0, 1.0, 1.0]


def _rules() -> dict[str, dict[str, Any]]:
    groups = [yaml.safe_load(path.read_text())["groups"] for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    return {rule.get("alert") or rule["record"]: rule for file in groups for group in file for rule in group["rules"]}


def test_every_rule_is_evaluated_and_has_a_vector(observed: Observed) -> None:
    loaded = observed.server.data("rules")["groups"]
    assert {rule["name"]: rule["health"] for group in loaded for rule in group["rules"]} == dict.fromkeys(
        _rules(), "ok"
    )
    empty = []
    for name, rule in _rules().items():
        vector = COMPARISON.sub("", rule["expr"]) if "alert" in rule else name
        found = observed.server.values_over(vector, LATELY_S)
        if not any(value == value for value in found) and name not in VECTORS_THAT_MAY_BE_EMPTY:
            empty.append(f"{name}: {vector}")
    assert empty == []


def test_services_that_are_well_come_near_no_alert(observed: Observed) -> None:
    """Most alerts wait for minutes; what would fire then is pending now."""
    lasting = 'count_over_time(ALERTS{alertname=~"Twinsplit.+"}[10s]) >= 9'  # rules are evaluated every second
    until_s = time.monotonic() + SETTLED_S
    while True:
        alerts = observed.server.data("query", query=lasting)["result"]
        near = {series["metric"]["alertname"] for series in alerts}
        # The device's segments are emulated to take 9 ms; where many processes share two cores they come late.
        if near <= {"TwinsplitMirrorWrong"}:
            return
        assert time.monotonic() < until_s, near
        time.sleep(1.0)
