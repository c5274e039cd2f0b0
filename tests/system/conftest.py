"""System tests say what they need with ``@pytest.mark.needs("root", ...)``, and never run half: a machine that lacks
something is told the apt line and the run fails, unless ALLOW_MISSING=1 leaves those tests out. What is optional, such
as a Docker engine, is left out where it is missing, and the report says so.

Most of them wait for clocks and containers, so two run beside each other (make test-system): one that draws the ports
of whatever it starts, and one of the others, which use those that our pages name.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.lanes import TwoLanes
from tests.system.needs import NEEDS, cures, missing_needs

_HERE = Path(__file__).parent
_AT_PORTS_OF_THEIR_OWN = (
    "test_arm64_images.py",
    "test_compose.py",
    "test_deploy_guides.py",
    "test_partition.py",
    "test_prometheus.py",
    "test_role_installs.py",
)


def _needs_of(item: pytest.Item) -> set[str]:
    return {name for marker in item.iter_markers("needs") for name in marker.args}


def pytest_itemcollected(item: pytest.Item) -> None:
    if _HERE not in item.path.parents:
        return
    item.add_marker(pytest.mark.system)
    if not _needs_of(item):
        raise pytest.UsageError(f"{item.nodeid}: a system test names what it needs with @pytest.mark.needs(...)")
    if unknown := _needs_of(item) - NEEDS.keys():
        raise pytest.UsageError(f"{item.nodeid}: unknown needs {sorted(unknown)}; known are {sorted(NEEDS)}")


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    chosen = [item for item in items if _HERE in item.path.parents]
    missing = missing_needs(name for item in chosen for name in _needs_of(item))
    optional = [name for name in missing if NEEDS[name].is_optional]
    for item in chosen:
        if lacking := sorted(_needs_of(item).intersection(optional)):
            cure = "; ".join(cures(lacking))
            item.add_marker(pytest.mark.skip(reason=f"left out: this machine lacks {', '.join(lacking)} ({cure})"))
    missing = [name for name in missing if name not in optional]
    if not missing:
        return
    told = "\n    ".join([f"this machine lacks {', '.join(missing)}:", *cures(missing)])
    if os.environ.get("ALLOW_MISSING") != "1":
        raise pytest.UsageError(f"{told}\nor leave out what cannot run: make test-system ALLOW_MISSING=1")
    for item in chosen:
        if lacking := sorted(_needs_of(item).intersection(missing)):
            item.add_marker(pytest.mark.skip(reason=f"left out by ALLOW_MISSING=1: lacks {', '.join(lacking)}"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLanes:
    return TwoLanes(config, log, apart=_AT_PORTS_OF_THEIR_OWN)
