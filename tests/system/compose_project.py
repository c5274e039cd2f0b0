"""The compose project under a name and ports of its own, as the tests drive it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("twin", "edge", "device-fast", "device-slow", "load", "prometheus")
"""All but Grafana, whose image is not at hand everywhere."""
PORTS = ("CONSOLE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "TWIN_PORT", "EDGE_PORT")
PATIENCE_S = 180.0


class ComposeProject:
    """One project; ``variables`` are what a user would put into .env."""

    def __init__(self, name: str, variables: dict[str, str]) -> None:
        self.name = name
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "COMPOSE_"))
        }
        self.environment = inherited | {"COMPOSE_PROJECT_NAME": name} | variables
        self.ports = {key: int(variables[key]) for key in PORTS if key in variables}

    def run(self, *command: str, cwd: Path = ROOT, fails: bool = False) -> subprocess.CompletedProcess[str]:
        """A command, whose failure is the test's unless it is to fail."""
        done = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, (
            f"{command}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
        return done

    def compose(self, *arguments: str) -> str:
        """What `docker compose ...` prints."""
        return self.run("docker", "compose", *arguments).stdout

    def container(self, service: str) -> str:
        """Name of a service's container."""
        return f"{self.name}-{service}-1"

    def inspect(self, service: str) -> Any:
        """What the engine knows of a service's container."""
        return json.loads(self.run("docker", "inspect", self.container(service)).stdout)[0]

    def log(self, service: str) -> str:
        """Everything a service has logged."""
        return self.compose("logs", "--no-log-prefix", "--no-color", service)

    def is_healthy(self, service: str) -> bool:
        """Whether its health check says so."""
        return bool(self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy")

    def crash(self, service: str) -> None:
        """Kill every process of a service but its init, and see the engine start it again, healthy."""
        before = self.inspect(service)["RestartCount"]
        command = ("docker", "exec", self.container(service), "sh", "-c", "kill -9 -1")
        subprocess.run(command, env=self.environment, capture_output=True, check=False)  # it may die with the rest
        until(lambda: self.inspect(service)["RestartCount"] > before, f"{service} is started again")
        until(lambda: self.is_healthy(service), f"{service} is healthy again")

    def network(self, name: str) -> str:
        """The engine's name of one of the project's networks."""
        return f"{self.name}_{name}"

    def disconnect(self, service: str, network: str) -> None:
        """Take a service from one of its networks."""
        self.run("docker", "network", "disconnect", self.network(network), self.container(service))

    def reconnect(self, service: str, network: str) -> None:
        """Bring it back under its name."""
        command = ("docker", "network", "connect", "--alias", service, self.network(network), self.container(service))
        self.run(*command)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers now."""
        return list(self._prometheus("query", {"query": expression})["result"])

    def value(self, expression: str) -> float:
        """The one number of an expression; 0: there is none."""
        return sum(float(found["value"][1]) for found in self.query(expression))

    def metric_names(self) -> set[str]:
        """Names of all series that Prometheus has ever read."""
        return set(self._prometheus("label/__name__/values", {}))

    def _prometheus(self, path: str, values: dict[str, str]) -> Any:
        query = urllib.parse.urlencode(values)
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``condition`` holds; services that are just restarting may refuse to be asked."""
    ends_s = time.monotonic() + patience_s
    while True:
        try:
            if condition():
                return
        except (OSError, ValueError, AssertionError):
            pass
        assert time.monotonic() < ends_s, f"not within {patience_s:g} s: {what}"
        time.sleep(0.5)
