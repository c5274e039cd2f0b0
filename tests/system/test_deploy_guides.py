"""The guides of docs/deploy, followed command by command on clean Debian machines with systemd."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.boards import Board, Transcript, Workstation, build_image, follow, started_board
from tests.system.guides import GUIDES, blocks_of

pytestmark = [pytest.mark.needs("root", "docker"), pytest.mark.timeout(900)]

PREFIX = f"twinsplit-{os.getpid()}-guide-"
PATIENCE_S = 120.0
WATCHDOG_S = 6
BOARD_SLOWDOWN = 100
"""Of a board, over this machine: a segment takes so many times as long."""
_AFTERWARDS = ("Upgrade", "Remove")


def until(found: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + patience_s
    while not found():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.2)


def answers_in(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Fleet:
    """Machines that know one another, and the guides that each was set up by."""

    def __init__(self, workstation: Workstation, downloads: Path) -> None:
        self.workstation = workstation
        self.downloads = downloads
        self.edge_box: Board

    def follow(self, guide: str, machine: str, board: Board, *, is_afterwards: bool = False) -> Transcript:
        blocks = [b for b in blocks_of(GUIDES / guide) if (b.heading in _AFTERWARDS) == is_afterwards]
        return follow(blocks, {machine: board, "workstation": self.workstation})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    build_image()
    workstation = Workstation(tmp_path_factory.mktemp("workstation"), PREFIX)
    workstation.prepare()
    follow(blocks_of(GUIDES / "index.md"), {"workstation": workstation})
    fleet = Fleet(workstation, tmp_path_factory.mktemp("pip"))
    with started_board(f"{PREFIX}edge-box", "admin", fleet.downloads, {}) as fleet.edge_box:
        yield fleet


@pytest.fixture(scope="module")
def edge_box_log(fleet: Fleet) -> Transcript:
    return fleet.follow("edge-gpu.md", "edge box", fleet.edge_box)


def device_board(fleet: Fleet, name: str, user: str):
    hosts = {"edge-box.lan": fleet.edge_box.address}
    return started_board(f"{PREFIX}{name}", user, fleet.downloads, hosts)


def slow_down(board: Board) -> None:
    """Emulate the board's speed in its service: here it is as fast as the edge box, and would send nothing there."""
    drop_in = "/run/systemd/system/twinsplit-device.service.d"
    setting = f"Environment=TWINSPLIT_DEVICE_EMULATE_SLOWDOWN={BOARD_SLOWDOWN}"
    board.output(f"sudo mkdir -p {drop_in}; printf '[Service]\\n{setting}\\n' | sudo tee {drop_in}/slow.conf")


def offloads(board: Board) -> bool:
    records = answers_in(board.run("sudo cat /var/lib/twinsplit-device/tasks.jsonl").stdout)
    return any(record["outcome"] == "edge" for record in records)


def test_an_edge_box_serves_twin_and_edge_and_answers(fleet: Fleet, edge_box_log: Transcript) -> None:
    *_, twin, edge, twin_ready, edge_ready, title = edge_box_log.of("Start").splitlines()
    assert (twin, edge, twin_ready, edge_ready) == ("active", "active", "ok", "ok")
    assert "twinsplit" in title
    first = edge_box_log.of("The first answer")
    assert "tails arrived" in first
    assert " 0 answered" not in first
    assert "edge-1" in first


def test_a_raspberry_pi_answers_joins_the_edge_box_and_leaves_nothing_behind(
    fleet: Fleet, edge_box_log: Transcript
) -> None:
    with device_board(fleet, "camera", "pi") as pi:
        slow_down(pi)
        log = fleet.follow("raspberry-pi.md", "Pi", pi)
        assert [record["outcome"] in ("device", "exit") for record in answers_in(log.of("The first answer"))] == [
            True
        ] * 5
        assert "active\nok\n" in log.of("As a service")
        until(lambda: offloads(pi), "no task of the Pi ended at the edge")
        assert "rpicam-vid" in pi.output("cat /etc/systemd/system/twinsplit-device.service")
        # Somebody who is neither root nor the service reads no key.
        assert pi.run("cat /etc/twinsplit/tls/camera-1/key.pem").returncode != 0
        log = fleet.follow("raspberry-pi.md", "Pi", pi, is_afterwards=True)
        assert log.of("Upgrade").splitlines()[-1] == "active"
        left = pi.output(
            "ls -d /opt/twinsplit* /etc/twinsplit* /var/lib/twinsplit* /var/lib/private/twinsplit* || true"
        )
        assert left == ""


def test_a_service_whose_event_loop_hangs_is_killed_and_started_again(fleet: Fleet, edge_box_log: Transcript) -> None:
    edge_box = fleet.edge_box

    def value(name: str) -> str:
        return edge_box.output(f"systemctl show --value --property {name} twinsplit-edge").strip()

    drop_in = "/run/systemd/system/twinsplit-edge.service.d"
    edge_box.output(
        f"sudo mkdir -p {drop_in}; printf '[Service]\nWatchdogSec={WATCHDOG_S}s\n' | sudo tee {drop_in}/short.conf;"
        "sudo systemctl daemon-reload; sudo systemctl restart twinsplit-edge"
    )
    first = value("MainPID")
    time.sleep(WATCHDOG_S + 2.0)
    assert (value("MainPID"), value("NRestarts")) == (first, "0"), "killed while it was alive"
    edge_box.output(f"sudo kill -STOP {first}")
    until(lambda: value("NRestarts") == "1" and value("ActiveState") == "active", "not started again")
    assert value("MainPID") != first
    edge_box.output(f"sudo rm -r {drop_in}; sudo systemctl daemon-reload")


def test_wrong_settings_are_not_tried_again(fleet: Fleet, edge_box_log: Transcript) -> None:
    fleet.edge_box.output(
        "sudo cp /etc/twinsplit/edge.toml /tmp/edge.toml; echo 'nonsense = 1' | sudo tee -a /etc/twinsplit/edge.toml"
    )
    assert fleet.edge_box.run("sudo systemctl restart twinsplit-edge").returncode != 0
    state = fleet.edge_box.output("systemctl show --property ActiveState,NRestarts,ExecMainStatus twinsplit-edge")
    assert set(state.split()) == {"ActiveState=failed", "NRestarts=0", "ExecMainStatus=2"}
    assert "nonsense" in fleet.edge_box.output("sudo journalctl -u twinsplit-edge -n 5 --no-pager")
    fleet.edge_box.output("sudo mv /tmp/edge.toml /etc/twinsplit/edge.toml; sudo systemctl restart twinsplit-edge")


def test_a_jetson_answers_and_joins_the_edge_box(fleet: Fleet, edge_box_log: Transcript) -> None:
    with device_board(fleet, "jetson", "nvidia") as jetson:
        slow_down(jetson)
        log = fleet.follow("jetson.md", "Jetson", jetson)
        assert [record["outcome"] in ("device", "exit") for record in answers_in(log.of("The first answer"))] == [
            True
        ] * 5
        assert "nvarguscamerasrc" in log.of("As a service")
        until(lambda: offloads(jetson), "no task of the Jetson ended at the edge")
        fleet.follow("jetson.md", "Jetson", jetson, is_afterwards=True)


def test_an_edge_box_is_upgraded_and_removed(fleet: Fleet, edge_box_log: Transcript) -> None:
    log = fleet.follow("edge-gpu.md", "edge box", fleet.edge_box, is_afterwards=True)
    assert log.of("Upgrade").splitlines()[-2:] == ["active", "active"]
    assert (
        subprocess.run(["docker", "top", fleet.edge_box.container], capture_output=True, text=True).stdout.count(
            "/opt/twinsplit"
        )
        == 0
    )
    assert fleet.edge_box.output("ls -d /opt/twinsplit* /etc/twinsplit* /var/lib/*/twinsplit* || true") == ""
