"""``python -m twin_service`` and ``twinsplit twin`` as real processes: start, readers, restart, errors at start-up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.test_twin_streams import Peer, attached_device, attached_edge, hello
from twinsplit.cli import run as command_line
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.channel import open_channel

pytestmark = pytest.mark.slow

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}
ENVIRONMENT["TWINSPLIT_TWIN_LEARNING_SHARE"] = "0"  # loading torch would take most of the time
TWINSPLIT = [sys.executable, "-c", "from twinsplit.cli import main; main()"]


@dataclass
class TwinProcess:
    process: subprocess.Popen[str]
    address: str
    http_address: str
    first_line: dict[str, str]
    """What it logs when it serves."""

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=10.0) as answer:
            return str(answer.read().decode())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return twinsplit("twin", *arguments, "--twin", self.address)


def twinsplit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TWINSPLIT, *arguments], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)


@contextmanager
def running_twin(state: Path, *arguments: str) -> Iterator[TwinProcess]:
    places = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--state", str(state)]
    command = [sys.executable, "-m", "twin_service", *places, "--log-format", "json", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            assert process.stderr is not None
            line = json.loads(process.stderr.readline())
            assert line["event"] == "twin-serving", line
            yield TwinProcess(process, line["address"], line["http_address"], line)
        finally:
            process.kill()
            process.communicate()


async def attach_and_end_a_task(address: str, device_id: str) -> int:
    """A device attaches, reports one ended task and goes; the id of its plan."""
    async with open_channel(address) as channel:
        await attached_edge(channel)
        device, plan = await attached_device(channel, device_id=device_id)
        task = twin_pb2.EndedTask(
            task_id=1,
            outcome=twin_pb2.OUTCOME_DEVICE,
            reason="not-worth-it",
            started_age_s=0.31,
            arrived_age_s=0.31,
            epoch_s=[0.11, 0.21, 0.31],
            stop_epoch=3,
            evidence=1,
        )
        await device.say(task=twin_pb2.TaskReport(ended=[task]))
        await device.say(poll=twin_pb2.PollRequest(task_id=2))
        await device.hear("poll")
        return int(plan.plan_id)


async def welcome_of(address: str, device_id: str) -> tuple[bool, int]:
    """Whether the manifest is asked for, and the id of the plan."""
    async with open_channel(address) as channel:
        device = Peer(channel)
        await device.say(hello=hello(device_id=device_id))
        welcome = await device.hear("welcome")
        return welcome.needs_manifest, (await device.hear("plan")).plan_id


def test_readers_see_what_stands_and_why(tmp_path: Path) -> None:
    with running_twin(tmp_path) as twin:
        plan_id = asyncio.run(attach_and_end_a_task(twin.address, "cam"))
        shown = twin.command("show", "cam")
        assert shown.returncode == 0, shown.stderr
        assert "1 tasks ended: device 100%" in shown.stdout
        assert "the edge was not worth it" in shown.stdout
        assert "messages per task" in shown.stdout
        assert "cam" in twin.command("list").stdout
        watched = twin.command("watch", "--count", "1")
        assert (watched.returncode, "rule multi-step" in watched.stdout) == (0, True)
        nobody = twin.command("show", "nobody")
        assert nobody.returncode == 9
        assert len(nobody.stderr.splitlines()) == 1
        assert "twin list" in nobody.stderr
        assert 'twinsplit_tasks_reported_total{outcome="device"} 1.0' in twin.get("/metrics")
        assert twin.get("/healthz") == twin.get("/readyz") == "ok\n"
        assert plan_id > 0


def test_sigterm_says_not_serving_first(tmp_path: Path) -> None:
    with running_twin(tmp_path) as twin, grpc.insecure_channel(twin.address) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30.0)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        twin.process.send_signal(signal.SIGTERM)
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert twin.process.wait(30) == 0


def test_the_state_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    with running_twin(tmp_path, "--save-s", "0.05") as twin:
        first = asyncio.run(attach_and_end_a_task(twin.address, "cam"))
        twin.process.send_signal(signal.SIGHUP)
        assert twin.process.wait(30) == 0
    with running_twin(tmp_path) as twin:
        needs_manifest, second = asyncio.run(welcome_of(twin.address, "cam"))
        assert not needs_manifest
        assert "1 tasks ended" in twin.command("show", "cam").stdout
        twin.process.kill()
    with running_twin(tmp_path) as twin:
        needs_manifest, third = asyncio.run(welcome_of(twin.address, "cam"))
        assert not needs_manifest
    assert first < second < third


@pytest.mark.parametrize(
    ("arguments", "exit_code", "named"),
    [
        (["--rule", "guess"], 2, "no rule is called 'guess'"),
        (["--listen", "0.0.0.0:0"], 2, "--insecure"),
        (["--tls-cert", "cert.pem"], 2, "--tls-key"),
        (["--alpha-s", "-1"], 2, "--alpha-s"),
        (["--state", "/dev/null/state"], 7, "--state"),
    ],
)
def test_what_cannot_be_served_is_one_line_with_its_cure(
    tmp_path: Path, arguments: list[str], exit_code: int, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    base = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--state", str(tmp_path)]
    assert command_line(["twin", "serve", *base, *arguments]) == exit_code
    told = capfd.readouterr()
    assert named in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for option in ("--listen", "--http-listen"):
            free = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--state", str(tmp_path)]
            result = twinsplit("twin", "serve", *free, option, address)
            assert result.returncode == 6
            assert "in use" in result.stderr


def test_one_state_serves_one_twin_service(tmp_path: Path) -> None:
    with running_twin(tmp_path):
        second = twinsplit(
            "twin", "serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--state", str(tmp_path)
        )
        assert second.returncode == 7
        assert "no other twin service" in second.stderr
