import math

import pytest

from tests.unit.twin_service.made_up_twins import DIGEST, edge_hello
from twin_service.edge_twin import EdgeTwin, backlog_needed_s, crossing_s
from twin_service.messages import BacklogReport
from twinsplit.reckoning import BacklogState, predicted_backlog_s


def reading(backlog_s: float, at_s: float = 0.0, mean_s: float = 0.1, time_constant_s: float = 0.5) -> BacklogState:
    return BacklogState(backlog_s, at_s, mean_s, time_constant_s)


def twin(backlog_s: float = 0.0) -> EdgeTwin:
    return EdgeTwin(edge_hello(backlog=BacklogReport(reading(backlog_s))), 0.0)


def test_the_backlog_is_reckoned_from_the_newest_reading() -> None:
    edge = twin(0.4)
    assert edge.backlog_s(0.1) == predicted_backlog_s(reading(0.4), 0.1)
    edge.report(BacklogReport(reading(0.9, at_s=0.2)), 0.2)
    assert edge.backlog_s(0.2) == 0.9


def test_a_reading_that_is_older_than_the_newest_does_not_count() -> None:
    edge = twin()
    edge.report(BacklogReport(reading(0.9, at_s=1.0)), 1.0)
    edge.report(BacklogReport(reading(0.1, at_s=0.5)), 1.1)
    assert edge.reading.backlog_s == 0.9


def test_an_answer_tells_a_device_what_we_believed_at_that_instant() -> None:
    edge = twin(0.4)
    edge.report(BacklogReport(reading(0.9, at_s=1.0)), 1.0)
    heard = edge.reading_at(0.1)
    assert heard.at_s == 0.1
    assert heard.backlog_s == predicted_backlog_s(reading(0.4), 0.1)
    assert edge.reading_at(1.2).backlog_s == edge.backlog_s(1.2)


def test_tails_follow_the_measured_speed_as_it_is_now() -> None:
    edge = twin()
    tail_s = edge.tail_s(DIGEST)
    assert tail_s is not None
    edge.report(BacklogReport(reading(0.0), speed_factor=2.0), 0.0)
    assert edge.tail_s(DIGEST) == edge.tail_s(DIGEST) == pytest.approx((0.06, 0.04, 0.02))
    edge.report(BacklogReport(reading(0.0, at_s=1.0), speed_factor=1.0), 1.0)
    assert edge.tail_s(DIGEST) == tail_s
    assert edge.tail_s("another") is None


def test_an_absurd_speed_is_bounded() -> None:
    edge = twin()
    edge.report(BacklogReport(reading(0.0), speed_factor=0.0), 0.0)
    assert min(edge.tail_s(DIGEST) or ()) > 0.0


def test_the_error_of_the_prediction_is_tracked() -> None:
    edge = twin(0.4)
    expected_s = edge.backlog_s(0.1)
    edge.report(BacklogReport(reading(expected_s + 0.05, at_s=0.1)), 0.1)
    assert edge.backlog_field().error is not None
    views = {view.name: view for view in edge.views(0.2)}
    assert views["backlog_s"].predicted == edge.backlog_s(0.2)
    assert views["backlog_s"].reported == pytest.approx(expected_s + 0.05)


def test_the_pace_of_reports_is_known() -> None:
    edge = twin()
    for k in range(1, 101):
        edge.report(BacklogReport(reading(0.0, at_s=k / 10)), k / 10)
    assert edge.time_to_next_report_s(10.0) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("mean_s", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("later_s", [0.02, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("elapsed_s", [0.0, 0.1, 0.7])
def test_the_backlog_needed_is_the_inverse_of_the_prediction(mean_s: float, later_s: float, elapsed_s: float) -> None:
    needed_s = backlog_needed_s(reading(0.0, mean_s=mean_s), later_s, elapsed_s)
    if needed_s > 0.0:
        assert predicted_backlog_s(reading(needed_s, mean_s=mean_s), elapsed_s) == pytest.approx(later_s)
    else:
        assert predicted_backlog_s(reading(0.0, mean_s=mean_s), elapsed_s) >= later_s - 1e-9


@pytest.mark.parametrize(("start_s", "level_s"), [(0.5, 0.2), (0.02, 0.06), (2.0, 1.5), (0.5, 0.11)])
def test_the_crossing_is_where_the_prediction_comes_to_the_level(start_s: float, level_s: float) -> None:
    at_s = crossing_s(reading(start_s, at_s=3.0), level_s)
    assert predicted_backlog_s(reading(start_s, at_s=3.0), at_s) == pytest.approx(level_s)


@pytest.mark.parametrize(("start_s", "level_s"), [(0.5, 0.05), (0.5, 0.6), (0.02, 0.2), (0.5, 0.5), (0.5, -math.inf)])
def test_a_level_that_the_prediction_never_comes_to_is_never_crossed(start_s: float, level_s: float) -> None:
    assert crossing_s(reading(start_s), level_s) == math.inf
