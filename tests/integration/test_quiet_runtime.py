"""ONNX Runtime tells its maker nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_RUN = """
import sys
from pathlib import Path
from twinsplit.model.runtime import SegmentRuntime
SegmentRuntime.load(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_model_is_run_without_a_trace_of_telemetry(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    # Where it may write it leaves the machine's id, and where it may not it complains.
    for home in (tmp_path, Path("/proc/nowhere")):
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(_ROOT / "models/alexnet-fashion/1")],
            env=environment | {"HOME": str(home), "XDG_CACHE_HOME": ""},
            cwd=_ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.rglob("*")) == []
