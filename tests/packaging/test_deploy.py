"""What lies in deploy/ and docs/deploy is what it says it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.guides import GUIDES, Block, blocks_of

_GUIDES = sorted(GUIDES.glob("*.md"))
_ELSEWHERE = ("nvidia-smi", "vcgencmd", "rpicam-hello", "tegrastats", "kubectl")
"""Commands that no test machine has."""


@pytest.mark.slow
def test_the_units_in_deploy_are_what_install_service_makes(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "deploy/systemd/units.py", "--check"], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), f"{done.stderr}run: python deploy/systemd/units.py"


@pytest.mark.parametrize("guide", _GUIDES, ids=lambda path: path.stem)
def test_every_block_of_a_guide_is_for_a_machine_and_marks_what_cannot_be_tested(guide: Path) -> None:
    blocks: list[Block] = blocks_of(guide)
    assert blocks
    for block in blocks:
        assert not [name for name in _ELSEWHERE if name in block.script.split()], block.heading
        assert all(reason.strip() for _, reason in block.untested), block.heading


@pytest.mark.parametrize("name", ["edge-gpu", "jetson", "kubernetes", "raspberry-pi"])
def test_a_guide_says_first_what_was_never_run(name: str) -> None:
    text = (GUIDES / f"{name}.md").read_text(encoding="utf-8")
    assert "**Not run on" in text.partition("\n## ")[0]
    assert f"({name}.md)" in (GUIDES / "index.md").read_text(encoding="utf-8")


def test_what_the_edge_box_installs_without_a_gpu_has_a_block_of_its_own_with_one() -> None:
    found: dict[str, set[tuple[str, str]]] = {"edge-cpu": set(), "edge-gpu": set()}
    for block in blocks_of(GUIDES / "edge-gpu.md"):
        commands = [*block.script.splitlines(), *(command for command, _ in block.untested)]
        for extra, installs in found.items():
            of_extra = [command for command in commands if extra in command]
            assert of_extra in ([], commands), f"{block.heading}: who pastes this block may have no {extra}"
            installs.update((block.heading, command.replace(extra, "EXTRA")) for command in of_extra)
    assert found["edge-cpu"] == found["edge-gpu"]
    assert {heading for heading, _ in found["edge-cpu"]} == {"Install", "Upgrade"}


@pytest.mark.parametrize("name", ["edge-gpu", "jetson", "raspberry-pi"])
def test_an_upgrade_writes_again_every_unit_that_was_installed(name: str) -> None:
    blocks = blocks_of(GUIDES / f"{name}.md")
    commands = [(block.heading, command) for block in blocks for command in block.script.splitlines()]
    written = {command for heading, command in commands if command.endswith("install-service --write")}
    again = {command for heading, command in commands if heading == "Upgrade" and "install-service" in command}
    assert written
    assert again == {f"{command} --force" for command in written}
