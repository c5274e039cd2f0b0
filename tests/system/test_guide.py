"""The guide from zero does what it says, typed as it stands."""

import os
import sys
from pathlib import Path

import pytest

from tests.system.transcripts import Shell, differences, steps_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs("curl")
@pytest.mark.timeout(300)
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
            code, printed = shell.run(step.command)
            told = differences(step.output, printed)
            if told is not None:
                wrong.append(f"$ {step.command}\n{told}\nexit code {code}")
        assert not wrong, "\n\n".join(wrong)
    finally:
        shell.run("kill $(jobs -p) 2>/dev/null; wait")
        shell.close()
