"""The manifests of deploy/kubernetes: valid, of one piece, and with settings that the services take."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from edge.settings import EdgeSettings
from twin_service.settings import TwinSettings
from twinsplit import __version__
from twinsplit.settings import BaseServiceSettings, load_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())
CLASSES: dict[str, type[BaseServiceSettings]] = {"twinsplit-twin": TwinSettings, "twinsplit-edge": EdgeSettings}

Manifest = dict[str, Any]


def _kustomization() -> Manifest:
    found: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return found


MANIFESTS: list[Manifest] = [
    manifest
    for name in _kustomization()["resources"]
    for manifest in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]


def of_kind(kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def pod(deployment: str) -> Manifest:
    spec: Manifest = of_kind("Deployment")[deployment]["spec"]["template"]["spec"]
    return spec


def container(deployment: str) -> Manifest:
    (only,) = pod(deployment)["containers"]
    found: Manifest = only
    return found


def settings(name: str, tmp_path: Path) -> BaseServiceSettings:
    ((file, text),) = of_kind("ConfigMap")[name]["data"].items()
    path = tmp_path / file
    path.write_text(text)
    return load_settings(CLASSES[name], path).values


def test_the_base_holds_every_manifest() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(_kustomization()["resources"]) == files


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=title)
def test_every_manifest_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_is_wrong_would_have_been_found() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(of_kind("Deployment")["twinsplit-edge"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_everything_is_in_the_namespace() -> None:
    (namespace,) = of_kind("Namespace")
    assert {each["metadata"].get("namespace") for each in MANIFESTS if each["kind"] != "Namespace"} == {namespace}
    assert _kustomization()["namespace"] == namespace


@pytest.mark.parametrize("name", CLASSES)
def test_settings_are_taken_and_agree_with_ports_probes_and_mounts(name: str, tmp_path: Path) -> None:
    told = settings(name, tmp_path).model_dump()
    box = container(name)
    ports = {each["name"]: each["containerPort"] for each in box["ports"]}
    assert told["listen"] == f"0.0.0.0:{ports['grpc']}"
    assert told["http_listen"] == f"0.0.0.0:{ports['http']}"
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert box[probe]["httpGet"] == {"path": path, "port": "http"}
    mounts = {each["mountPath"]: each for each in box["volumeMounts"]}
    config = box["args"][box["args"].index("--config") + 1]
    assert mounts[config]["subPath"] in of_kind("ConfigMap")[name]["data"]
    assert {str(told[key].parent) for key in ("tls_ca", "tls_cert", "tls_key")} == {"/etc/twinsplit/tls"}
    assert mounts["/etc/twinsplit/tls"]["readOnly"]
    volumes = {each["name"]: each for each in pod(name)["volumes"]}
    assert {each["name"] for each in box["volumeMounts"]} == set(volumes)
    assert volumes["settings"]["configMap"]["name"] == name
    assert volumes["tls"]["secret"] == {"secretName": f"{name}-tls", "defaultMode": 0o440}


def test_the_twin_keeps_its_state_on_the_volume_and_never_runs_twice(tmp_path: Path) -> None:
    told = settings("twinsplit-twin", tmp_path)
    assert isinstance(told, TwinSettings)
    (volume,) = [each for each in pod("twinsplit-twin")["volumes"] if "persistentVolumeClaim" in each]
    (mount,) = [each for each in container("twinsplit-twin")["volumeMounts"] if each["name"] == volume["name"]]
    assert mount["mountPath"] == str(told.state)
    assert volume["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim")
    for deployment in of_kind("Deployment").values():
        assert deployment["spec"]["replicas"] == 1
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_services_lead_to_the_pods_and_the_edge_is_advertised_at_its_node_port(tmp_path: Path) -> None:
    for name, service in of_kind("Service").items():
        template = of_kind("Deployment")[name]["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        (port,) = service["spec"]["ports"]
        assert {"name": port["targetPort"], "containerPort": port["port"]} in container(name)["ports"]
    edge = settings("twinsplit-edge", tmp_path)
    assert isinstance(edge, EdgeSettings)
    assert edge.advertise is not None
    assert edge.advertise.endswith(f":{of_kind('Service')['twinsplit-edge']['spec']['ports'][0]['nodePort']}")
    assert edge.twin == f"twinsplit-twin:{of_kind('Service')['twinsplit-twin']['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("name", CLASSES)
def test_pods_are_restricted_and_bounded(name: str) -> None:
    spec, box = pod(name), container(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # TWINSPLIT_EDGE_PORT and the like would be refused as settings
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert box["resources"]["requests"].keys() == box["resources"]["limits"].keys() == {"cpu", "memory"}


def test_images_are_those_of_the_dockerfile_and_their_user() -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    tags = {each["name"]: each["newTag"] for each in _kustomization()["images"]}
    for name in CLASSES:
        assert container(name)["image"] == name
        assert tags[name] == __version__
        assert f"AS {name.removeprefix('twinsplit-')}\n" in dockerfile
        user = pod(name)["securityContext"]
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile
