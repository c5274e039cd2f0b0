"""The wheel that the tests look at and install."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def built_wheel(folder: Path) -> Path:
    """What `make wheel` builds, by the pinned hatchling, in ``folder``."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("twinsplit-*.whl")
    return wheel
