"""Rules for all tests: what pip can provide for never skips, so a skip or an expected failure is a failure."""

import gc
import logging
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_MAY_SKIP = Path(__file__).parent / "system"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay to the end: to look among them for garbage time and again takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that a test runs in this process configures logging for all of it."""
    root, ours = logging.getLogger(), logging.getLogger("twinsplit")
    handlers, levels, hooks = root.handlers, (root.level, ours.level), (sys.excepthook, threading.excepthook)
    yield
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, path: Path) -> None:
    if report.skipped and _MAY_SKIP not in path.parents:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"no test skips outside tests/system, and none is expected to fail: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report, item.path)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector.path)
    return report
