"""Torch is large: nobody loads it who does not learn, and nobody needs it who only serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SERVING_LOADS_NO_TORCH = """
import sys
import twin_service.cli, twin_service.learning.lesson, twin_service.learning.thread, twin_service.service
assert "torch" not in sys.modules, "torch"
"""

LEARNING_NAMES_WHAT_IS_MISSING = """
import sys
sys.modules["torch"] = None
from tests.unit.learning.made_up_tasks import MANIFEST, made_up_tasks
from twin_service.learning.lesson import learn
from twinsplit.errors import TrainingError
try:
    learn(made_up_tasks(400), MANIFEST)
except TrainingError as error:
    assert "twinsplit[learn]" in str(error), error
else:
    raise AssertionError("it learnt")
"""


@pytest.mark.parametrize("script", [SERVING_LOADS_NO_TORCH, LEARNING_NAMES_WHAT_IS_MISSING])
def test_torch_is_loaded_by_learning_alone_and_named_where_it_is_missing(script, request) -> None:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
