from __future__ import annotations

import pytest

from edge.backlog_reporting import BacklogReporter, Due, ReportPolicy
from twinsplit.reckoning import BacklogState, predicted_backlog_s

HEARTBEAT_S = 5.0
DRAIN_ONLY_S = 0.01


def make_reporter(*, threshold_s: float = 0.05, patience_s: float = 0.0, backlog_s: float = 0.0) -> BacklogReporter:
    state = BacklogState(backlog_s=backlog_s, at_s=0.0, time_constant_s=DRAIN_ONLY_S)
    return BacklogReporter(ReportPolicy(threshold_s, patience_s), HEARTBEAT_S, state)


def test_nothing_is_due_while_truth_is_what_the_twin_reckons() -> None:
    reporter = make_reporter(backlog_s=1.0)
    for step in range(10):
        now_s = step * 0.1
        assert reporter.look(1.0 - now_s, now_s) is Due.NOTHING


def test_the_twin_is_believed_to_run_the_shared_predictor() -> None:
    state = BacklogState(backlog_s=0.5, at_s=0.0, mean_s=0.2, time_constant_s=2.0)
    reporter = BacklogReporter(ReportPolicy(), HEARTBEAT_S, state)
    assert reporter.believed_s(0.7) == predicted_backlog_s(state, 0.7)


def test_without_patience_a_deviation_above_the_threshold_is_due_at_once() -> None:
    reporter = make_reporter(threshold_s=0.05)
    assert reporter.look(0.05, 0.1) is Due.NOTHING
    assert reporter.look(0.0501, 0.1) is Due.REPORT


def test_with_patience_a_deviation_must_last_and_a_larger_one_shorter() -> None:
    small, large = make_reporter(patience_s=1.0), make_reporter(patience_s=1.0)
    for reporter, deviation_s in ((small, 0.1), (large, 1.0)):
        assert reporter.look(deviation_s, 0.0) is Due.NOTHING
    assert large.look(1.0, 0.04) is Due.NOTHING
    assert large.look(1.0, 0.06) is Due.REPORT
    assert small.look(0.1, 0.4) is Due.NOTHING
    assert small.look(0.1, 0.51) is Due.REPORT


def test_a_jump_is_not_charged_for_the_time_before_it() -> None:
    reporter = make_reporter(patience_s=1.0)
    assert reporter.look(0.0, 0.0) is Due.NOTHING
    assert reporter.look(0.2, 3.0) is Due.NOTHING


def test_after_a_report_the_twin_reckons_from_it() -> None:
    reporter = make_reporter()
    assert reporter.look(1.0, 0.1) is Due.REPORT
    reporter.sent(BacklogState(backlog_s=1.0, at_s=0.1, time_constant_s=DRAIN_ONLY_S), 0.1)
    assert reporter.look(1.0, 0.1) is Due.NOTHING
    assert reporter.believed_s(0.6) == pytest.approx(0.5)


def test_a_heartbeat_is_due_when_nothing_was_sent_for_its_period() -> None:
    reporter = make_reporter()
    assert reporter.look(0.0, HEARTBEAT_S - 0.01) is Due.NOTHING
    assert reporter.look(0.0, HEARTBEAT_S) is Due.HEARTBEAT
    reporter.sent(BacklogState(backlog_s=0.0, at_s=HEARTBEAT_S), HEARTBEAT_S)
    assert reporter.look(0.0, HEARTBEAT_S + 0.1) is Due.NOTHING


def test_a_report_postpones_the_heartbeat() -> None:
    reporter = make_reporter()
    reporter.sent(BacklogState(backlog_s=0.0, at_s=3.0), 3.0)
    assert reporter.look(0.0, HEARTBEAT_S) is Due.NOTHING
    assert reporter.next_look_at_s(3.0) <= 3.0 + HEARTBEAT_S


def test_the_next_look_is_never_later_than_the_heartbeat() -> None:
    assert make_reporter(threshold_s=1e6).next_look_at_s(0.0) == HEARTBEAT_S


def test_the_next_look_comes_when_a_standing_deviation_has_used_up_its_patience() -> None:
    reporter = make_reporter(threshold_s=0.05, patience_s=1.0)
    reporter.look(0.1, 0.0)
    assert reporter.next_look_at_s(0.0) == pytest.approx(0.5)
    assert reporter.look(0.1, 0.5) is Due.REPORT


def test_a_belief_that_rises_to_the_mean_is_looked_at_in_time() -> None:
    state = BacklogState(backlog_s=0.0, at_s=0.0, mean_s=1.0, time_constant_s=0.5)
    reporter = BacklogReporter(ReportPolicy(0.05, 0.0), HEARTBEAT_S, state)
    now_s = 0.0
    while reporter.look(0.0, now_s) is Due.NOTHING:
        now_s = reporter.next_look_at_s(now_s)
    assert reporter.believed_s(now_s) < 0.1


def test_the_twin_may_change_the_heartbeat() -> None:
    reporter = make_reporter()
    reporter.heartbeat_s = 1.0
    assert reporter.look(0.0, 1.0) is Due.HEARTBEAT
    with pytest.raises(ValueError, match="heartbeat"):
        reporter.heartbeat_s = 0.0


@pytest.mark.parametrize("values", [(-0.1, 1.0), (0.1, -1.0)])
def test_negative_thresholds_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="negative"):
        ReportPolicy(*values)


def test_with_no_threshold_an_exact_belief_is_looked_at_again_soon() -> None:
    reporter = make_reporter(threshold_s=0.0)
    assert reporter.look(0.0, 0.1) is Due.NOTHING
    assert 0.1 < reporter.next_look_at_s(0.1) < 0.2


def test_above_the_ceiling_a_deviation_counts_little() -> None:
    reporter = make_reporter(threshold_s=0.05, backlog_s=1.0)
    reporter.ceiling_s = 0.4
    assert reporter.look(1.3, 0.0) is Due.NOTHING
    assert reporter.look(1.5, 0.0) is Due.REPORT


def test_across_the_ceiling_only_the_way_below_it_counts_in_full() -> None:
    for truth_s, expected in ((0.37, Due.NOTHING), (0.34, Due.REPORT)):
        reporter = make_reporter(threshold_s=0.05, backlog_s=0.48)
        reporter.ceiling_s = 0.4
        assert reporter.look(truth_s, 0.0) is expected
