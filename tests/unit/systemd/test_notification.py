"""Who is told, and how often, from the variables that systemd sets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from twinsplit.systemd.notification import ServiceManager


def manager_of(**variables: str) -> ServiceManager:
    return ServiceManager.of_environment(variables, pid=42)


@pytest.fixture
def abstract() -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("")  # the kernel chooses an abstract name
    receiver.setblocking(False)
    return receiver


def name_of(receiver: socket.socket) -> str:
    return "@" + receiver.getsockname()[1:].decode()


def test_without_a_socket_nobody_is_told_and_nothing_fails() -> None:
    manager = manager_of(WATCHDOG_USEC="1000")
    manager.serving("here")
    manager.stopping()
    manager.close()
    assert manager.watchdog_s is None


def test_an_abstract_socket_is_told(abstract: socket.socket) -> None:
    with abstract:
        manager = manager_of(NOTIFY_SOCKET=name_of(abstract))
        manager.serving("here")
        manager.close()
        assert abstract.recv(100) == b"READY=1\nSTATUS=here"


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(variables: dict[str, str], watchdog_s: float | None) -> None:
    manager = manager_of(NOTIFY_SOCKET="/run/nobody", **variables)
    manager.close()
    assert manager.watchdog_s == watchdog_s


def test_a_socket_that_is_gone_or_of_another_kind_is_said_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for address in (str(tmp_path / "gone"), "vsock:2:1234"):
        manager = manager_of(NOTIFY_SOCKET=address)
        manager.serving("here")
        manager.close()
    told = [record.getMessage() for record in caplog.records]
    assert told == ["systemd-not-told", "systemd-not-told"]
    assert "vsock:2:1234" in str(caplog.records[1].__dict__["fields"])


def test_a_full_socket_loses_a_message_and_never_waits(abstract: socket.socket) -> None:
    with abstract:
        manager = manager_of(NOTIFY_SOCKET=name_of(abstract))
        for _ in range(2000):
            manager.stopping()
        manager.close()
        assert abstract.recv(100).startswith(b"STOPPING=1")
