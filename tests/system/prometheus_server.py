"""A real Prometheus beside the services: the project's own configuration with other addresses and a faster pace."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parents[2]
CONFIG = _ROOT / "deploy/prometheus/prometheus.yml"
_START_S = 120.0


class PrometheusServer:
    """Asks a Prometheus at ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def data(self, path: str, **parameters: str | float) -> Any:
        """What the HTTP API answers under ``/api/v1/``.

        Raises:
            AssertionError: it refused; the text says why.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=10.0) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def values(self, query: str) -> list[float]:
        """Of all series of ``query`` now."""
        return [float(series["value"][1]) for series in self.data("query", query=query)["result"]]

    def values_over(self, query: str, seconds: float, step_s: float = 2.0) -> list[float]:
        """Of all series of ``query`` over the last ``seconds``."""
        now_s = time.time()
        found = self.data("query_range", query=query, start=now_s - seconds, end=now_s, step=step_s)
        return [float(value) for series in found["result"] for _, value in series["values"]]

    def await_values(self, query: str, patience_s: float) -> list[float]:
        """The values of ``query`` as soon as it has any."""
        until_s = time.monotonic() + patience_s
        while not (found := self.values(query)):
            assert time.monotonic() < until_s, f"after {patience_s:g} s there is nothing for {query}"
            time.sleep(0.5)
        return found


def configuration(targets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The project's own with ``targets`` by job, scraped every two seconds."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(CONFIG.parent / pattern) for pattern in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    return config


@contextmanager
def prometheus(folder: Path, port: int, targets: Mapping[str, Sequence[str]]) -> Iterator[PrometheusServer]:
    """Debian's Prometheus on ``port`` of the loopback interface, its data in ``folder``."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration(targets)), encoding="utf-8")
    command = [
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until_s = time.monotonic() + _START_S
        while not _is_ready(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.1)
        yield PrometheusServer(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15.0)
        process.kill()
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
