"""The README's three services by hand, typed as they stand there, each into a terminal of its own."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.transcripts import Shell

pytestmark = [pytest.mark.needs("curl"), pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE_S = 120.0


def blocks(heading: str) -> list[list[str]]:
    """Commands of each indented block of a section; a line that ends with a backslash goes on in the next one."""
    found = re.search(rf"^## {heading}\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    assert found, heading
    text = found[1]
    parts = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [[line.strip() for line in part.replace("\\\n", " ").splitlines()] for part in parts]


class Terminals:
    """Shells in one folder, all with the environment that the README enters first."""

    def __init__(self, folder: Path, enter: str) -> None:
        self._folder = folder
        self._enter = enter
        self._shells: list[Shell] = []

    def open(self) -> Shell:
        shell = Shell(self._folder, {name: value for name, value in os.environ.items() if "TWINSPLIT" not in name})
        self._shells.append(shell)
        assert shell.run(self._enter) == (0, [])
        return shell

    def leave_running(self, command: str, name: str) -> None:
        (self._folder / f"{name}.log").touch()
        self.open().run(f"{command} >> {name}.log 2>&1 &")

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def close(self) -> None:
        for shell in reversed(self._shells):
            shell.run("kill $(jobs -p) 2>/dev/null; wait")
            shell.close()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "models").symlink_to(ROOT / "models")
    opened = Terminals(tmp_path, ". .venv/bin/activate")
    yield opened
    opened.close()


def until(found: Callable[..., bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.5)


def test_three_services_by_hand_and_a_look_at_them(terminals: Terminals, tmp_path: Path) -> None:
    enter, twin, edge, device, looks = blocks("By hand, in three terminals")
    assert enter == [". .venv/bin/activate"]
    for name, block in (("twin", twin), ("edge", edge), ("device", device)):
        (command,) = block
        terminals.leave_running(command, name)
        until(lambda name=name: "address" in terminals.log(name), f"{name} does not start")
    fourth = terminals.open()
    tasks = tmp_path / "build/tasks.jsonl"

    until(lambda: tasks.exists() and '"outcome":"edge"' in tasks.read_text(), "no task ends at the edge")
    load, *others = looks
    assert load.startswith("twinsplit edge load ")
    terminals.leave_running(load, "load")
    until(lambda: terminals.log("load") != "", "the load says nothing")

    expected = {
        "twinsplit device status": "device camera-1: model alexnet-fashion 1",
        "twinsplit twin show": "device camera-1: attached",
        "twinsplit top": "1/1 devices",
        "tail": '"task_id":',
        "curl": "twinsplit_backlog_seconds ",
    }
    for command in others:
        code, printed = fourth.run(command)
        (told,) = (text for begins, text in expected.items() if command.startswith(begins))
        assert code == 0, f"{command}\n{printed}\n{terminals.log('device')}"
        assert told in "\n".join(printed), f"{command}\n{printed}"
    assert len(others) == len(expected)

    weights, tune, *_, export = blocks("What decides")[0]
    assert "open-loop" in "\n".join(fourth.run(weights)[1])
    until(lambda: tasks.read_text().count("\n") > 110, "tuning takes 100 recorded tasks")
    until(lambda: "present weights" in "\n".join(fourth.run(tune)[1]), "no tasks are recorded")  # found, or the nearest
    assert fourth.run(export)[0] == 0
    assert any((tmp_path / "build/recorded").iterdir())

    page = re.search(r"<(http://127\.0\.0\.1:\d+)>", README)
    assert page
    with urllib.request.urlopen(page[1], timeout=10) as answer:
        assert b"<title>twinsplit console</title>" in answer.read()
    with urllib.request.urlopen(f"{page[1]}/api/snapshot", timeout=10) as answer:
        assert any(task["thumbnail"] for task in json.load(answer)["tasks"])
