"""What systemd is told: by the notifier over a real socket, and by an edge that is a real process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.device_bench import until
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.systemd.notification import ServiceManager

PATIENCE_S = 30.0


class Systemd:
    """The receiving end of ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.address = address

    def next(self, patience_s: float = PATIENCE_S) -> str:
        """The next message; empty: none came."""
        self.socket.settimeout(patience_s)
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return ""

    def waiting(self) -> list[str]:
        """Messages that have come already."""
        self.socket.setblocking(False)
        messages: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(4096).decode())
        return messages


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are too deep for a socket's path
        receiver = Systemd(f"{folder}/notify")
        yield receiver
        receiver.socket.close()


async def test_a_hung_event_loop_gives_no_sign_of_life_and_one_that_turns_again_does(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.address, watchdog_s=0.02)
    began_s = time.monotonic()
    manager.serving("here")
    beats: list[str] = []
    while len(beats) < 5:
        await asyncio.sleep(0.01)
        beats += systemd.waiting()
    took_s = time.monotonic() - began_s
    assert beats.pop(0) == "READY=1\nSTATUS=here"
    assert set(beats) == {"WATCHDOG=1"}
    assert len(beats) <= 1 + took_s / 0.01, "one at once, then every 10 ms at most"
    time.sleep(0.1)  # noqa: ASYNC251 - the loop hangs
    assert systemd.waiting() == []
    await until(lambda: "WATCHDOG=1" in systemd.waiting())
    manager.stopping()
    manager.close()
    assert [message for message in systemd.waiting() if message.startswith("STOPPING=1")]
    await asyncio.sleep(0.03)
    assert systemd.waiting() == []


@pytest.mark.slow
def test_an_edge_is_ready_once_it_serves_lives_at_half_the_interval_and_says_that_it_stops(
    systemd: Systemd, tmp_path: Path
) -> None:
    models = write_tiny_model(tmp_path / "tiny" / "1")
    ports = ("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINSPLIT_")}
    edge = subprocess.Popen(
        [sys.executable, "-m", "edge", "--models", str(models), *ports],
        env=environment | {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"},
        stderr=subprocess.DEVNULL,
    )
    try:
        ready = systemd.next()
        address = re.fullmatch(r"READY=1\nSTATUS=edge on 127\.0\.0\.1:(\d+)", ready)
        assert address, ready
        socket.create_connection(("127.0.0.1", int(address[1])), timeout=5.0).close()
        # A busy machine makes single ones late; an edge that gave them at the whole interval would always be late.
        took_s = 1.0
        for _ in range(20):
            systemd.waiting()
            began_s = time.monotonic()
            assert [systemd.next() for _ in range(4)] == ["WATCHDOG=1"] * 4
            took_s = time.monotonic() - began_s
            assert took_s > 0.55, "after three intervals at the earliest, for none was waiting"
            if took_s < 0.9:
                break
        assert took_s < 0.9, "an edge tells of its life at the half of the interval"
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(PATIENCE_S) == 0
        assert systemd.waiting()[-1].startswith("STOPPING=1")
    finally:
        edge.kill()
        edge.wait()
