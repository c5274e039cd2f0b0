"""Running means of times and rates."""

from __future__ import annotations

import pytest

from device.tracking import Tracker, tracked


def tracker_of() -> Tracker:
    return Tracker([0.02, 0.03], [0.004], {(1, 0): 0.001})


def test_a_mean_moves_slowly_and_one_hiccup_hardly():
    assert tracked(1.0, 1.5) == pytest.approx(1.0 + 0.5 / 16)
    assert tracked(1.0, 1000.0) == tracked(1.0, 2.0)
    assert tracked(1.0, 0.0) == tracked(1.0, 0.5)


def test_a_lasting_change_is_followed():
    mean = 1.0
    for _ in range(200):
        mean = tracked(mean, 10.0)
    assert mean == pytest.approx(10.0, rel=0.01)


def test_the_first_sample_is_taken_as_it_is():
    assert tracked(0.0, 0.7) == 0.7


def test_segments_exits_and_encoders_are_tracked_apart():
    tracker = tracker_of()
    tracker.segment_done(1, 0.06)
    tracker.exit_done(0, 0.004)
    tracker.encode_done(2, 1, 0.005)
    assert tracker.segment_s == pytest.approx([0.02, 0.03 + 0.03 / 16])
    assert tracker.exit_s == [0.004]
    assert tracker.encode_s == {(1, 0): 0.001, (2, 1): 0.005}


def test_goodput_is_what_one_payload_took_on_the_way():
    tracker = tracker_of()
    tracker.round_trip_measured(0.010)
    # 10 ms of round trip, 40 ms at the edge, and so 100 ms of sending.
    transmitted_s = tracker.upload_done(sent_at_s=1.0, answered_at_s=1.15, edge_s=0.04, wire_bytes=5000)
    assert transmitted_s == pytest.approx(0.1)
    assert tracker.goodput_bytes_per_s == pytest.approx(50_000)
    assert tracker.expected_transmission_s(10_000) == pytest.approx(0.2)


def test_a_payload_that_waited_for_another_is_not_taken_for_a_slow_one():
    tracker = tracker_of()
    tracker.upload_done(1.0, 1.1, 0.0, 5000)
    # Sent at the same instant, so it left when the first was through.
    assert tracker.upload_done(1.0, 1.2, 0.0, 5000) == pytest.approx(0.1)
    assert tracker.goodput_bytes_per_s == pytest.approx(50_000)


def test_tiny_payloads_say_nothing_about_the_rate():
    tracker = tracker_of()
    tracker.upload_done(1.0, 1.1, 0.0, 20)
    assert tracker.goodput_bytes_per_s is None
    assert tracker.expected_transmission_s(1000) is None


def test_a_link_that_turns_slow_is_noticed_within_a_few_payloads():
    tracker = tracker_of()
    now_s = 0.0
    for seconds in [0.01] * 5 + [0.1] * 12:
        now_s += 1.0
        tracker.upload_done(now_s, now_s + seconds, 0.0, 5000)
    assert tracker.goodput_bytes_per_s == pytest.approx(50_000, rel=0.5)


def test_the_round_trip_is_the_shortest_seen_and_creeps_up():
    tracker = tracker_of()
    for seconds in (0.020, 0.010, 0.074):
        tracker.round_trip_measured(seconds)
    assert tracker.round_trip_s == pytest.approx(0.011)
