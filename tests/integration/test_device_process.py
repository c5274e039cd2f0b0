"""``python -m device`` and ``twinsplit device`` as real processes: sources, sinks, signals, errors at start-up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jsonschema import Draft202012Validator
from PIL import Image

from device.task_records import task_record_schema
from tests.integration.device_bench import expected_labels, write_frames, write_network
from twinsplit.cli import run as command_line

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("frames"))


def options(model: Path, *more: object) -> list[str]:
    ports = ("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json")
    return ["--model", str(model), *ports, *map(str, more)]


def arguments(model: Path, *more: object) -> list[str]:
    return [sys.executable, "-m", "device", *options(model, *more)]


def run(model: Path, *more: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        arguments(model, *more), input=stdin, capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False
    )


def lines_of(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


def event(log: bytes, name: str) -> dict[str, object]:
    (found,) = [line for line in lines_of(log) if line["event"] == name]
    return found


class RunningDevice:
    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT
            )
        try:
            self._await_start()
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        running = event(log.read_bytes(), "device-running")
        self.address, self.http_address = str(running["address"]), str(running["http_address"])

    def _await_start(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while b"device-running" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.02)

    def wait_until_entered(self, tasks: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self._entered() < tasks:
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.02)

    def _entered(self) -> float:
        with urllib.request.urlopen(f"http://{self.http_address}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        (line,) = (line for line in lines if line.startswith("twinsplit_tasks_entered_total "))
        return float(line.rpartition(" ")[2])

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, bytes]:
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningDevice]]:
    started: list[RunningDevice] = []

    def start_one(model: Path, *more: object) -> RunningDevice:
        started.append(RunningDevice(arguments(model, *more), tmp_path / f"log-{len(started)}"))
        return started[-1]

    yield start_one
    for device in started:
        if device.process.poll() is None:
            device.process.kill()
            device.process.communicate()


def test_a_folder_of_frames_gives_one_checked_line_per_frame(model, frames):
    done = run(model, "--source", f"frames:{frames}", "--arrivals", "poisson:100", "--count", 12, "--sink", "-")
    assert done.returncode == 0, done.stderr
    records = lines_of(done.stdout)
    validator = Draft202012Validator(task_record_schema())
    for record in records:
        validator.validate(record)
    assert [r["task_id"] for r in records] == list(range(1, 13))
    labels = expected_labels(model, frames)
    assert all(r["label"] == labels[str(r["frame"])] for r in records if r["outcome"] == "device")
    stopped = event(done.stderr, "device-stopped")
    assert (
        stopped["entered"] == 12 == sum(int(str(stopped[k])) for k in ("device", "exit", "edge", "dropped", "failed"))
    )


def test_mjpeg_on_standard_input_is_classified_to_its_end(model, tmp_path):
    from PIL import Image

    pictures = []
    for size in ((64, 48), (64, 48), (80, 48)):
        path = tmp_path / "picture.jpg"
        Image.new("RGB", size, (200, 40, 90)).save(path)
        pictures.append(path.read_bytes())
    more = ("--source", "-", "--sink", "-", "--queue-capacity", 9)
    done = run(model, *more, stdin=b"garbage" + b"".join(pictures))
    assert done.returncode == 0
    assert [r["frame"] for r in lines_of(done.stdout)] == ["1", "2", "3"]
    assert event(done.stderr, "source-size-changed")["now"] == "80x48"
    assert event(done.stderr, "source-unreadable")["bytes"] == 7


def test_raw_frames_on_standard_input_too(model):
    more = ("--source", "-", "--raw-format", "bgr24:20x10", "--sink", "-", "--queue-capacity", 9)
    done = run(model, *more, stdin=bytes(600) * 3)
    assert [r["frame"] for r in lines_of(done.stdout)] == ["1", "2", "3"]


def test_a_frame_that_is_none_fails_alone(model, frames, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"this is text")
    (tmp_path / "b.png").write_bytes(next(frames.iterdir()).read_bytes())
    done = run(model, "--source", f"frames:{tmp_path}", "--arrivals", "periodic:50", "--count", 2, "--sink", "-")
    assert done.returncode == 0
    outcomes = {r["frame"]: (r["outcome"], r["reason"]) for r in lines_of(done.stdout)}
    assert outcomes["a.jpg"] == ("failed", "bad-frame")
    assert outcomes["b.png"][0] in ("device", "exit")
    assert "send JPEG or PNG" in str(event(done.stderr, "bad-frame")["error"])


def test_a_full_disk_harms_no_task_and_is_said_at_the_end(model, frames):
    done = run(model, "--source", f"frames:{frames}", "--arrivals", "periodic:100", "--count", 5, "--sink", "/dev/full")
    assert done.returncode == 7
    stopped = event(done.stderr, "device-stopped")
    assert stopped["entered"] == 5 == int(str(stopped["device"])) + int(str(stopped["exit"]))
    assert b"/dev/full: No space left on device; 5 of 5 task records are missing" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_finishes_what_was_accepted(model, frames, start, number):
    source = ("--source", f"frames:{frames}", "--arrivals", "periodic:50", "--sink", "-", "--queue-capacity", 10_000)
    device = start(model, *source, "--emulate-slowdown", 1.0)
    device.wait_until_entered(10)
    code, output = device.stop(number)
    stopped = event(device.log.read_bytes(), "device-stopped")
    assert code == 0
    assert len(lines_of(output)) == stopped["entered"] > 0
    assert stopped["failed"] == stopped["dropped"] == 0


def test_sigterm_says_not_serving_first(model, frames, start):
    device = start(model, "--source", f"frames:{frames}", "--arrivals", "periodic:50", "--emulate-slowdown", 1.0)
    with grpc.insecure_channel(device.address) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        device.process.send_signal(signal.SIGTERM)
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
    device.process.communicate(timeout=PATIENCE_S)
    assert device.process.returncode == 0


def test_sigterm_finishes_a_frame_that_is_being_prepared(model, frames, tmp_path, start):
    folder = tmp_path / "large"
    folder.mkdir()
    with Image.open(next(frames.iterdir())) as picture:
        picture.resize((4000, 3000)).save(folder / "large.jpg")
    device = start(model, "--source", f"frames:{folder}", "--arrivals", "periodic:50", "--sink", "-")
    device.wait_until_entered(1)  # and the next one is being prepared, which takes far longer than 20 ms
    code, output = device.stop()
    assert code == 0
    records = lines_of(output)
    assert records
    assert {record["outcome"] for record in records} <= {"device", "exit"}


def test_it_answers_status_health_metrics_and_submissions_while_it_runs(model, frames, start, tmp_path):
    device = start(model)
    picture = next(frames.iterdir())
    twinsplit = [sys.executable, "-c", "from twinsplit.cli import main; main()", "device"]

    def command(*more: object) -> subprocess.CompletedProcess[bytes]:
        words = [*twinsplit, *map(str, more)]
        return subprocess.run(words, capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False)

    submitted = command("submit", device.address, picture, picture)
    assert submitted.returncode == 0, submitted.stderr
    assert [r["frame"] for r in lines_of(submitted.stdout)] == [picture.name] * 2
    (tmp_path / "torn.jpg").write_bytes(picture.read_bytes()[:50])
    refused = command("submit", device.address, tmp_path / "torn.jpg", picture)
    assert refused.returncode == 4, "that of the refusal"
    assert b"torn.jpg: " in refused.stderr
    assert [r["reason"] for r in lines_of(refused.stdout)].count("bad-frame") == 1, "the other is answered"
    status = command("status", device.address)
    assert b"tasks: 4 entered = " in status.stdout
    assert json.loads(command("status", device.address, "--json").stdout)["entered"] == 4
    with urllib.request.urlopen(f"http://{device.http_address}/metrics", timeout=PATIENCE_S) as answer:
        assert "twinsplit_tasks_entered_total 4.0" in answer.read().decode()
    with urllib.request.urlopen(f"http://{device.http_address}/readyz", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    assert device.stop(signal.SIGINT)[0] == 0


def test_nobody_at_an_address_is_one_line(start):
    words = [
        sys.executable,
        "-c",
        "from twinsplit.cli import main; main()",
        "device",
        "status",
        "127.0.0.1:9",
        "--timeout-s",
        "0.5",
    ]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith(b"twinsplit: 127.0.0.1:9 cannot be reached")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (("--model", "nowhere"), 3, "nowhere/manifest.json: No such file or directory"),
        (("--provider", "tensorrt"), 2, "provider 'tensorrt' is not in this build"),
        (("--source", "frames:nowhere"), 4, "nowhere: is no folder"),
        (("--source", "camera:0"), 4, "pip install 'twinsplit[video]'"),
        (("--source", "usb"), 2, "--source 'usb' is not a source"),
        (("--arrivals", "often", "--source", "frames:."), 2, "--arrivals 'often'"),
        (("--sink", "nowhere/results.jsonl"), 7, "nowhere/results.jsonl: No such file or directory"),
        (("--listen", "0.0.0.0:0"), 2, "say --insecure"),
        (("--twin", "localhost"), 2, "'localhost' is not an address"),
        (("--polled",), 2, "--polled asks the twin"),
        (("--emulate-uplink-outages", "5"), 2, "is not START+LENGTH"),
        (("--queue-capacity", "0"), 2, "--queue-capacity"),
        (("--energy", "rapl", "--sysfs", "nowhere"), 2, "--energy rapl: nowhere/class/powercap has no RAPL zone; "),
        (("--energy", "coal"), 2, "--energy 'coal' is no meter; choose one of auto, model, none"),
        (("--no-such-flag",), 2, "--no-such-flag"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_used_is_one_line_with_its_exit_code(model, more, code, text, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as on a device without the extra
    assert command_line(["device", "run", *options(model, *more)]) == code
    told = capfd.readouterr()
    assert text in told.err
    assert len(told.err.splitlines()) == 1 or told.err.startswith("Usage: ")
    assert told.out == ""


def test_a_port_in_use_is_named(model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run(model, "--listen", f"127.0.0.1:{other.getsockname()[1]}")
    assert done.returncode == 6
    assert "the port is in use" in done.stderr.decode()


def test_a_damaged_model_file_is_named(model, tmp_path):
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "segment-1.onnx").write_bytes(b"damaged")
    done = run(tmp_path)
    assert done.returncode == 3
    assert "segment-1.onnx: its digest differs from the manifest's" in done.stderr.decode()


def test_a_measured_profile_is_written_and_read_again(model, frames, tmp_path):
    profile = tmp_path / "profile.json"
    more = ("--source", f"frames:{frames}", "--arrivals", "periodic:50", "--count", 1, "--profile", profile)
    assert run(model, *more).returncode == 0
    written = profile.read_bytes()
    assert run(model, *more).returncode == 0
    assert profile.read_bytes() == written
