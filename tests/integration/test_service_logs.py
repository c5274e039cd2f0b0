"""What every service writes: JSON lines for machines, text on a terminal, one event name in each, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.edge.tiny_model import write_tiny_model

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
ANY_PORT = ("--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0")
EVENT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TEXT_LINE = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3} (INFO|WARNING|ERROR) +[a-z_.]+: ([a-z0-9-]+)( [a-z_]+=(\S+|\"[^\"]*\"))*"
)
UNDER_WAY = {"device": b"-unreachable", "edge": b"-serving", "twin": b"-serving"}
"""In a line that comes once a signal ends the service in order."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Each service with what it needs to run, but for its ports; nobody is there for edge and device to attach to."""
    model = write_tiny_model(tmp_path / "tiny")
    alone = "--twin=127.0.0.1:9"
    return {
        "device": [sys.executable, "-m", "device", f"--model={model}", alone, "--edge=127.0.0.1:9"],
        "edge": [sys.executable, "-m", "edge", f"--models={model}", alone],
        "twin": [sys.executable, "-m", "twin_service", f"--state={tmp_path / 'state'}"],
    }


@contextlib.contextmanager
def _started(commands: dict[str, list[str]], *flags: str, **pipes: Any) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    processes = {
        name: subprocess.Popen([*command, *flags], env=ENVIRONMENT, **pipes) for name, command in commands.items()
    }
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_beyond_a_terminal_every_line_is_json_with_one_event_name(commands: dict[str, list[str]]) -> None:
    with _started(commands, *ANY_PORT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as processes:
        said: dict[str, list[bytes]] = {}
        for name, process in processes.items():
            assert process.stderr is not None
            said[name] = []
            while not any(UNDER_WAY[name] in line for line in said[name]):
                line = process.stderr.readline()
                assert line, said
                said[name].append(line)
            process.send_signal(signal.SIGTERM)
        for name, process in processes.items():
            out, rest = process.communicate(timeout=PATIENCE_S)
            assert (out, process.returncode) == (b"", 0)
            lines = [json.loads(line) for line in (*said[name], *rest.splitlines())]
            assert all({"time", "level", "part", "event"} <= line.keys() for line in lines)
            assert all(EVENT.fullmatch(line["event"]) for line in lines), lines
            assert lines[-1]["event"] == f"{name}-stopped"


def test_a_service_that_cannot_start_ends_with_a_line_of_its_kind(commands: dict[str, list[str]]) -> None:
    """JSON where a machine reads, the plain sentence where a person does."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        flags = (f"--listen=127.0.0.1:{taken.getsockname()[1]}", "--http-listen=127.0.0.1:0")
        with _started(commands, *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as processes:
            for process in processes.values():
                _, written = process.communicate(timeout=PATIENCE_S)
                assert process.returncode == 6
                last = [json.loads(line) for line in written.splitlines()][-1]
                assert (last["event"], last["level"], last["exit_code"]) == ("ended-by-error", "error", 6)
                assert "choose another --listen" in last["error"]
        for lines in _on_a_terminal(commands, *flags).values():
            *logged, last_line = lines
            assert last_line.startswith("twinsplit: cannot listen on 127.0.0.1:")
            assert all(TEXT_LINE.fullmatch(line) for line in logged), logged


def _on_a_terminal(commands: dict[str, list[str]], *flags: str) -> dict[str, list[str]]:
    """What each writes on a terminal until it ends."""
    started, found = {}, {}
    for name, command in commands.items():
        ours, theirs = pty.openpty()
        started[name] = ours, subprocess.Popen([*command, *flags], env=ENVIRONMENT, stdout=theirs, stderr=theirs)
        os.close(theirs)
    try:
        for name, (ours, process) in started.items():
            written, deadline_s = b"", time.monotonic() + PATIENCE_S
            with contextlib.suppress(OSError):  # the terminal's other end was closed
                while (data := os.read(ours, 4096)) and time.monotonic() < deadline_s:
                    written += data
            assert process.wait(PATIENCE_S) == 6
            found[name] = written.decode().splitlines()
    finally:
        for ours, process in started.values():
            os.close(ours)
            process.kill()
            process.wait()
    return found
