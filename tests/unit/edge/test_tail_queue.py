from __future__ import annotations

import pytest

from edge.tail_queue import Tail, TailQueue
from twinsplit.errors import DeadlineError, EdgeFullError, StoppingError

MODEL = "a" * 64
OTHER = "b" * 64
TAIL_S = {MODEL: (0.4, 0.2, 0.1), OTHER: (1.0,)}


def make_queue(capacity: int = 4) -> TailQueue[str]:
    return TailQueue(capacity, TAIL_S, now_s=0.0)


def make_tail(
    name: str = "t",
    *,
    cut: int = 0,
    model: str = MODEL,
    at_s: float = 0.0,
    deadline_s: float | None = None,
    owner: str = "o",
) -> Tail[str]:
    return Tail(model=model, cut=cut, owner=owner, work=name, arrived_at_s=at_s, deadline_at_s=deadline_s)


def test_tails_start_in_the_order_of_arrival() -> None:
    queue = make_queue()
    for name in "abc":
        queue.admit(make_tail(name), 0.0)
    started = []
    for _ in range(3):
        turn = queue.start_next(0.0)
        assert turn.tail is not None
        started.append(turn.tail.work)
        queue.finish(0.0, None)
    assert started == ["a", "b", "c"]


def test_an_empty_queue_gives_nothing_to_do() -> None:
    turn = make_queue().start_next(0.0)
    assert turn.tail is None
    assert turn.expired == []


def test_the_backlog_is_the_predicted_work_that_waits_and_what_is_left_in_service() -> None:
    queue = make_queue()
    queue.admit(make_tail(cut=0), 0.0)
    queue.admit(make_tail(cut=1), 0.0)
    assert queue.backlog_s(0.0) == pytest.approx(0.6)
    queue.start_next(0.0)
    assert queue.backlog_s(0.1) == pytest.approx(0.5)


def test_a_tail_that_outruns_its_prediction_leaves_the_waiting_work_in_the_backlog() -> None:
    queue = make_queue()
    queue.admit(make_tail(cut=0), 0.0)
    queue.admit(make_tail(cut=1), 0.0)
    queue.start_next(0.0)
    assert queue.backlog_s(5.0) == pytest.approx(0.2)


def test_each_model_and_cut_has_its_own_predicted_time() -> None:
    queue = make_queue()
    assert queue.predicted_s(MODEL, 2) == pytest.approx(0.1)
    assert queue.predicted_s(OTHER, 0) == pytest.approx(1.0)


def test_a_model_that_was_never_profiled_is_a_programming_error() -> None:
    queue = make_queue()
    with pytest.raises(KeyError):
        queue.admit(make_tail(model="c" * 64), 0.0)
    assert queue.queue_length == 0


def test_a_full_queue_refuses_by_name_and_keeps_what_it_has() -> None:
    queue = make_queue(capacity=1)
    queue.admit(make_tail("a"), 0.0)
    queue.start_next(0.0)
    queue.admit(make_tail("b"), 0.0)
    with pytest.raises(EdgeFullError, match="--queue-capacity"):
        queue.admit(make_tail("c"), 0.0)
    assert queue.queue_length == 2
    assert queue.backlog_s(0.0) == pytest.approx(0.8)


def test_how_much_is_taken_does_not_depend_on_how_soon_the_first_one_starts() -> None:
    at_once, later = make_queue(capacity=2), make_queue(capacity=2)
    at_once.admit(make_tail("a"), 0.0)
    later.admit(make_tail("a"), 0.0)
    at_once.start_next(0.0)
    for queue in (at_once, later):
        queue.admit(make_tail("b"), 0.0)
        queue.admit(make_tail("c"), 0.0)
        with pytest.raises(EdgeFullError):
            queue.admit(make_tail("d"), 0.0)


def test_a_deadline_that_the_backlog_makes_impossible_is_refused_at_once() -> None:
    queue = make_queue()
    queue.admit(make_tail(cut=0), 0.0)
    with pytest.raises(DeadlineError, match=r"550.0 ms are left but the answer would take 600.0 ms"):
        queue.admit(make_tail(cut=1, deadline_s=0.55), 0.0)
    queue.admit(make_tail(cut=1, deadline_s=0.65), 0.0)
    assert queue.queue_length == 2


def test_a_waiting_tail_whose_deadline_can_no_longer_be_met_leaves_as_expired() -> None:
    queue = make_queue()
    queue.admit(make_tail("late", cut=1, deadline_s=0.3), 0.0)
    queue.admit(make_tail("fine", cut=1), 0.0)
    turn = queue.start_next(0.2)
    assert [tail.work for tail in turn.expired] == ["late"]
    assert turn.tail is not None
    assert turn.tail.work == "fine"


def test_a_cancelled_waiting_tail_leaves_at_once_with_its_work() -> None:
    queue = make_queue()
    first, second = make_tail("a"), make_tail("b", cut=1)
    queue.admit(first, 0.0)
    queue.admit(second, 0.0)
    assert queue.cancel(first, 0.0) is True
    assert queue.backlog_s(0.0) == pytest.approx(0.2)
    turn = queue.start_next(0.0)
    assert turn.tail is second


def test_a_cancelled_tail_in_service_is_unwanted_and_leaves_when_it_is_finished() -> None:
    queue = make_queue()
    tail = make_tail()
    queue.admit(tail, 0.0)
    queue.start_next(0.0)
    assert queue.cancel(tail, 0.1) is False
    assert not tail.is_wanted_at(0.1)
    assert queue.in_service is tail
    assert queue.backlog_s(0.1) == 0.0
    queue.finish(0.2, None)
    assert queue.in_service is None


def test_cancelling_a_tail_that_has_left_changes_nothing() -> None:
    queue = make_queue()
    tail = make_tail()
    queue.admit(tail, 0.0)
    queue.start_next(0.0)
    queue.finish(0.4, 0.4)
    assert queue.cancel(tail, 0.5) is False
    assert queue.queue_length == 0


def test_a_closed_stream_takes_its_own_tails_with_it_and_no_others() -> None:
    queue = make_queue()
    mine, running, other = make_tail("mine", owner="a"), make_tail("running", owner="a"), make_tail("other", owner="b")
    queue.admit(running, 0.0)
    queue.start_next(0.0)
    queue.admit(mine, 0.0)
    queue.admit(other, 0.0)
    assert queue.cancel_owner("a", 0.1) == [mine]
    assert not running.is_wanted
    assert other.is_wanted
    assert queue.queue_length == 2


def test_a_tail_is_unwanted_after_its_deadline() -> None:
    tail = make_tail(deadline_s=1.0)
    assert tail.is_wanted_at(0.9)
    assert not tail.is_wanted_at(1.0)


def test_the_speed_factor_follows_measured_times_and_scales_predictions() -> None:
    queue = make_queue()
    assert queue.speed_factor == pytest.approx(1.0)
    now_s = 0.0
    for _ in range(200):
        queue.admit(make_tail(at_s=now_s), now_s)
        queue.start_next(now_s)
        now_s += 0.8
        queue.finish(now_s, 0.8)
    assert queue.speed_factor == pytest.approx(2.0, rel=0.01)
    assert queue.predicted_s(MODEL, 1) == pytest.approx(0.4, rel=0.01)


def test_an_idle_edge_that_is_much_faster_than_it_believes_is_taken_at_its_word() -> None:
    queue = make_queue()
    queue.checked(1.0, 0.75)
    assert queue.speed_factor == 1.0, "other work on the machine explains as much"
    queue.checked(1.0, 3.0)
    assert queue.speed_factor == 1.0, "that it is slow, tails tell"
    queue.checked(1.0, 0.2)
    assert queue.speed_factor == pytest.approx(0.2)
    assert queue.predicted_s(MODEL, 0) == pytest.approx(0.08)
    queue.admit(make_tail(), 0.0)
    queue.start_next(0.0)
    queue.finish(0.08, 0.08)
    assert queue.speed_factor == pytest.approx(0.2), "and tails go on from there"


def test_one_stall_hardly_moves_the_speed_factor() -> None:
    queue = make_queue()
    queue.admit(make_tail(), 0.0)
    queue.start_next(0.0)
    queue.finish(60.0, 60.0)
    assert queue.speed_factor < 1.2


def test_a_tail_that_was_stopped_teaches_nothing_about_speed() -> None:
    queue = make_queue()
    queue.admit(make_tail(), 0.0)
    queue.start_next(0.0)
    queue.finish(0.01, None)
    assert queue.speed_factor == pytest.approx(1.0)


def test_a_stopping_queue_refuses_new_tails_and_finishes_the_old() -> None:
    queue = make_queue()
    queue.admit(make_tail("a"), 0.0)
    queue.stop_admitting()
    with pytest.raises(StoppingError):
        queue.admit(make_tail("b"), 0.0)
    turn = queue.start_next(0.0)
    assert turn.tail is not None
    assert turn.tail.work == "a"


def test_draining_gives_up_all_that_waits_and_stops_what_runs() -> None:
    queue = make_queue()
    for name in "abc":
        queue.admit(make_tail(name), 0.0)
    running = queue.start_next(0.0).tail
    assert [tail.work for tail in queue.drain(0.1)] == ["b", "c"]
    assert running is not None
    assert not running.is_wanted
    assert queue.queue_length == 1


def test_two_tails_cannot_be_in_service_at_once() -> None:
    queue = make_queue()
    queue.admit(make_tail("a"), 0.0)
    queue.admit(make_tail("b"), 0.0)
    queue.start_next(0.0)
    with pytest.raises(RuntimeError):
        queue.start_next(0.0)


def test_nothing_can_be_finished_that_was_not_started() -> None:
    with pytest.raises(RuntimeError):
        make_queue().finish(0.0, None)


def test_a_reading_holds_backlog_arrivals_speed_length_and_busy_share() -> None:
    queue = make_queue()
    queue.admit(make_tail(cut=0), 0.0)
    queue.start_next(0.0)
    queue.admit(make_tail(cut=1), 0.2)
    reading = queue.reading(0.3)
    assert reading.backlog.backlog_s == pytest.approx(0.3)
    assert reading.backlog.at_s == pytest.approx(0.3)
    assert reading.arrived_work_s == pytest.approx((0.2, 0.6, 0.6))
    assert reading.queue_length == 2
    assert 0.0 < reading.busy_share < 0.1
    assert reading.speed_factor == pytest.approx(1.0)


def test_refused_work_does_not_count_as_arrived() -> None:
    queue = make_queue()
    queue.admit(make_tail(cut=1), 0.0)
    with pytest.raises(DeadlineError):
        queue.admit(make_tail(cut=1, deadline_s=0.1), 0.0)
    assert queue.reading(0.1).arrived_work_s == pytest.approx((0.2, 0.2, 0.2))


def test_a_queue_that_could_never_take_a_tail_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        make_queue(capacity=0)
