"""In every deployment that ships, certificates have the roles and the names that the access table expects."""

import re
from pathlib import Path
from typing import Any

import yaml

from device.settings import DeviceSettings
from edge.settings import EdgeSettings
from twinsplit.access.rights import RIGHTS, Scope
from twinsplit.certificates.subject import Role, subject_named

ATTACH = {Role.DEVICE: "AttachDevice", Role.EDGE: "AttachEdge"}
_ID = re.compile(r'^\s*id = "(.+)"', re.MULTILINE)
_CERT = re.compile(r'^\s*tls_cert = ".*/([^/]+)/cert\.pem"', re.MULTILINE)
_ISSUED = re.compile(r"^twinsplit certs issue (\w+) (\S+)", re.MULTILINE)


def test_the_compose_project_gives_each_service_its_own_role_and_name(root: Path) -> None:
    services: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    command = services["certs"]["command"]
    subjects = [subject_named(re.sub(r"\$\{.*?\}", "", text)) for text in command[command.index("/certs") + 1 :]]
    roles = {subject.name: subject.role for subject in subjects}
    seen = set()
    for name, service in services.items():
        mounts = [v for v in service.get("volumes", ()) if isinstance(v, dict) and v.get("target") == "/tls"]
        if not mounts:
            continue
        holder = mounts[0]["volume"]["subpath"]
        environment = service.get("environment", {})
        role = roles[holder]
        seen.add(role)
        if any(key.startswith("TWINSPLIT_TWIN_") for key in environment):
            assert role is Role.TWIN, name
        elif any(key.startswith("TWINSPLIT_EDGE_") for key in environment):
            assert (role, holder) == (
                Role.EDGE,
                environment.get("TWINSPLIT_EDGE_ID", EdgeSettings.model_fields["id"].default),
            ), name
        elif any(key.startswith("TWINSPLIT_DEVICE_") for key in environment):
            assert (role, holder) == (
                Role.DEVICE,
                environment.get("TWINSPLIT_DEVICE_ID", DeviceSettings.model_fields["id"].default),
            ), name
        else:
            assert "load" in service["command"], name
            assert role in RIGHTS["/twinsplit.rpc.v1.EdgeService/Infer"], name
    assert seen == {Role.TWIN, Role.EDGE, Role.DEVICE}


def test_settings_files_that_ship_use_the_certificate_of_their_own_name(root: Path) -> None:
    for service in ("device", "edge"):
        text = (root / f"deploy/systemd/{service}.toml").read_text()
        assert _ID.findall(text) == _CERT.findall(text), service


def test_guides_issue_certificates_in_the_names_that_their_services_use(root: Path) -> None:
    checked = 0
    for guide in sorted((root / "docs/deploy").glob("*.md")):
        text = guide.read_text()
        issued = {name: Role(role) for role, name in _ISSUED.findall(text)}
        for name in _ID.findall(text):
            assert issued[name] in ATTACH, guide.name
            method = f"/twinsplit.rpc.v1.TwinService/{ATTACH[issued[name]]}"
            assert RIGHTS[method][issued[name]] is Scope.OWN
            checked += 1
    assert checked >= 3
