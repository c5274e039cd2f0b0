"""``python -m edge`` and ``twinsplit edge`` as real processes: start, metrics, health, signals, errors at start-up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.device_bench import write_profile
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.cli import run as command_line
from twinsplit.errors import StoppingError
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

pytestmark = pytest.mark.slow

START_S = 30.0
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}


@dataclass
class EdgeProcess:
    process: subprocess.Popen[str]
    address: str
    http_address: str

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=10.0) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def sample(self, line_start: str) -> float:
        (line,) = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(line_start + " ")]
        return float(line.rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny" / "1")


@contextmanager
def running_edge(models: Path, *arguments: str) -> Iterator[EdgeProcess]:
    command = [sys.executable, "-m", "edge", "--models", str(models), "--http-listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", *arguments], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        serving = _line_of(process, "edge-serving")
        yield EdgeProcess(process, serving["address"], serving["http_address"])
    finally:
        process.kill()
        process.communicate()


def _line_of(process: subprocess.Popen[str], event: str) -> dict[str, str]:
    assert process.stderr is not None
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        line = process.stderr.readline()
        assert line, f"the edge ended with {process.wait()} before {event}"
        found = json.loads(line)
        if found["event"] == event:
            return dict(found)
    raise AssertionError(f"no {event} within {START_S} s")


def run_edge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(sys.executable, "-m", "edge", *arguments)


def run_load(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(sys.executable, "-c", "from twinsplit.cli import main; main()", "edge", "load", *arguments)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60.0, check=False)


def assert_only_one_thread_goes_first(pid: int, core: int) -> None:
    """All keep to ``core``, and all but the one that computes give way there."""
    threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    assert len(threads) > 3, "gRPC has its own"
    assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {frozenset({core})}
    policies = sorted(os.sched_getscheduler(thread) for thread in threads)
    assert policies == [os.SCHED_OTHER] + [os.SCHED_BATCH] * (len(threads) - 1)


def test_a_running_edge_serves_load_on_a_core_of_its_own_and_shows_it_in_its_metrics(
    folder: Path, tmp_path: Path
) -> None:
    result = tmp_path / "load.json"
    core = max(os.sched_getaffinity(0))
    arguments = ("--id", "edge-7", "--emulate-slowdown", "20", "--core", str(core))
    with running_edge(folder.parent.parent, *arguments) as edge:
        assert_only_one_thread_goes_first(edge.process.pid, core)
        assert edge.get("/healthz")[0] == 200
        assert edge.get("/readyz") == (200, "ok\n")
        load = run_load(
            *(edge.address, "--model", str(folder), "--pattern", "poisson", "--load", "0.5"),
            *("--seconds", "1", "--seed", "2", "--json", str(result)),
        )
        assert load.returncode == 0, load.stderr
        summary = json.loads(result.read_text())
        assert summary["sent"] == summary["answered"] + sum(summary["refused"].values()) + summary["lost"]
        assert summary["answered"] > 0
        assert f"{summary['answered']} answered" in load.stdout
        assert edge.sample('twinsplit_tails_total{outcome="finished"}') >= summary["answered"]
        assert edge.sample("twinsplit_models_held") == 1.0
        assert edge.sample("twinsplit_tail_service_seconds_count") >= summary["answered"]
        assert edge.sample('twinsplit_provider_info{provider="CPUExecutionProvider"}') == 1.0
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(60.0) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_stop_signal_says_not_serving_first_finishes_what_was_taken_and_refuses_the_rest(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    profile = write_profile(folder, tmp_path / "profile.json", 0.001)
    runtime = SegmentRuntime.load(folder)
    payload = encode_payload(runtime.manifest, 0, 0, made_up_input(runtime.manifest).tensor)
    with running_edge(folder, "--profile", str(profile), "--emulate-slowdown", "300", "--drain-s", "60") as edge:
        async with open_channel(edge.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            check = health_pb2.HealthCheckRequest()
            assert (await health.Check(check)).status == health_pb2.HealthCheckResponse.SERVING
            call = infer_call(channel)
            for request_id in (1, 2):
                await call.write(InferRequest(request_id, runtime.digest, 0, None, False, payload))
            waiting = 0.0
            while waiting < 2:
                waiting = await asyncio.to_thread(edge.sample, "twinsplit_tails_waiting")
            edge.process.send_signal(number)
            status = health_pb2.HealthCheckResponse.SERVING
            while status == health_pb2.HealthCheckResponse.SERVING:
                status = (await health.Check(check)).status
            assert status == health_pb2.HealthCheckResponse.NOT_SERVING
            await call.write(InferRequest(3, runtime.digest, 0, None, False, payload))
            answers = {}
            for _ in range(3):
                answer = await asyncio.wait_for(call.read(), 60.0)
                assert isinstance(answer, InferResponse)
                answers[answer.request_id] = answer
            assert isinstance(answers[3].error, StoppingError)
            assert answers[1].error is None
            assert answers[2].error is None
        assert edge.process.wait(60.0) == 0


def test_a_folder_without_models_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    done = run_edge("--models", str(tmp_path))
    assert done.returncode == 3
    assert "holds no model" in done.stderr.splitlines()[-1]


def test_a_corrupt_model_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "segment-1.onnx").write_bytes(b"not this")
    done = run_edge("--models", str(folder), "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
    assert done.returncode == 3
    assert "digest differs" in done.stderr.splitlines()[-1]


def test_a_port_in_use_is_one_line_and_exit_code_6(folder: Path) -> None:
    with running_edge(folder) as edge:
        done = run_edge("--models", str(folder), "--listen", edge.address, "--http-listen", "127.0.0.1:0")
        http = run_edge("--models", str(folder), "--listen", "127.0.0.1:0", "--http-listen", edge.http_address)
    assert done.returncode == 6
    assert "choose another --listen" in done.stderr.splitlines()[-1]
    assert http.returncode == 6
    assert "choose another --http-listen" in http.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--listen", "0.0.0.0:0"), "--insecure"),
        (("--provider", "cuda"), "provider 'cuda'"),
        (("--queue-capacity", "0"), "--queue-capacity"),
        (("--listen", "7100"), "HOST:PORT"),
        (("--listen", "0.0.0.0:0", "--insecure", "--twin", "127.0.0.1:1"), "--advertise"),
        (("--tls-cert", "cert.pem"), "--tls-key"),
        (("--advertise", "0.0.0.0:7100"), "which nobody can dial"),
        (("--emulate-slowdown", "inf"), "--emulate-slowdown"),
        (("--twin", "ho st:1"), "HOST:PORT"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_exit_code_2(
    folder: Path, arguments: tuple[str, ...], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--models", str(folder), "--http-listen", "127.0.0.1:0", *arguments]
    assert command_line(["edge", "serve", *given]) == 2
    told = capfd.readouterr()
    assert text in told.err.splitlines()[-1]
    assert told.out == ""
