"""Histograms count what they are told."""

import math

import pytest

from twinsplit.telemetry.histogram import Histogram


def test_a_value_counts_in_its_bucket_and_all_above() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 99.0):
        histogram.observe(value)
    assert histogram.cumulative() == ([("1.0", 2), ("2.0", 3), ("+Inf", 4)], 102.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_left_out(value: float) -> None:
    histogram = Histogram((1.0,))
    histogram.observe(value)
    assert histogram.cumulative() == ([("1.0", 0), ("+Inf", 0)], 0.0)


def test_buckets_come_from_the_catalogue() -> None:
    rows, _ = Histogram.of("twinsplit_task_latency_seconds").cumulative()
    assert rows[0][0] == "0.001"


def test_only_a_histogram_of_the_catalogue_has_buckets() -> None:
    with pytest.raises(ValueError, match="is a gauge"):
        Histogram.of("twinsplit_queue_length")
    with pytest.raises(KeyError):
        Histogram.of("twinsplit_no_such_thing")
