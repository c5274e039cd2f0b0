"""The manifests of deploy/kubernetes, base and every overlay as rendered: valid, of one piece, restricted, and with
settings that the services take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from edge.settings import EdgeSettings
from tests.kustomizations import Manifest, rendered
from twin_service.settings import TwinSettings
from twinsplit import __version__
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.settings import BaseServiceSettings, load_settings
from twinsplit.transport.address import Address

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
FOLDERS = [FOLDER / "base", *sorted(path for path in (FOLDER / "overlays").iterdir())]
ALL = {folder.name: rendered(folder) for folder in FOLDERS}
NAMES = list(ALL)
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())
CLASSES: dict[str, type[BaseServiceSettings]] = {"twinsplit-twin": TwinSettings, "twinsplit-edge": EdgeSettings}
SCHEMAS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (json.loads(path.read_text()) for path in (Path(__file__).parent / "custom_resources").glob("*.json"))
}
EVERY = {
    f"{name}-{manifest['kind']}-{manifest['metadata']['name']}": manifest
    for name, manifests in ALL.items()
    for manifest in manifests
    if name == "base" or manifest not in ALL["base"]
}
_REFERENCE = re.compile(r"\$\((\w+)\)")


def of_kind(where: str, kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in ALL[where] if each["kind"] == kind}


def pod(where: str, name: str) -> Manifest:
    spec: Manifest = of_kind(where, "StatefulSet")[name]["spec"]["template"]["spec"]
    return spec


def container(where: str, name: str) -> Manifest:
    (only,) = pod(where, name)["containers"]
    found: Manifest = only
    return found


def environment(where: str, name: str, pod_name: str) -> dict[str, str]:
    """As the kubelet makes it: fields of the pod, and references to variables that stand further up."""
    fields = {"metadata.name": pod_name, "metadata.namespace": "twinsplit"}
    secrets = {("twinsplit-postgresql", "uri"): "postgresql://twinsplit:word@twinsplit-postgresql/twinsplit"}
    found: dict[str, str] = {}
    for variable in container(where, name).get("env", ()):
        if "value" in variable:
            value = _REFERENCE.sub(lambda match: found[match[1]], variable["value"])
        elif "fieldRef" in variable["valueFrom"]:
            value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            value = secrets[reference["name"], reference["key"]]
        found[variable["name"]] = value
    return found


def settings(
    where: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordinal: int = 0
) -> BaseServiceSettings:
    """What the services make of a pod's file and environment; an unknown key or variable would be refused."""
    ((file, text),) = of_kind(where, "ConfigMap")[name]["data"].items()
    path = tmp_path / file
    path.write_text(text)
    for variable, value in environment(where, name, f"{name}-{ordinal}").items():
        monkeypatch.setenv(variable, value)
    return load_settings(CLASSES[name], path).values


def told_replicas(where: str, text: str, tmp_path: Path) -> tuple[str, ...]:
    """The list of twins that an edge reads, from a ConfigMap where it is a file."""
    if text.startswith("@"):
        place = Path(text[1:])
        mounts = {each["mountPath"]: each for each in container(where, "twinsplit-edge")["volumeMounts"]}
        assert "subPath" not in mounts[str(place.parent)], "it would never change"
        volumes = {each["name"]: each for each in pod(where, "twinsplit-edge")["volumes"]}
        name = volumes[mounts[str(place.parent)]["name"]]["configMap"]["name"]
        file = tmp_path / place.name
        file.write_text(of_kind(where, "ConfigMap")[name]["data"][place.name])
        text = f"@{file}"
    return ReplicaSource(text).read()


def replicas(where: str, name: str) -> int:
    """Most pods of a StatefulSet that there may be."""
    found: int | None = of_kind(where, "StatefulSet")[name]["spec"].get("replicas")
    if found is not None:
        return found
    most: int = of_kind(where, "HorizontalPodAutoscaler")[name]["spec"]["maxReplicas"]
    return most


def check(manifest: Manifest, version: str) -> None:
    if manifest["kind"] in SCHEMAS:
        Draft202012Validator(SCHEMAS[manifest["kind"]]).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", EVERY.values(), ids=EVERY)
def test_every_manifest_is_valid(manifest: Manifest, version: str) -> None:
    check(manifest, version)


def _wrong(manifest: Manifest, *path: str | int) -> Manifest:
    """With a field misspelt."""
    found = yaml.safe_load(yaml.safe_dump(manifest))
    place: Any = found
    for step in path:
        place = place[step]
    place["nmae"] = {}
    assert isinstance(found, dict)
    return found


def test_what_is_wrong_would_have_been_found() -> None:
    edge = of_kind("base", "StatefulSet")["twinsplit-edge"]
    with pytest.raises(kubernetes_validate.ValidationError):
        check(_wrong(edge, "spec", "template", "spec", "containers", 0, "livenessProbe"), VERSIONS[0])
    for kind, where, path in (
        ("InferenceService", "kserve", ("spec", "predictor", "model")),
        ("InferenceService", "kserve", ("spec", "predictor", "securityContext")),
        ("InferenceService", "kserve", ("spec", "predictor", "model", "securityContext")),
        ("ServiceMonitor", "company", ("spec", "endpoints", 0)),
    ):
        (manifest,) = of_kind(where, kind).values()
        with pytest.raises(ValidationError):
            check(_wrong(manifest, *path), VERSIONS[0])


def test_schemas_of_custom_resources_are_used_and_say_whose_they_are() -> None:
    assert {each["kind"] for manifests in ALL.values() for each in manifests} > set(SCHEMAS)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
        assert schema["title"].startswith("twinsplit's own: ")


def test_every_file_is_used_by_a_kustomization() -> None:
    used: set[Path] = set()
    for path in FOLDER.glob("**/kustomization.yaml"):
        told = yaml.safe_load(path.read_text())
        names = [*told.get("resources", ()), *told.get("components", ()), *(p["path"] for p in told.get("patches", ()))]
        used |= {path, *((path.parent / name).resolve() for name in names)}
    files = {path for path in FOLDER.glob("**/*.yaml") if path.name != "prometheus-adapter.yaml"}
    assert files <= used


@pytest.mark.parametrize("where", NAMES)
def test_everything_is_in_the_namespace_which_is_restricted(where: str) -> None:
    ((name, namespace),) = of_kind(where, "Namespace").items()
    assert {each["metadata"].get("namespace") for each in ALL[where] if each["kind"] != "Namespace"} == {name}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("where", NAMES)
@pytest.mark.parametrize("name", CLASSES)
def test_settings_are_taken_and_agree_with_ports_probes_and_mounts(
    where: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settings(where, name, tmp_path, monkeypatch).model_dump()
    box = container(where, name)
    ports = {each["name"]: each["containerPort"] for each in box["ports"]}
    assert told["listen"] == f"0.0.0.0:{ports['grpc']}"
    assert told["http_listen"] == f"0.0.0.0:{ports['http']}"
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert box[probe]["httpGet"] == {"path": path, "port": "http"}
    mounts = {each["mountPath"]: each for each in box["volumeMounts"]}
    config = box["args"][box["args"].index("--config") + 1]
    assert mounts[config]["subPath"] in of_kind(where, "ConfigMap")[name]["data"]
    assert {str(told[key].parent) for key in ("tls_ca", "tls_cert", "tls_key")} == {"/etc/twinsplit/tls"}
    assert mounts["/etc/twinsplit/tls"]["readOnly"]
    templates = of_kind(where, "StatefulSet")[name]["spec"].get("volumeClaimTemplates", ())
    claims = {each["metadata"]["name"] for each in templates}
    volumes = {each["name"]: each for each in pod(where, name)["volumes"]}
    assert {each["name"] for each in box["volumeMounts"]} == set(volumes) | claims
    assert volumes["settings"]["configMap"]["name"] == name
    assert volumes["tls"]["secret"] == {"secretName": f"{name}-tls", "defaultMode": 0o440}


@pytest.mark.parametrize("where", NAMES)
def test_every_edge_has_an_id_an_address_and_a_certificate_of_its_own(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = of_kind(where, "StatefulSet")["twinsplit-edge"]["spec"]["serviceName"]
    assert of_kind(where, "Service")[service]["spec"]["clusterIP"] == "None"
    count = replicas(where, "twinsplit-edge")
    found = [settings(where, "twinsplit-edge", tmp_path, monkeypatch, ordinal) for ordinal in range(count)]
    addresses = []
    for ordinal, edge in enumerate(found):
        assert isinstance(edge, EdgeSettings)
        assert edge.id == f"twinsplit-edge-{ordinal}"
        assert str(edge.tls_cert) == f"/etc/twinsplit/tls/twinsplit-edge-{ordinal}.cert.pem"
        assert str(edge.tls_key) == f"/etc/twinsplit/tls/twinsplit-edge-{ordinal}.key.pem"
        assert edge.advertise is not None
        addresses.append(Address.parse(edge.advertise))
    assert len({address.host for address in addresses}) == count
    if where != "site":
        assert [str(address) for address in addresses] == [
            f"twinsplit-edge-{ordinal}.{service}.twinsplit.svc.cluster.local:7100" for ordinal in range(count)
        ]


@pytest.mark.parametrize("where", NAMES)
def test_edges_attach_to_every_twin_replica(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = settings(where, "twinsplit-edge", tmp_path, monkeypatch)
    assert isinstance(edge, EdgeSettings)
    service = of_kind(where, "StatefulSet")["twinsplit-twin"]["spec"]["serviceName"]
    (port,) = [each["port"] for each in of_kind(where, "Service")[service]["spec"]["ports"] if each["name"] == "grpc"]
    names = tuple(f"twinsplit-twin-{k}.{service}:{port}" for k in range(replicas(where, "twinsplit-twin")))
    assert told_replicas(where, edge.twin or "", tmp_path) == names


def test_devices_outside_reach_one_pod_by_each_node_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {
        name: service["spec"]["ports"][0]
        for name, service in of_kind("site", "Service").items()
        if service["spec"].get("type") == "NodePort"
    }
    assert set(ports) == {"twinsplit-twin-0", "twinsplit-edge-0"}
    for name, port in ports.items():
        selector = of_kind("site", "Service")[name]["spec"]["selector"]
        assert selector == {"statefulset.kubernetes.io/pod-name": name}
        box = container("site", name.rpartition("-")[0])
        assert {"name": port["targetPort"], "containerPort": port["port"]} in box["ports"]
    edge = settings("site", "twinsplit-edge", tmp_path, monkeypatch)
    assert isinstance(edge, EdgeSettings)
    assert edge.advertise is not None
    assert edge.advertise.endswith(f":{ports['twinsplit-edge-0']['nodePort']}")
    assert replicas("site", "twinsplit-edge") == replicas("site", "twinsplit-twin") == 1


@pytest.mark.parametrize("where", NAMES)
def test_services_lead_to_pods_and_their_ports(where: str) -> None:
    labelled = {name: each["spec"]["template"] for name, each in of_kind(where, "StatefulSet").items()}
    for service in of_kind(where, "Service").values():
        selector = service["spec"]["selector"]
        if "serving.kserve.io/inferenceservice" in selector:
            assert selector["serving.kserve.io/inferenceservice"] in of_kind(where, "InferenceService")
            continue
        names = [
            name
            for name, template in labelled.items()
            if selector.items() <= (template["metadata"]["labels"] | _pod_labels(selector, name)).items()
        ]
        assert len(names) == 1, service["metadata"]["name"]
        ports = {(each["name"], each["containerPort"]) for each in container(where, names[0])["ports"]}
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["port"]) in ports


def _pod_labels(selector: dict[str, str], name: str) -> dict[str, str]:
    """What Kubernetes adds to the pods of a StatefulSet, where a selector asks for the first one."""
    asked = selector.get("statefulset.kubernetes.io/pod-name")
    return {"statefulset.kubernetes.io/pod-name": asked} if asked == f"{name}-0" else {}


@pytest.mark.parametrize("where", NAMES)
def test_the_twin_keeps_its_state_on_a_volume_of_each_pod(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settings(where, "twinsplit-twin", tmp_path, monkeypatch)
    assert isinstance(told, TwinSettings)
    (claim,) = of_kind(where, "StatefulSet")["twinsplit-twin"]["spec"]["volumeClaimTemplates"]
    places = {each["name"]: each["mountPath"] for each in container(where, "twinsplit-twin")["volumeMounts"]}
    assert places[claim["metadata"]["name"]] == str(told.state)


@pytest.mark.parametrize("where", NAMES)
def test_pods_are_restricted_and_bounded(where: str) -> None:
    for name in of_kind(where, "StatefulSet"):
        spec, box = pod(where, name), container(where, name)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # TWINSPLIT_EDGE_PORT and the like would be refused as settings
        assert box["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert box["resources"]["requests"].keys() == box["resources"]["limits"].keys() == {"cpu", "memory"}
        assert not [port for port in box["ports"] if "hostPort" in port]


@pytest.mark.parametrize("where", NAMES)
def test_images_are_those_of_the_dockerfile_and_their_user(where: str) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    for name in CLASSES:
        assert container(where, name)["image"] == f"{name}:{__version__}"
        assert f"AS {name.removeprefix('twinsplit-')}\n" in dockerfile
        user = pod(where, name)["securityContext"]
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile
