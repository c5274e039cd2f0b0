"""One service as a real process: started, seen to be ready, killed, started again, stopped; its output is kept."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from prometheus_client.parser import text_string_to_metric_families

from twinsplit.errors import TwinsplitError

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
HTTP_TIMEOUT_S = 3.0
_LOOK_EVERY_S = 0.05
_LAST_LINES = 8
_PORTS = (20_000, 30_000)
_DRAW = random.SystemRandom()
_ROOT = Path(__file__).resolve().parents[2]


class ServiceEndedError(TwinsplitError):
    """A service ended, or did not become ready, though nobody told it to end; the text has its last lines."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that were free a moment ago, all different.

    They lie below Kubernetes' node ports and those that the system gives to outgoing connections, which could take one
    before its service does, and no other process that asks here gets one of them as long as this one lives.
    """
    found: list[int] = []
    while len(found) < count:
        port = _DRAW.randrange(*_PORTS)
        mark = socket.socket(socket.AF_UNIX)
        try:
            # A name of the abstract namespace: one process has it, and it goes with the process.
            mark.bind(f"\0twinsplit-port-{port}")
            with socket.socket() as candidate:
                candidate.bind((HOST, port))
        except OSError:
            mark.close()
            continue
        atexit.register(mark.close)
        found.append(port)
    return found


class ServiceProcess:
    """A service's process.

    Args:
        name: for people.
        arguments: of this Python, such as ``["-m", "edge", "--listen", ...]``; the same ones after a restart.
        folder: where its output goes, ``NAME.log`` and ``NAME.out``.
        http_port: of its ``/readyz`` and ``/metrics``; ``None``: it has none.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, http_port: int | None = None) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self.http_port = http_port
        self.log_path = folder / f"{name}.log"
        self.output_path = folder / f"{name}.out"
        self.starts = 0
        """How often it was started."""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_wanted = False
        self._input: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """``None``: not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Start it, also again; does not wait for it to be ready."""
        # Unbuffered standard output: lines are followed while they are written.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TWINSPLIT_")}
        environment["PYTHONUNBUFFERED"] = "1"
        with self.log_path.open("ab") as log, self.output_path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops the services in order
            )
        self._input = self._process.stdin
        self._is_wanted = True
        self.starts += 1

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        if self._input is not None:
            with contextlib.suppress(BrokenPipeError):
                self._input.write(text.encode() + b"\n")
                self._input.flush()

    def check(self) -> None:
        """See that it runs, if it should.

        Raises:
            ServiceEndedError: it has ended.
        """
        if self._is_wanted and self._process is not None and (code := self._process.poll()) is not None:
            raise ServiceEndedError(
                f"{self.name} has ended with {_code_text(code)}; its last lines: {self.last_lines()}"
            )

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when ``/readyz`` says so.

        Raises:
            ServiceEndedError: it has ended, or is not ready in time.
        """
        deadline_s = time.monotonic() + timeout_s
        reason = "no answer"
        while time.monotonic() < deadline_s:
            self.check()
            try:
                status, text = self._get("/readyz")
                if status == 200:
                    return
                reason = text.strip()
            except OSError:
                pass
            time.sleep(_LOOK_EVERY_S)
        raise ServiceEndedError(
            f"{self.name} is not ready after {timeout_s:g} s: {reason}; its last lines: {self.last_lines()}"
        )

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float] | None:
        """Samples of ``/metrics`` by name and sorted labels; ``None``: it does not answer."""
        if self.http_port is None or not self.is_running:
            return None
        try:
            status, text = self._get("/metrics")
        except OSError:
            return None
        if status != 200:
            return None
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def kill(self) -> None:
        """SIGKILL: no chance to say good-bye."""
        self._is_wanted = False
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._close_input()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._is_wanted = False
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """SIGTERM, then SIGKILL when it takes too long; the exit code, ``None``: it never ran."""
        self.ask_to_stop()
        if self._process is None:
            return None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close_input()
        return self._process.returncode

    def last_lines(self, count: int = _LAST_LINES) -> str:
        """The end of its log, for people."""
        try:
            with self.log_path.open(encoding="utf-8", errors="replace") as file:
                lines = deque((line.strip() for line in file if line.strip()), maxlen=count)
        except OSError:
            return "(no output)"
        return " | ".join(lines) or "(no output)"

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def _close_input(self) -> None:
        if self._input is not None:
            with contextlib.suppress(OSError):
                self._input.close()
            self._input = None


def sample(
    metrics: Mapping[tuple[str, tuple[tuple[str, str], ...]], float] | None, name: str, **labels: str
) -> float | None:
    """One sample of :meth:`ServiceProcess.metrics`; ``None``: not there."""
    return None if metrics is None else metrics.get((name, tuple(sorted(labels.items()))))


def total(metrics: Mapping[tuple[str, tuple[tuple[str, str], ...]], float] | None, name: str) -> float:
    """Sum of a counter over all labels; 0 where it is not there."""
    return sum(value for (key, _), value in (metrics or {}).items() if key == name)


def _code_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
