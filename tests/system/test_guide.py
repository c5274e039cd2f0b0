"""The guide from zero does what it says, typed as it stands."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests.system.transcripts import Shell, Step, differences, steps_of

ROOT = Path(__file__).resolve().parents[2]
LOOKING = ("twinsplit device status", "twinsplit twin list", "twinsplit twin show", "curl")
PATIENCE_S = 60.0
"""A slow machine needs longer than the guide says."""


def followed(shell: Shell, step: Step) -> tuple[int, str | None]:
    """Exit code, and in words what differs. A command that only looks is typed again until the services are so far."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        code, printed = shell.run(step.command)
        told = differences(step.output, printed)
        if told is None or not step.command.startswith(LOOKING) or time.monotonic() > until_s:
            return code, told
        time.sleep(1.0)


@pytest.mark.needs("curl")
@pytest.mark.timeout(900)
def test_the_guide_from_zero(tmp_path: Path) -> None:
    for name, place in {
        ".venv": Path(sys.prefix),
        "models": ROOT / "models",
        "benchmarks": ROOT / "benchmarks",
    }.items():
        (tmp_path / name).symlink_to(place)
    shell = Shell(tmp_path, os.environ)
    try:
        wrong = []
        for step in steps_of((ROOT / "docs/guide.md").read_text(encoding="utf-8")):
            code, told = followed(shell, step)
            if told is not None:
                wrong.append(f"$ {step.command}\n{told}\nexit code {code}")
        assert not wrong, "\n\n".join(wrong)
    finally:
        shell.close()
