"""A meter is looked at in its own thread; one that fails is unknown, said once, and taken up again."""

from __future__ import annotations

import logging
import threading

import pytest

from twinsplit.clock import ManualClock
from twinsplit.energy import MeterReading, Sampler
from twinsplit.ticker import Ticker


class Meter:
    source = "shelf"
    interval_s = 0.25

    def __init__(self) -> None:
        self.says: MeterReading | Exception | None = MeterReading(watts=5.0)
        self.is_closed = False

    def read(self) -> MeterReading | None:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def close(self) -> None:
        self.is_closed = True


def test_a_failing_meter_is_unknown_is_said_once_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    meter, clock, taken = Meter(), ManualClock(10.0), []
    sampler = Sampler(meter, lambda at_s, reading: taken.append((at_s, reading)), clock)
    caplog.set_level(logging.INFO, logger="twinsplit.energy")
    for says in (MeterReading(watts=5.0), OSError("unplugged"), None, ValueError("noise"), MeterReading(watts=6.0)):
        meter.says = says
        sampler.look()
        clock.advance(1.0)
    assert taken == [
        (10.0, MeterReading(watts=5.0)),
        (11.0, None),
        (12.0, None),
        (13.0, None),
        (14.0, MeterReading(watts=6.0)),
    ]
    assert [record.getMessage() for record in caplog.records] == ["energy-meter-lost", "energy-meter-back"]
    assert caplog.records[0].fields == {"source": "shelf", "cause": "OSError: unplugged"}


def test_the_number_of_a_slow_meter_belongs_to_the_middle_of_the_look() -> None:
    meter, clock, taken = Meter(), ManualClock(10.0), []

    def read() -> MeterReading:
        clock.advance(0.4)
        return MeterReading(watts=5.0)

    meter.read = read
    Sampler(meter, lambda at_s, reading: taken.append(at_s), clock).look()
    assert taken == [pytest.approx(10.2)]


def test_it_looks_by_itself_until_closed_and_then_lets_the_meter_go() -> None:
    meter, looked = Meter(), threading.Semaphore(0)
    sampler = Sampler(meter, lambda at_s, reading: looked.release(), ManualClock(), interval_s=0.001)
    assert (Sampler(meter, print, ManualClock()).interval_s, sampler.interval_s) == (0.25, 0.001)
    sampler.start()
    for _ in range(3):
        assert looked.acquire(timeout=20.0)
    sampler.close()
    assert meter.is_closed


def test_a_ticker_that_is_closed_does_nothing_more() -> None:
    began, calls = threading.Event(), []

    def work() -> None:
        calls.append(None)
        began.set()

    ticker = Ticker("test", 3600.0, work)
    ticker.close()
    ticker = Ticker("test", 3600.0, work)
    ticker.start()
    assert began.wait(20.0)
    ticker.close()
    assert len(calls) == 1
