"""The three services and a load as real processes, for tests that look at them from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.testbed.process import free_ports

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}
_START_S = 120.0


def free_port() -> int:
    """A port for a service that must come back at the same place."""
    (port,) = free_ports(1)
    return port


@dataclass
class LiveServices:
    """A twin with its console, an edge, a device; all log into ``folder``."""

    folder: Path
    twin_port: int = field(default_factory=free_port)
    console_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    edge_address: str = ""

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.console_port}/"

    @property
    def twin(self) -> str:
        return f"127.0.0.1:{self.twin_port}"

    @property
    def token(self) -> str:
        return (self.folder / "state" / "console-token").read_text().strip()

    def start_twin(self, *arguments: str) -> None:
        self._start(
            "twin", "-m", "twin_service", "--listen", self.twin, "--http-listen", "127.0.0.1:0",
            "--console-listen", f"127.0.0.1:{self.console_port}", "--state", str(self.folder / "state"),
            "--save-s", "0.5", *arguments,
        )  # fmt: skip
        self._wait_for_event("twin", "twin-serving")

    def start_edge(self) -> None:
        self._start(
            "edge", "-m", "edge", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--models", "models",
            "--twin", self.twin, "--emulate-slowdown", "20",
        )  # fmt: skip
        self.edge_address = self._wait_for_event("edge", "edge-serving")["address"]

    def start_device(self, device_id: str, *arguments: str) -> None:
        self._start(
            device_id, "-m", "device", "--id", device_id, "--model", "models/alexnet-fashion/1", "--twin", self.twin,
            "--edge", self.edge_address, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
            "--source", "frames:models/alexnet-fashion/1/frames", "--arrivals", "poisson:4",
            "--emulate-slowdown", "250", "--emulate-uplink-bytes-per-s", "20000", *arguments,
        )  # fmt: skip

    def start_load(self) -> None:
        command = "from twinsplit.cli import main; main()"
        self._start("load", "-c", command, "edge", "load", self.edge_address, "--model", "models/alexnet-fashion/1")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait(10)

    def snapshot(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.console}api/snapshot", timeout=10) as answer:
            return dict(json.load(answer))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, *arguments]
            self.processes[name] = subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT, stdout=log, stderr=log)

    def _wait_for_event(self, name: str, event: str) -> dict[str, Any]:
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s and self.processes[name].poll() is None:
            for line in self.log(name).splitlines():
                if f'"event": "{event}"' in line:
                    return dict(json.loads(line))
            time.sleep(0.05)
        raise AssertionError(f"{name} did not come up:\n{self.log(name)}")


@contextmanager
def live_services(folder: Path) -> Iterator[LiveServices]:
    """All of them, under load."""
    services = LiveServices(folder)
    try:
        services.start_twin()
        services.start_edge()
        services.start_device("camera-1", "--thumbnails")
        services.start_load()
        yield services
    finally:
        services.stop()
