import math

from twinsplit.transport.clock_offset import ClockOffset, ClockReadings

PEER_AHEAD_S = 500.0


def exchange(offset: ClockOffset, now_s: float, there_s: float, back_s: float) -> float:
    """We send at ``now_s``, the peer answers at once; the instant of its sending as we reckon it."""
    peer_s = now_s + there_s + PEER_AHEAD_S
    return offset.received(ClockReadings(peer_s, now_s, peer_s), now_s + there_s + back_s)


def test_the_way_counts_as_no_time_before_the_first_round_trip() -> None:
    offset = ClockOffset()
    assert offset.received(ClockReadings(7.0), 100.0) == 100.0
    assert offset.offset_s(100.0) is None


def test_a_round_trip_with_equal_ways_gives_the_offset() -> None:
    offset = ClockOffset()
    sent_at_s = exchange(offset, 100.0, 0.01, 0.01)
    assert math.isclose(sent_at_s, 100.01)
    assert math.isclose(offset.offset_s(100.02) or 0.0, PEER_AHEAD_S)


def test_the_quickest_round_trip_counts() -> None:
    offset = ClockOffset()
    exchange(offset, 100.0, 0.01, 0.01)
    exchange(offset, 101.0, 0.01, 0.4)
    assert math.isclose(offset.offset_s(101.5) or 0.0, PEER_AHEAD_S)


def test_an_old_round_trip_gives_way_to_the_drift_of_clocks() -> None:
    offset = ClockOffset()
    exchange(offset, 100.0, 0.0005, 0.0005)
    assert offset.offset_s(101.0) is not None
    assert offset.offset_s(400.0) is None


def test_impossible_readings_are_passed_over() -> None:
    offset = ClockOffset()
    exchange(offset, 100.0, 0.01, 0.01)
    assert offset.received(ClockReadings(math.nan, 100.0, 600.0), 100.5) == 100.5
    offset.received(ClockReadings(601.0, 100.6, math.inf), 100.7)
    offset.received(ClockReadings(599.0, 100.8, 601.0), 100.9)
    assert math.isclose(offset.offset_s(101.0) or 0.0, PEER_AHEAD_S)


def test_nothing_is_ever_sent_after_it_was_received() -> None:
    offset = ClockOffset()
    exchange(offset, 100.0, 0.01, 0.01)
    assert offset.received(ClockReadings(100.9 + PEER_AHEAD_S), 100.5) == 100.5


def test_our_messages_echo_the_newest_reading() -> None:
    offset = ClockOffset()
    assert offset.readings(50.0) == ClockReadings(50.0, 0.0, 0.0)
    offset.received(ClockReadings(7.0), 51.0)
    assert offset.readings(52.0) == ClockReadings(52.0, 7.0, 51.0)
