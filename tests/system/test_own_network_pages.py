"""What README and how-to say about a network of one's own, typed as it stands there; the network is a small one."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.onnx_networks import SMALL_TEXT, parsed, saved, small_classifier
from tests.system.transcripts import Shell

pytestmark = [pytest.mark.needs("curl"), pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/own-model.md").read_text(encoding="utf-8")
PICTURES = 180
"""The least that exits can be taught with."""
PATIENCE_S = 60.0


def part(text: str, heading: str) -> str:
    """A section of the second level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def fenced(text: str, language: str = "") -> list[str]:
    """Blocks between fences."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """In a folder with the network, frames without labels and names of its classes."""
    weights = {each.name: each for each in small_classifier().graph.initializer}
    network = parsed(SMALL_TEXT.replace("float[1,3,16,16]", "float[1,3,224,224]"))
    network.graph.initializer.extend(weights.values())
    saved(network, tmp_path / "resnet50.onnx")
    (tmp_path / "frames").mkdir()
    for picture in sorted((ROOT / "models/alexnet-fashion/1/frames").glob("*.jpg"))[:PICTURES]:
        shutil.copy(picture, tmp_path / "frames")
    (tmp_path / "pictures").symlink_to("frames")
    (tmp_path / "classes.txt").write_text("".join(f"class {number}\n" for number in range(5)))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    opened = Shell(tmp_path, {n: v for n, v in os.environ.items() if "TWINSPLIT" not in n} | {"PATH": path})
    yield opened
    opened.run("kill $(jobs -p) 2>/dev/null; wait")
    opened.close()


def typed(shell: Shell, block: str) -> str:
    """Output of a block's commands, each of which must succeed."""
    output = ""
    for command in block.replace("\\\n", " ").splitlines():
        code, printed = shell.run(command.strip())
        assert code == 0, f"{command}\n" + "\n".join(printed)
        output += "\n".join([*printed, ""])
    return output


def test_the_readmes_own_network(shell: Shell, tmp_path: Path) -> None:
    section = part((ROOT / "README.md").read_text(encoding="utf-8"), "With your own network")
    commands = re.findall(r"^    (twinsplit model .*)$", section, re.MULTILINE)
    assert len(commands) == 5
    said = typed(shell, "\n".join(commands))
    assert "next: twinsplit " in said
    assert (tmp_path / "models/resnet50/2/manifest.json").exists()


def test_the_page_of_own_models(shell: Shell, tmp_path: Path) -> None:
    for heading in ("1. Look", "2. Split", "3. Give it exits", "4. Check and profile"):
        typed(shell, fenced(part(PAGE, heading))[0])
    assert (tmp_path / "cuts.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models/resnet50/2/manifest.json").exists()

    (services,) = fenced(part(PAGE, "5. Run"))
    for command in services.replace("\\\n", " ").splitlines():
        shell.run(f"{command} > services.log 2>&1 &")
    until_s = time.monotonic() + PATIENCE_S
    asked = "curl -s http://127.0.0.1:7201/metrics | grep '^twinsplit_tasks_total.* [1-9]'"
    while shell.run(asked)[0] != 0:
        assert time.monotonic() < until_s, "no task has ended"
        time.sleep(0.5)


def test_the_same_from_python(shell: Shell, tmp_path: Path) -> None:
    build, exits = fenced(part(PAGE, "From Python"), "python")
    for name, program in (("build", build), ("exits", exits)):
        (tmp_path / f"{name}.py").write_text(program)
        typed(shell, f"python {name}.py")
    assert (tmp_path / "models/resnet50/2/manifest.json").exists()
