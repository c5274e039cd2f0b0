"""The minutes of random faults pass beside the single ones (make test-faults)."""

from typing import Any

import pytest

from tests.lanes import TwoLanes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLanes:
    return TwoLanes(config, log, apart=("test_soak.py",))
