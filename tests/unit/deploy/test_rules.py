"""Rules, alerts, runbooks and the rules' own unit tests belong together; promtool runs the latter in tests/system."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy.promql import faults

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy/prometheus"
RUNBOOKS = ROOT / "docs/runbooks.md"
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
COMPARISON = re.compile(r"\s(?:==|>|<)\s[\d.]+$")
TESTS: list[dict[str, Any]] = [
    test
    for path in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
]


def sections() -> dict[str, str]:
    """Heading of the second level to its text."""
    parts = re.split(r"(?m)^## ", RUNBOOKS.read_text(encoding="utf-8"))[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_every_alert_says_how_bad_what_and_what_to_do() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("critical", "warning", "info"), name
        assert re.fullmatch(r"Twinsplit[A-Z]\w+", name)
        annotations = alert["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook_url"}, name
        assert not annotations["summary"].endswith("."), name
        assert annotations["description"].endswith("."), name
        path, _, anchor = annotations["runbook_url"].partition("#")
        assert ROOT / path == RUNBOOKS, name
        assert anchor == name.lower()


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(sections()) == list(ALERTS)
    for name, text in sections().items():
        for part in ("**Means**", "**Look**", "**Helps**"):
            assert part in text, f"{name} has no {part}"


def test_the_page_of_dashboards_says_how_many_there_are() -> None:
    page = (ROOT / "docs/how-to/dashboards.md").read_text(encoding="utf-8")
    assert f"Four dashboards and {len(ALERTS)} alerts" in page


def test_rules_ask_for_what_services_give_or_rules_record() -> None:
    for rule in RULES:
        assert faults(rule["expr"]) == [], rule
        assert set(re.findall(r"\b(?:instance|fleet):[\w:]+", rule["expr"])) <= RECORDED.keys(), rule


def test_every_alert_compares_a_vector_with_one_number() -> None:
    assert [name for name, alert in ALERTS.items() if not COMPARISON.search(alert["expr"])] == []


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    outcomes = defaultdict(set)
    for test in TESTS:
        for check in test.get("alert_rule_test", ()):
            outcomes[check["alertname"]].add(bool(check["exp_alerts"]))
    assert dict(outcomes) == {name: {True, False} for name in ALERTS}


def test_every_recorded_series_is_tested() -> None:
    checked = " ".join(check["expr"] for test in TESTS for check in test.get("promql_expr_test", ()))
    assert [name for name in RECORDED if name not in checked] == []


def test_the_configuration_has_the_jobs_that_rules_and_dashboards_ask_for() -> None:
    for name in ("prometheus.yml", "own-prometheus.yml"):
        config = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))
        jobs = {scrape["job_name"] for scrape in config["scrape_configs"]}
        assert jobs == {"twinsplit-twin", "twinsplit-edge", "twinsplit-device"}
        assert config["rule_files"] == ["rules/*.yml"]
