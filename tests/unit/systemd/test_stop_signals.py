"""A service stops for a terminal that is closed, but not under nohup."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from twinsplit.stop_signals import stop_signals


@pytest.fixture(autouse=True)
def hangup_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_stops_a_service() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert stop_signals() == (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def test_under_nohup_it_does_not() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert stop_signals() == (signal.SIGTERM, signal.SIGINT)
