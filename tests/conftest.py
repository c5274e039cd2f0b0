"""Rules for all tests: what pip can provide for never skips, so a skip or an expected failure is a failure."""

from collections.abc import Generator
from pathlib import Path

import pytest

_MAY_SKIP = Path(__file__).parent / "system"


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
