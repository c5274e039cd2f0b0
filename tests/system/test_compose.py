"""The compose project for real: brought up, attacked service by service, joined from outside, taken down.

The tests share one project and run in this order. They want a Docker engine; images that it cannot pull must be there
already. Grafana is left out: nothing here depends on it, and its part of the file is checked by `config`.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.testbed.process import free_ports
from tests.system.compose_project import PORTS, ROOT, SERVICES, ComposeProject, until
from twinsplit.telemetry.catalogue import CATALOGUE

pytestmark = [pytest.mark.needs("docker", "docker-compose"), pytest.mark.timeout(900)]

LAN = "127.0.0.2"
"""Stands for this machine's address in the local network: no certificate is valid for it that was not made for it."""
OVERLAYS = ("deploy/compose/lan.yml", "deploy/compose/insecure.yml")
OURS = ("twin", "edge", "device-fast", "device-slow", "load")
COUNTING = ("twin", "edge", "device-fast", "device-slow")

WITHOUT_SERIES = {
    "twinsplit_offloads_sent_on_total": "there is one edge, and no list of others",
    "twinsplit_edge_goodput_bytes_per_second": "there is one edge, and no list of others",
    "twinsplit_edge_round_trip_seconds": "there is one edge, and no list of others",
    "twinsplit_edge_reachable": "there is one edge, and no list of others",
    "twinsplit_source_problems_total": "frames come from a folder, which neither stalls nor ends",
    "twinsplit_sink_records_total": "no device writes task records",
    "twinsplit_sink_waiting_records": "no device writes task records",
    "twinsplit_sink_lost_records_total": "no device writes task records",
    "twinsplit_power_watts": "emulated devices have no meter",
    "twinsplit_energy_meter_up": "emulated devices have no meter",
    "twinsplit_energy_meter_losses_total": "emulated devices have no meter",
    "twinsplit_device_temperature_celsius": "not every machine has the sensor",
    "twinsplit_device_throttled": "not every machine tells",
    "twinsplit_device_speed_share": "not every machine tells",
    **{
        f"twinsplit_computing_process_{name}": "the edge computes in a thread"
        for name in ("restarts_total", "cpu_seconds_total", "resident_memory_bytes")
    },
    **{
        f"twinsplit_engine_{name}": "the edge runs its tails itself"
        for name in (
            "ready",
            "tails_in_flight",
            "backlog_seconds",
            "parallelism",
            "tails_total",
            "response_seconds",
            "backlog_error_seconds",
        )
    },
}
"""Metrics that cannot have a series in this project, and why."""


def _has_a_cpu_torch() -> bool:
    """Whether the twin image can be built with torch without gigabytes of CUDA."""
    if list((ROOT / "wheelhouse").glob(f"torch-*{platform.machine()}.whl")):
        return True
    try:
        return urllib.request.urlopen("https://download.pytorch.org/whl/cpu/torch/", timeout=10).status == 200
    except OSError:
        return False


def _prometheus_image() -> str:
    """The image that the compose file names, else another that is here."""
    named = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    image: str = json.loads(named.stdout)["services"]["prometheus"]["image"]
    for candidate in (image, "prom/prometheus:latest"):
        if subprocess.run(["docker", "image", "inspect", candidate], capture_output=True, check=False).returncode == 0:
            return candidate
    return image


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    variables = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    variables |= {"LAN": LAN, "LEARN": str(int(_has_a_cpu_torch())), "PROMETHEUS_IMAGE": _prometheus_image()}
    project = ComposeProject(f"twinsplit-test-{os.getpid()}", variables)
    try:
        yield project
    finally:
        project.run("make", "down", "VOLUMES=1")  # again, for a test that failed on the way


@pytest.fixture(scope="module")
def told(project: ComposeProject) -> str:
    """What `make up` says; the project is healthy then."""
    return project.run("make", "up", f"LAN={LAN}", f"SERVICES={' '.join(SERVICES)}").stdout


@pytest.fixture
def up(project: ComposeProject, told: str) -> ComposeProject:
    """The running project."""
    return project


@pytest.mark.parametrize("overlays", [(), *((overlay,) for overlay in OVERLAYS)], ids=["alone", "lan", "insecure"])
def test_the_configuration_is_clean(project: ComposeProject, overlays: tuple[str, ...]) -> None:
    files = [word for overlay in ("docker-compose.yml", *overlays) for word in ("-f", overlay)]
    done = project.run("docker", "compose", *files, "config")
    assert done.stderr == ""
    assert "grafana" in done.stdout


@pytest.mark.parametrize("overlays", [OVERLAYS, OVERLAYS[::-1]], ids=["lan-first", "insecure-first"])
def test_both_overlays_together_open_nothing_without_tls(project: ComposeProject, overlays: tuple[str, ...]) -> None:
    files = [word for overlay in ("docker-compose.yml", *overlays) for word in ("-f", overlay)]
    found = json.loads(project.run("docker", "compose", *files, "config", "--format", "json").stdout)["services"]
    for name in ("twin", "edge"):
        is_open = any(port["host_ip"] != "127.0.0.1" for port in found[name].get("ports", ()))
        allows_plain = found[name]["environment"][f"TWINSPLIT_{name.upper()}_INSECURE"]
        assert (is_open, allows_plain) in ((False, "true"), (True, "false")), "without TLS it then does not start"


def test_a_taken_port_is_named_before_anything_is_built() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = ComposeProject(f"twinsplit-test-port-{os.getpid()}", {"PROMETHEUS_PORT": str(port)})
        done = other.run("make", "up", fails=True)
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert "PROMETHEUS_PORT" in done.stderr
    assert other.compose("ps", "--all", "--quiet") == ""


def test_it_says_where_everything_is(project: ComposeProject, told: str) -> None:
    console = f"http://127.0.0.1:{project.ports['CONSOLE_PORT']}/"
    prometheus = f"http://127.0.0.1:{project.ports['PROMETHEUS_PORT']}"
    assert console in told
    assert prometheus in told
    log = project.log("twin")
    (line,) = (line for line in log.splitlines() if "front-ends" in line)
    assert console.rstrip("/") in line
    assert prometheus in line
    (where_the_token_is,) = (line for line in told.splitlines() if "console-token" in line)
    assert len(project.run(*where_the_token_is.split()).stdout.strip()) > 20
    with urllib.request.urlopen(console, timeout=10) as page:
        assert page.status == 200
    with urllib.request.urlopen(f"{console}api/snapshot", timeout=10) as snapshot:
        assert {device["id"] for device in json.load(snapshot)["devices"]} >= {"device-fast", "device-slow"}

    def shows_a_frame() -> bool:
        with urllib.request.urlopen(f"{console}api/snapshot", timeout=10) as snapshot:
            paths = [task["thumbnail"] for task in json.load(snapshot)["tasks"] if task["thumbnail"]]
        assert paths
        with urllib.request.urlopen(console.rstrip("/") + paths[0], timeout=10) as picture:
            return bool(picture.read(2) == b"\xff\xd8")  # JPEG

    until(shows_a_frame, "a recent task has a picture of its frame")


def test_only_front_ends_are_published_and_only_on_this_machine(project: ComposeProject) -> None:
    found = json.loads(project.run("docker", "compose", "config", "--format", "json").stdout)["services"]
    published = {
        (name, port["host_ip"], port["target"]) for name, each in found.items() for port in each.get("ports", [])
    }
    assert published == {
        ("twin", "127.0.0.1", 8080), ("prometheus", "127.0.0.1", 9090), ("grafana", "127.0.0.1", 3000),
    }  # fmt: skip
    limits = {name: float(each["cpus"]) for name, each in found.items() if name != "certs"}  # that one ends at once
    assert limits.keys() == {*SERVICES, "grafana"}
    assert sum(limits.values()) <= 2.0


@pytest.mark.parametrize("service", OURS)
def test_a_container_is_nobody_special_and_writes_nowhere(up: ComposeProject, service: str) -> None:
    state = up.inspect(service)
    assert state["Config"]["User"] == "10001:10001"
    assert state["Config"]["StopSignal"] == "SIGTERM"
    assert state["HostConfig"]["ReadonlyRootfs"]
    assert state["HostConfig"]["CapDrop"] == ["ALL"]
    labels = state["Config"]["Labels"]
    version = up.run(sys.executable, "-c", "import twinsplit; print(twinsplit.__version__)").stdout.strip()
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    up.run("docker", "exec", state["Id"], "sh", "-c", "touch /opt/twinsplit/x", fails=True)
    # It sees its own key and nobody else's.
    assert sorted(up.compose("exec", service, "ls", "-A", "/tls").split()) == ["ca.pem", "cert.pem", "key.pem"]
    assert up.compose("exec", service, "stat", "-c", "%a", "/tls/key.pem").strip() == "600"


def test_the_device_image_has_neither_torch_nor_onnx_nor_a_compiler(up: ComposeProject) -> None:
    program = "import importlib.util as u, shutil as s; print(u.find_spec('torch'), u.find_spec('onnx'), s.which('cc'))"
    assert up.compose("exec", "device-fast", "python", "-c", program).strip() == "None None None"


def test_tasks_end_everywhere_they_should(up: ComposeProject) -> None:
    def outcomes() -> set[str]:
        return {found["metric"]["outcome"] for found in up.query("sum by (outcome) (twinsplit_tasks_total) > 0")}

    until(lambda: outcomes() >= {"exit", "edge", "device"}, "tasks end at exits, on the device and at the edge")
    for device in ("device-fast", "device-slow"):
        offloads = f'twinsplit_tasks_total{{outcome="edge", instance="{device}:7201"}}'
        until(lambda query=offloads: up.value(query) > 0, f"{device} offloads")


def test_prometheus_sees_every_target_up(up: ComposeProject) -> None:
    until(lambda: up.value("sum(up)") == 4, "all four are up")
    assert {found["metric"]["job"] for found in up.query("up == 1")} == {
        "twinsplit-twin", "twinsplit-edge", "twinsplit-device",
    }  # fmt: skip


def test_commands_within_a_container_show_its_certificate(up: ComposeProject) -> None:
    assert "device-slow" in up.compose("exec", "twin", "twinsplit", "twin", "list", "--twin", "twin:7000")
    shown = up.compose("exec", "twin", "twinsplit", "twin", "show", "device-slow", "--twin", "twin:7000")
    assert "device device-slow: attached" in shown
    status = up.compose("exec", "device-slow", "twinsplit", "device", "status", "127.0.0.1:7200")
    assert "device device-slow: model alexnet-fashion 1" in status


def test_logs_are_followed(up: ComposeProject, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        following = subprocess.Popen(
            ["make", "logs"],
            cwd=ROOT,
            env=up.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: all(f"{service}-1 " in log.read_text() for service in COUNTING), "every service is heard")
        assert following.poll() is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(following.pid, signal.SIGTERM)
        following.wait()


def test_an_edge_refuses_what_it_cannot_finish_in_time(up: ComposeProject) -> None:
    hopeless = ("--pattern", "poisson", "--seconds", "2", "--service-s", "0.02", "--budget-s", "0.001", "--quiet")
    tails = ("edge:7100", "--model", "/models/alexnet-fashion/1", *hopeless)
    assert "as DEADLINE" in up.compose("exec", "load", "twinsplit", "edge", "load", *tails)
    until(lambda: up.value('twinsplit_refused_messages_total{code="DEADLINE"}') > 0, "refusals are counted")


def _status(up: ComposeProject) -> Any:
    """What device-slow says of itself."""
    return json.loads(up.compose("exec", "device-slow", "twinsplit", "device", "status", "127.0.0.1:7200", "--json"))


def _ended(up: ComposeProject) -> int:
    """Tasks of device-slow that have ended."""
    return sum(_status(up)["outcomes"].values())


def _device_outside(machine: Path, up: ComposeProject, name: str, *tls: str) -> "subprocess.Popen[bytes]":
    """A device that runs for some seconds outside the project and writes its tasks into ``machine``/NAME.jsonl."""
    command = [sys.executable, "-m", "device", "--id", name, "--twin", f"{LAN}:{up.ports['TWIN_PORT']}", *tls]
    command += ["--model", "model", "--source", "frames:model/frames", "--arrivals", "poisson:5", "--duration-s", "30"]
    command += ["--sink", f"{name}.jsonl", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    command += ["--emulate-slowdown", "250", "--emulate-uplink-bytes-per-s", "20000"]
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=machine, env=environment, stderr=subprocess.DEVNULL)


def test_a_device_outside_joins_with_its_folder_and_one_without_a_certificate_is_refused(
    up: ComposeProject, tmp_path: Path
) -> None:
    camera = f"camera-{os.getpid()}"  # `make issue` writes into the checkout
    try:
        said = up.run("make", "issue", f"NAME={camera}").stderr
        shutil.copytree(ROOT / camera, tmp_path / camera)
    finally:
        shutil.rmtree(ROOT / camera, ignore_errors=True)
    assert f"twinsplit device run --id {camera} --model MODEL_FOLDER --twin {LAN}:{up.ports['TWIN_PORT']}" in said
    shutil.copytree(ROOT / "models/alexnet-fashion/1", tmp_path / "model")
    tls = [word for name in ("ca", "cert", "key") for word in (f"--tls-{name}", f"{camera}/{name}.pem")]
    devices = {camera: tls, "plain": [], "uncertified": tls[:2]}
    running = [_device_outside(tmp_path, up, name, *options) for name, options in devices.items()]
    try:
        assert [device.wait(180) for device in running] == [0, 0, 0]
    finally:
        for device in running:
            device.kill()
            device.wait()

    outcomes = {
        name: {json.loads(line)["outcome"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()}
        for name in devices
    }
    assert "edge" in outcomes[camera]
    for name in ("plain", "uncertified"):
        # A slow machine leaves some waiting when the time is over, which ends them, too.
        assert "edge" not in outcomes[name]
        assert outcomes[name] & {"exit", "device"}
    attached = [line for line in up.log("twin").splitlines() if "device-attached" in line]
    assert {name for name in devices if any(f"device={name}" in line for line in attached)} == {camera}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_dies_is_started_again_and_the_others_go_on(up: ComposeProject, service: str) -> None:
    began = f'max(twinsplit_process_start_time_seconds{{instance=~"{service}:.*"}})'
    began_before_s = up.value(began)
    up.crash(service)
    entered, finished = "sum(twinsplit_tasks_entered_total)", "sum(twinsplit_tails_total)"
    # Counters of a process that died start at zero again: what counts is read after its successor was.
    if service in COUNTING:
        until(lambda: up.value(began) > began_before_s + 1, f"Prometheus has read the new {service}")
    before = up.value(entered), up.value(finished)

    def goes_on() -> bool:
        is_attached = up.value("sum(twinsplit_twin_attached)") == 3 and up.value("sum(twinsplit_degraded)") == 0
        return is_attached and up.value(entered) > before[0] and up.value(finished) > before[1]

    until(goes_on, "edge and devices are attached, with plans; tasks enter, and the edge finishes tails")


def test_the_twins_state_has_survived(up: ComposeProject) -> None:
    served = [line for line in up.log("twin").splitlines() if "twin-serving" in line]
    assert len(served) >= 2
    assert "known_devices=0" not in served[-1]


def test_devices_that_lose_the_edge_go_on_and_come_back(up: ComposeProject) -> None:
    slow = 'instance="device-slow:7201"'
    resumed = up.value(f"twinsplit_offloads_resumed_total{{{slow}}}")
    up.disconnect("device-slow", "tensors")
    try:
        until(lambda: up.value(f"sum(twinsplit_offloads_resumed_total{{{slow}}})") > resumed, "offloads are resumed")
        until(lambda: up.value(f'twinsplit_breaker_state{{state="open", {slow}}}') == 1, "the breaker opens")
        ended = up.value(f"sum(twinsplit_tasks_total{{{slow}}})")
        until(lambda: up.value(f"sum(twinsplit_tasks_total{{{slow}}})") > ended + 5, "tasks end without the edge")
    finally:
        up.reconnect("device-slow", "tensors")
    offloads = f'twinsplit_tasks_total{{outcome="edge", {slow}}}'
    before = up.value(offloads)
    until(lambda: up.value(offloads) > before, "it offloads again")


def test_an_edge_that_loses_the_twin_comes_back(up: ComposeProject) -> None:
    up.disconnect("edge", "edges")
    try:
        until(lambda: up.value('twinsplit_twins{kind="edge", state="attached"}') == 0, "the twin misses the edge")
        ended = up.value("sum(twinsplit_tasks_total)")
        until(lambda: up.value("sum(twinsplit_tasks_total)") > ended + 5, "tasks end without it")
    finally:
        up.reconnect("edge", "edges")
    until(lambda: up.value('twinsplit_twins{kind="edge", state="attached"}') == 1, "the twin has the edge again")
    offloads = 'sum(twinsplit_tasks_total{outcome="edge"})'
    before = up.value(offloads)
    until(lambda: up.value(offloads) > before, "devices offload again")


def test_a_device_that_loses_the_twin_goes_on_and_gets_a_plan_again(up: ComposeProject) -> None:
    # Prometheus reads devices through that network, too, so the device is asked itself.
    up.disconnect("device-slow", "devices")
    try:
        until(lambda: _status(up)["plan"]["absence"] == "lease-ended", "the lease ends")
        until(lambda: up.value('twinsplit_twins{kind="device", state="attached"}') == 1, "the twin misses the device")
        ended = _ended(up)
        until(lambda: _ended(up) > ended + 5, "tasks end without a plan")
        assert _status(up)["plan"]["absence"] == "lease-ended"
    finally:
        up.reconnect("device-slow", "devices")
    until(lambda: _status(up)["plan"]["in_force"], "a plan stands again")
    until(lambda: up.value('twinsplit_twins{kind="device", state="attached"}') == 2, "the twin has the device again")
    until(lambda: up.value("sum(up)") == 4, "all four are up")


def test_every_catalogued_metric_that_can_have_a_series_has_had_one(up: ComposeProject) -> None:
    expected = CATALOGUE.keys() - WITHOUT_SERIES.keys()
    if up.environment["LEARN"] == "0":
        expected -= {"twinsplit_training_loss", "twinsplit_held_out_gain", "twinsplit_learning_core_share"}

    def missing() -> set[str]:
        found = {name for metric in up.metric_names() for name in (metric, metric.removesuffix("_bucket"))}
        return expected - found

    assert WITHOUT_SERIES.keys() <= CATALOGUE.keys()
    with contextlib.suppress(AssertionError):  # the names are told below
        until(lambda: not missing(), "all have")
    assert missing() == set()


def test_a_service_that_is_stopped_drains_first(up: ComposeProject) -> None:
    for service, name in (("device-fast", "device"), ("edge", "edge"), ("twin", "twin")):
        up.compose("stop", service)
        assert up.inspect(service)["State"]["ExitCode"] == 0, service
        log = up.log(service)
        assert f"{name}-stopping" in log
        assert f"{name}-stopped" in log.rpartition(f"{name}-stopping")[2]


def test_down_leaves_nothing(up: ComposeProject) -> None:
    up.run("make", "down", "VOLUMES=1")
    label = f"label=com.docker.compose.project={up.name}"
    for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        assert up.run("docker", *kind, "--quiet", "--filter", label).stdout == "", kind


def test_without_tls_it_runs_too(project: ComposeProject) -> None:
    names = [name for name in PORTS if name.startswith(("CONSOLE", "PROMETHEUS", "GRAFANA"))]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    plain = ComposeProject(f"{project.name}-plain", ports | {"LEARN": project.environment["LEARN"]})
    overlaid = ("-f", "docker-compose.yml", "-f", "deploy/compose/insecure.yml")
    wanted = ("twin", "edge", "device-slow")
    try:
        plain.compose(*overlaid, "up", "--build", "--detach", "--wait", *wanted)
        for service in wanted:
            assert "TLS_CERT=" in plain.compose("exec", service, "env")
            assert "TLS_CERT=/" not in plain.compose("exec", service, "env")
        until(lambda: _status(plain)["outcomes"]["edge"] > 0, "a task ends at the edge")
        assert "device-slow" in plain.compose("exec", "twin", "twinsplit", "twin", "list", "--twin", "twin:7000")
    finally:
        plain.run("make", "down", "VOLUMES=1")
