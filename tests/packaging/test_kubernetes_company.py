"""What the overlays for many devices add: replicas on PostgreSQL, elastic edges, monitoring, policies, KServe."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from edge.engine.address import EngineAddress
from edge.service import _check_engine
from edge.settings import EdgeSettings
from tests.kustomizations import Manifest
from tests.packaging.test_kubernetes import FOLDER, container, environment, of_kind, replicas, settings
from tests.unit.deploy.promql import faults
from tests.wheels import ROOT
from twinsplit.telemetry.catalogue import CATALOGUE

COMPANY = ["company", "kserve"]
OURS = "twinsplit"
"""Our namespace."""
RULES = FOLDER / "components/elastic-edges/prometheus-adapter.yaml"
METRIC = "twinsplit_edge_backlog_seconds"
"""In the custom metrics API."""
SERIES = "twinsplit_backlog_seconds"
"""Of the edges, in Prometheus."""


@pytest.mark.parametrize("where", COMPANY)
def test_replicas_of_the_twin_share_the_database_whose_password_is_in_no_file(where: str) -> None:
    assert replicas(where, "twinsplit-twin") == 2
    variables = {each["name"]: each for each in container(where, "twinsplit-twin")["env"]}
    origin = variables["TWINSPLIT_TWIN_STORE"]["valueFrom"]["secretKeyRef"]
    assert origin == {"name": "twinsplit-postgresql", "key": "uri"}
    assert not of_kind(where, "Secret")
    database = container(where, "twinsplit-postgresql")
    told = {each["name"]: each.get("value") for each in database["env"]}
    assert "POSTGRES_PASSWORD" not in told
    uri = urlsplit(environment(where, "twinsplit-twin", "twinsplit-twin-0")["TWINSPLIT_TWIN_STORE"])
    assert (uri.username, uri.path) == (told["POSTGRES_USER"], f"/{told['POSTGRES_DB']}")
    assert uri.hostname in of_kind(where, "Service")


@pytest.mark.parametrize("where", COMPANY)
def test_the_database_is_the_one_that_the_tests_run_on(where: str) -> None:
    tested = re.search(r"the tests run on Debian 12's (\d+)", (ROOT / "docs/how-to/postgresql.md").read_text())
    assert tested is not None
    assert container(where, "twinsplit-postgresql")["image"] == f"postgres:{tested.group(1)}-bookworm"


@pytest.mark.parametrize("where", COMPANY)
def test_the_database_writes_nowhere_but_into_its_volumes(where: str) -> None:
    box = container(where, "twinsplit-postgresql")
    told = {each["name"]: each.get("value") for each in box["env"]}
    (claim,) = of_kind(where, "StatefulSet")["twinsplit-postgresql"]["spec"]["volumeClaimTemplates"]
    mounts = {each["mountPath"]: each for each in box["volumeMounts"]}
    assert mounts[str(Path(told["PGDATA"] or "").parent)]["name"] == claim["metadata"]["name"]
    assert {"/var/run/postgresql", "/tmp"} < set(mounts)
    assert mounts[str(Path(told["POSTGRES_PASSWORD_FILE"] or "").parent)]["readOnly"]


def test_edges_scale_with_the_backlog_as_the_adapters_rule_names_it() -> None:
    scaler = of_kind("company", "HorizontalPodAutoscaler")["twinsplit-edge"]["spec"]
    target = scaler["scaleTargetRef"]
    assert "replicas" not in of_kind("company", target["kind"])[target["name"]]["spec"]
    (metric,) = scaler["metrics"]
    (rule,) = yaml.safe_load(RULES.read_text())["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] == METRIC
    assert scaler["minReplicas"] < scaler["maxReplicas"]


def test_edges_do_not_come_and_go_with_the_backlog_of_another_server() -> None:
    assert not of_kind("kserve", "HorizontalPodAutoscaler")
    assert replicas("kserve", "twinsplit-edge") == 2


def test_the_adapters_query_reads_a_metric_that_edges_have_by_pod() -> None:
    (rule,) = yaml.safe_load(RULES.read_text())["rules"]["custom"]
    assert rule["seriesQuery"].startswith(SERIES + "{")
    assert rule["name"]["matches"] == f"^{SERIES}$"
    assert CATALOGUE[SERIES].services == {"edge"}
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
    query = rule["metricsQuery"]
    for part, value in (("Series", SERIES), ("LabelMatchers", ""), ("GroupBy", "instance")):
        assert f"<<.{part}>>" in query
        query = query.replace(f"<<.{part}>>", value)
    assert faults(query) == []
    assert faults(query.replace("backlog", "backlgo")) != []


@pytest.mark.parametrize("where", COMPANY)
def test_a_drained_node_takes_one_replica_at_a_time(where: str) -> None:
    for name in ("twinsplit-twin", "twinsplit-edge"):
        budget = of_kind(where, "PodDisruptionBudget")[name]["spec"]
        labels = of_kind(where, "StatefulSet")[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()
        assert budget["maxUnavailable"] == 1


@pytest.mark.parametrize("where", COMPANY)
def test_the_monitor_finds_the_metrics_of_both_services(where: str) -> None:
    monitor = of_kind(where, "ServiceMonitor")["twinsplit"]["spec"]
    (endpoint,) = monitor["endpoints"]
    wanted = monitor["selector"]["matchLabels"].items()
    found = {
        name: [port["targetPort"] for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
        for name, service in of_kind(where, "Service").items()
        if wanted <= service["metadata"].get("labels", {}).items()
    }
    assert {name for name, ports in found.items() if ports} == {"twinsplit-twin", "twinsplit-edge"}


def _is_of(peer: Manifest, namespace: str, labels: dict[str, str]) -> bool:
    """Whether a pod is one that a policy of our namespace means by ``peer``."""
    assert peer.keys() <= {"namespaceSelector", "podSelector"}
    there = {"kubernetes.io/metadata.name": namespace}
    spaces = peer.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": OURS}})
    return bool(
        spaces["matchLabels"].items() <= there.items()
        and peer.get("podSelector", {"matchLabels": {}})["matchLabels"].items() <= labels.items()
    )


@pytest.mark.parametrize("where", COMPANY)
def test_who_must_speak_to_whom_may_and_nobody_else(where: str) -> None:
    """Every connection that services, devices and monitoring make is allowed at both of its ends, and only those."""
    ours = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in of_kind(where, "StatefulSet").items()
    }
    if where == "kserve":
        ours["tails"] = {"serving.kserve.io/inferenceservice": "twinsplit-tails"}
    outside = {"device": "cameras", "prometheus": "monitoring", "dns": "kube-system"}
    pods = {name: (OURS, labels) for name, labels in ours.items()}
    pods |= {name: (namespace, {}) for name, namespace in outside.items()}
    policies = [each["spec"] for each in of_kind(where, "NetworkPolicy").values()]

    def allowed(name: str, other: str, direction: str, end: str) -> set[tuple[str, int]]:
        """(Protocol, port) by which ``name`` may speak with ``other``."""
        found = set()
        for policy in policies:
            if policy["podSelector"].get("matchLabels", {}).items() <= ours[name].items():
                for rule in policy.get(direction, ()):
                    if end not in rule or any(_is_of(peer, *pods[other]) for peer in rule[end]):
                        found |= {(port["protocol"], port["port"]) for port in rule["ports"]}
        return found

    found = set()
    for source in pods:
        for target in pods.keys() - {source}:
            ends = []
            if source in ours:
                ends.append(allowed(source, target, "egress", "to"))
            if target in ours:
                ends.append(allowed(target, source, "ingress", "from"))
            if ends:
                found |= {(source, target, *way) for way in set.intersection(*ends)}
    needed = {
        ("twinsplit-edge", "twinsplit-twin", "TCP", 7000),
        ("twinsplit-twin", "twinsplit-postgresql", "TCP", 5432),
    }
    needed |= {
        (name, target, "TCP", port)
        for name in outside
        for target, port in (("twinsplit-twin", 7000), ("twinsplit-edge", 7100))
    }
    needed |= {("prometheus", "twinsplit-twin", "TCP", 7001), ("prometheus", "twinsplit-edge", "TCP", 7101)}
    needed |= {(name, "dns", protocol, 53) for name in ours if name != "tails" for protocol in ("UDP", "TCP")}
    if where == "kserve":
        needed |= {("twinsplit-edge", "tails", "TCP", port) for port in (9000, 8002)}
    assert found == needed
    denied = [policy for policy in policies if policy["podSelector"] == {}]
    assert denied == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]


def test_tails_are_run_by_the_server_that_kserve_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = settings("kserve", "twinsplit-edge", tmp_path, monkeypatch)
    assert isinstance(edge, EdgeSettings)
    _check_engine(edge, EngineAddress.parse(edge.engine))
    engine = urlsplit(edge.engine)
    assert engine.scheme == "oip"
    service = of_kind("kserve", "Service")[engine.hostname or ""]["spec"]
    tails = of_kind("kserve", "InferenceService")["twinsplit-tails"]["spec"]["predictor"]["model"]
    (pages,) = [urlsplit(page) for page in edge.engine_metrics]
    assert pages.hostname == engine.hostname
    assert {engine.port, pages.port} == {port["port"] for port in service["ports"]}
    assert [port["containerPort"] for port in tails["ports"]] == [engine.port]
    assert tails["protocolVersion"] == "grpc-v2"
    claim = tails["storageUri"].removeprefix("pvc://").partition("/")[0]
    assert claim in of_kind("kserve", "PersistentVolumeClaim")
