"""Emulated slow devices and uplinks."""

from __future__ import annotations

import pytest

from device.emulation import (
    EmulatedUplink,
    Outage,
    RateChange,
    Slowdown,
    UplinkSettings,
    parse_outages,
    parse_rate_changes,
)
from twinsplit.clock import ManualClock
from twinsplit.errors import SettingsError


def slowdown_of(clock: ManualClock, factor: float = 10.0) -> Slowdown:
    return Slowdown(factor, {("segment", 0): 0.02}, clock.monotonic_s, clock.advance)


def test_a_step_takes_its_measured_time_so_many_times():
    clock = ManualClock()
    clock.advance(0.021)  # as long as the step took by itself
    slowdown_of(clock).stretch(("segment", 0), 0.0)
    assert clock.monotonic_s() == pytest.approx(0.2)


def test_noise_of_the_host_is_not_multiplied():
    clock = ManualClock()
    clock.advance(0.15)  # a hiccup
    slowdown_of(clock).stretch(("segment", 0), 0.0)
    assert clock.monotonic_s() == pytest.approx(0.2)


def test_a_step_that_is_slower_by_itself_is_left_alone():
    clock = ManualClock()
    clock.advance(0.3)
    slowdown_of(clock).stretch(("segment", 0), 0.0)
    assert clock.monotonic_s() == pytest.approx(0.3)


def test_payloads_leave_one_after_the_other_at_the_rate_and_arrive_after_the_delay():
    uplink = EmulatedUplink(UplinkSettings(bytes_per_s=1000.0, delay_s=0.05), 0.0)
    first_s = uplink.departure_s(100, 0.0)
    second_s = uplink.departure_s(200, 0.0)
    assert (first_s, second_s) == pytest.approx((0.1, 0.3))
    assert uplink.arrival_s(first_s) == pytest.approx(0.15)
    assert uplink.arrival_s(second_s) == pytest.approx(0.35)
    assert uplink.departure_s(100, 5.0) == pytest.approx(5.1), "an idle link does not save its time up"


def test_jitter_keeps_the_order_and_follows_the_seed():
    def arrivals(seed: int) -> list[float]:
        uplink = EmulatedUplink(UplinkSettings(jitter_s=0.1), 0.0, seed)
        return [uplink.arrival_s(0.01 * n) for n in range(50)]

    assert arrivals(1) == sorted(arrivals(1))
    assert arrivals(1) == arrivals(1) != arrivals(2)


def test_answers_come_back_without_jitter():
    """As in the simulator: a scenario's jitter is that of its uplink."""
    uplink = EmulatedUplink(UplinkSettings(delay_s=0.05, jitter_s=0.1), 0.0)
    ways_s = [uplink.way_s() for _ in range(2000)]
    assert min(ways_s) > uplink.way_back_s == 0.05
    assert sum(ways_s) / len(ways_s) == pytest.approx(0.15, abs=0.01)


def test_outages_reign_when_they_should():
    uplink = EmulatedUplink(UplinkSettings(outages=(Outage(2.0, 5.0), Outage(9.0, 10.0))), started_at_s=100.0)
    assert uplink.outage_end_s(101.9) is None
    assert uplink.outage_end_s(102.0) == 105.0
    assert uplink.outage_end_s(105.0) is None
    assert uplink.next_outage_s(100.0) == 102.0
    assert uplink.next_outage_s(103.0) == 109.0
    assert uplink.next_outage_s(111.0) is None


def test_what_was_under_way_is_gone_after_an_outage():
    uplink = EmulatedUplink(UplinkSettings(bytes_per_s=10.0), 0.0)
    uplink.departure_s(1000, 0.0)
    uplink.reset(3.0)
    assert uplink.departure_s(10, 3.0) == pytest.approx(4.0)


def test_outages_are_written_as_start_and_length():
    assert parse_outages(["40+5", "2.5+1"]) == (Outage(2.5, 3.5), Outage(40.0, 45.0))


@pytest.mark.parametrize("text", ["5", "a+b", "5+0", "-1+2", "1+inf", "+"])
def test_other_outages_are_refused(text):
    with pytest.raises(SettingsError, match="is not START\\+LENGTH"):
        parse_outages([text])


def test_overlapping_outages_are_refused():
    with pytest.raises(SettingsError, match="overlap"):
        parse_outages(["1+5", "3+1"])


def test_nothing_emulated_is_told_apart():
    assert not UplinkSettings().is_set
    assert UplinkSettings(delay_s=0.1).is_set


def test_a_payload_that_is_under_way_when_the_rate_changes_goes_on_at_the_new_one():
    changes = (RateChange(1.0, 100.0), RateChange(3.0, 1000.0))
    uplink = EmulatedUplink(UplinkSettings(bytes_per_s=500.0, rate_changes=changes), started_at_s=10.0)
    # 250 bytes in the last half second of the first rate, 200 in two seconds of the second, 50 at the third.
    assert uplink.departure_s(500, 10.5) == pytest.approx(13.05)
    assert uplink.departure_s(100, 10.5) == pytest.approx(13.15), "behind the first, at the rate that holds then"


def test_before_its_first_rate_an_uplink_without_one_is_the_real_one():
    uplink = EmulatedUplink(UplinkSettings(rate_changes=(RateChange(2.0, 100.0),)), started_at_s=0.0)
    assert uplink.departure_s(10_000, 1.0) == 1.0
    assert uplink.departure_s(50, 2.0) == pytest.approx(2.5)


def test_rates_are_read_in_any_order():
    assert parse_rate_changes(["20+1000", "0.5+2e4"]) == (RateChange(0.5, 20_000.0), RateChange(20.0, 1000.0))


@pytest.mark.parametrize("texts", [["20"], ["x+1"], ["-1+5"], ["1+0"], ["1+inf"], ["nan+5"], ["1+5", "1+6"]])
def test_rates_that_make_no_sense_are_refused(texts):
    with pytest.raises(SettingsError, match="--emulate-uplink-rates"):
        parse_rate_changes(texts)
