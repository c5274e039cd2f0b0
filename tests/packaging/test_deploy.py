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
