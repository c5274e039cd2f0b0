"""What the compose file, its overlays, the Dockerfile and .env.example say of one another. Nothing is started."""

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import twinsplit

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
_OF_THE_SHELL = {"LAN"}
"""Given to the command rather than written down; .env.example says so."""


@pytest.fixture(scope="module")
def project(root: Path) -> Any:
    return yaml.safe_load((root / "docker-compose.yml").read_text())


def _knobs(root: Path) -> dict[str, str]:
    lines = (root / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match("[A-Z_]+=", line))


def test_every_knob_is_written_down_with_the_default_that_it_has(root: Path) -> None:
    files = [root / "docker-compose.yml", *(root / "deploy/compose").glob("*.yml")]
    used: dict[str, set[str]] = {}
    for text in (file.read_text() for file in files):
        for name, kind, default in _VARIABLE.findall(text):
            used.setdefault(name, set()).update({default} if kind == "-" else set())
    assert used.keys() == _knobs(root).keys()
    for name, default in _knobs(root).items():
        if name not in _OF_THE_SHELL:
            assert used[name] == {default}, name


def test_every_service_that_holds_a_certificate_gets_one_made_in_its_name(project: Any) -> None:
    made = {text.partition("@")[0].partition(":")[2] for text in project["services"]["certs"]["command"] if ":" in text}
    mounted = {
        name: mount["volume"]["subpath"]
        for name, service in project["services"].items()
        for mount in service.get("volumes", [])
        if isinstance(mount, dict) and mount["source"] == "certs"
    }
    assert mounted == {name: name for name in made}


def test_nobody_waits_for_a_service_without_a_health_check_of_its_own_or_its_images(project: Any) -> None:
    services = project["services"]
    assert [name for name in services if name != "certs" and services[name].get("restart") != "unless-stopped"] == []
    assert [name for name, each in services.items() if not {"cpus", "mem_limit"} <= each.keys()] == []
    ours = {"twinsplit-twin", "twinsplit-edge", "twinsplit-device"}
    checked = {name for name, each in services.items() if each["image"] in ours or "healthcheck" in each}
    waited_for = {
        other
        for each in services.values()
        for other, how in each.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert waited_for <= checked - {"certs"}


def test_prometheus_scrapes_every_service_that_has_metrics(root: Path, project: Any) -> None:
    scraping = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraping for each in job["static_configs"] for target in each["targets"]}
    assert targets == {"twin:7001", "edge:7101", "device-fast:7201", "device-slow:7201"}
    networks = {name: set(each.get("networks", [])) for name, each in project["services"].items()}
    for target in targets:
        assert networks["prometheus"] & networks[target.partition(":")[0]], target


def test_the_home_dashboard_is_there(root: Path, project: Any) -> None:
    path = project["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (root / "deploy/grafana/dashboards" / Path(path).name).exists()


def test_the_images_are_labelled_with_this_version(root: Path) -> None:
    (version,) = re.findall(r"^ARG VERSION=(.+)$", (root / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    assert version == twinsplit.__version__


def test_the_build_is_given_all_that_the_wheel_is_made_of(root: Path) -> None:
    given = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (root / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    for source in (word for line in copied for word in line.split()):
        assert any(
            source == each or each.startswith(f"{source}/") or source.startswith(f"{each}/") for each in given
        ), source


def test_requirements_are_those_of_the_extras(root: Path) -> None:
    if sys.version_info < (3, 11):
        program = "import sys, tomli; sys.modules['tomllib'] = tomli; import runpy; sys.argv = sys.argv[1:]; "
        command = [sys.executable, "-c", program + "runpy.run_path(sys.argv[0])"]
    else:
        command = [sys.executable]
    done = subprocess.run(
        [*command, "deploy/docker/requirements.py", "device-cpu", "learn"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = {re.split(r"[><=; ]", line)[0] for line in done.stdout.splitlines()}
    assert {"grpcio", "numpy", "onnxruntime", "torch"} <= names
    assert "pytest" not in names


@pytest.fixture(scope="module")
def cpu_index() -> Iterator[str]:
    """A place that has a page for torch and nothing else."""

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


_PIP = """#!/bin/sh
case "$*" in *--dry-run*) echo '{{"install": [{{"metadata": {{"name": "{dependency}"}}}}]}}'; exit 0;; esac
echo "$*" >> {log}
case "$*" in {offered}) exit 0;; *) exit 1;; esac
"""
EITHER, CPU, CONFIGURED, WHEELHOUSE = "*", "*--index-url*", "*--no-deps?torch", "*--find-links*"


@pytest.mark.parametrize(
    ("has_wheel", "answers", "offered", "dependency", "told"),
    [
        (True, True, EITHER, "nvidia-nccl", "torch comes from {index}"),
        (True, True, CONFIGURED, "sympy", "torch comes from pip's configured index"),
        (True, False, EITHER, "sympy", "torch comes from pip's configured index"),
        (True, False, EITHER, "nvidia-nccl", "torch comes from wheelhouse/: {index} does not answer, and"),
        (True, False, CONFIGURED, "nvidia-nccl", "torch comes from pip's configured index"),
        (False, False, EITHER, "nvidia-nccl", "torch comes from pip's configured index"),
        (True, True, WHEELHOUSE, "sympy", "torch comes from wheelhouse/: neither"),
        (True, False, WHEELHOUSE, "sympy", "torch comes from wheelhouse/: neither"),
        (True, True, "nothing", "sympy", "Put its wheel into wheelhouse/"),
        (False, False, WHEELHOUSE, "sympy", "Put its wheel into wheelhouse/"),
    ],
)
def test_torch_comes_from_the_cpu_index_else_the_configured_one_else_the_wheelhouse(
    root: Path, tmp_path: Path, cpu_index: str, has_wheel: bool, answers: bool, offered: str, dependency: str, told: str
) -> None:
    wheelhouse, programs = tmp_path / "wheelhouse", tmp_path / "bin"
    wheelhouse.mkdir()
    programs.mkdir()
    if has_wheel:
        (wheelhouse / "torch-1.whl").touch()
    script = tmp_path / "install-torch"
    script.write_text((root / "deploy/docker/install-torch").read_text().replace("/wheelhouse", str(wheelhouse)))
    log = tmp_path / "pip.log"
    for name, text in (
        ("pip", _PIP.format(log=log, offered=offered, dependency=dependency)),
        ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    index = cpu_index if answers else f"{cpu_index}/nowhere"
    done = subprocess.run(
        ["sh", str(script), "/opt/python", index],
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.format(index=index) in done.stdout + done.stderr
    assert done.returncode == (0 if "comes from" in told else 2)
    assert all("--no-deps" in line for line in log.read_text().splitlines())
