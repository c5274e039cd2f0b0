"""The queue in front of several back ends."""

from __future__ import annotations

import pytest

from edge.engine.back_end_load import BackEndLoad, Flight
from edge.engine.queue import HOPE_S, MOST_TRIES, NO_ENGINE_S, EngineQueue
from edge.tail_queue import Tail
from twinsplit.errors import DeadlineError, EdgeFullError, StoppingError

MODEL = "a" * 64
TAIL_S = {MODEL: (0.4, 0.2, 0.1)}


def make_queue(back_ends: int = 2, limit: int = 2, capacity: int = 4) -> EngineQueue[str]:
    loads: list[BackEndLoad[str]] = [BackEndLoad(place, limit, 0.2) for place in range(back_ends)]
    queue = EngineQueue(capacity, TAIL_S, loads, 0.0)
    for place in range(back_ends):
        queue.set_ready(place, True, 0.0)
    return queue


def make_tail(
    name: str = "t", *, cut: int = 2, at_s: float = 0.0, deadline_s: float | None = None, owner: str = "o"
) -> Tail[str]:
    return Tail(MODEL, cut, owner, name, at_s, deadline_s)


def sent(queue: EngineQueue[str], *tails: Tail[str], now_s: float = 0.0) -> list[Flight[str]]:
    for tail in tails:
        queue.admit(tail, now_s)
    return queue.dispatch(now_s).flights


def test_tails_go_where_they_are_answered_first_and_no_more_than_may_be_under_way() -> None:
    queue = make_queue(back_ends=2, limit=2)
    flights = sent(queue, *(make_tail(str(n), at_s=n * 1e-3) for n in range(6)))
    assert [flight.place for flight in flights] == [0, 1, 0, 1]
    assert [flight.tail.work for flight in flights] == ["0", "1", "2", "3"]
    assert queue.queue_length == 6


def test_an_answer_makes_room_for_the_next_at_once() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (first,) = sent(queue, make_tail("a"), make_tail("b"))
    queue.finished(first, 0.1)
    assert [flight.tail.work for flight in queue.dispatch(0.1).flights] == ["b"]


def test_a_back_end_that_is_slower_gets_fewer() -> None:
    queue = make_queue(back_ends=2, limit=8, capacity=16)
    queue.back_ends[1].measured(1.0, speed_factor=3.0)
    flights = sent(queue, *(make_tail(str(n)) for n in range(8)))
    places = [flight.place for flight in flights]
    assert places.count(0) == 6
    assert places.count(1) == 2


def test_the_backlog_is_what_waits_over_all_back_ends_behind_what_is_under_way() -> None:
    queue = make_queue(back_ends=2, limit=1, capacity=8)
    sent(queue, *(make_tail(str(n)) for n in range(6)))
    assert queue.backlog_s(0.0) == pytest.approx(0.1 + 4 * 0.1 / 2)
    assert queue.backlog_s(0.05) == pytest.approx(0.05 + 4 * 0.1 / 2)


def test_what_dies_with_a_back_end_goes_to_another_in_the_order_of_arrival() -> None:
    queue = make_queue(back_ends=2, limit=2)
    flights = sent(queue, *(make_tail(str(n), at_s=n * 1e-3) for n in range(6)), now_s=0.01)
    lost = [flight for flight in flights if flight.place == 0]
    queue.set_ready(0, False, 0.02)
    for flight in reversed(lost):
        assert queue.move(flight, 0.02)
    order = []
    under_way = [flight for flight in flights if flight.place == 1]
    for step in range(1, 7):
        queue.finished(under_way.pop(0), 0.02 + step * 0.1)
        found = queue.dispatch(0.02 + step * 0.1).flights
        assert all(flight.place == 1 for flight in found)
        order += [flight.tail.work for flight in found]
        under_way += found
    assert order == ["0", "2", "4", "5"]
    assert queue.queue_length == 0


def test_a_tail_that_outlives_too_many_back_ends_is_given_up() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (flight,) = sent(queue, make_tail())
    for attempt in range(1, MOST_TRIES):
        assert queue.move(flight, attempt * 1.0)
        (flight,) = queue.dispatch(attempt * 1.0).flights
    assert not queue.move(flight, 9.0)
    assert queue.queue_length == 0


def test_what_a_full_back_end_refuses_waits_in_its_old_place_however_often_it_does() -> None:
    queue = make_queue(back_ends=1, limit=4, capacity=8)
    flights = sent(queue, *(make_tail(str(n), at_s=n * 1e-3) for n in range(6)))
    for flight in flights[2:]:
        queue.put_back(flight, 0.01)
    assert queue.dispatch(0.01).flights == []
    for step in range(2 * MOST_TRIES):
        queue.try_more()
        (again,) = queue.dispatch(0.02 + step * 0.01).flights
        assert again.tail.work == "2"
        queue.put_back(again, 0.02 + step * 0.01)
    queue.finished(flights[0], 0.1)
    assert [flight.tail.work for flight in queue.dispatch(0.1).flights] == ["2"]
    assert queue.back_ends[0].is_ready


def test_a_back_end_that_was_full_gets_as_many_as_before_after_a_while() -> None:
    queue = make_queue(back_ends=1, limit=3, capacity=8)
    for flight in sent(queue, *(make_tail(str(n), at_s=n * 1e-3) for n in range(5))):
        queue.put_back(flight, 0.01)
    found = []
    for _ in range(5):
        queue.try_more()
        found += [flight.tail.work for flight in queue.dispatch(0.02).flights]
    assert found == ["0", "1", "2"]


def test_a_tail_that_waits_for_a_full_back_end_expires_in_time() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (flight,) = sent(queue, make_tail(deadline_s=0.6))
    queue.put_back(flight, 0.1)
    assert queue.dispatch(0.4).expired == []
    assert queue.dispatch(0.55).expired == [flight.tail]


def test_a_full_queue_refuses_by_name_and_changes_nothing() -> None:
    queue = make_queue(back_ends=1, limit=1, capacity=2)
    sent(queue, *(make_tail(str(n)) for n in range(3)))
    before = queue.backlog_s(0.0)
    with pytest.raises(EdgeFullError, match="--queue-capacity"):
        queue.admit(make_tail(), 0.0)
    assert queue.backlog_s(0.0) == before


def test_a_deadline_that_cannot_be_met_is_refused_at_once_or_found_when_it_has_become_so() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (flight,) = sent(queue, make_tail(cut=0))
    with pytest.raises(DeadlineError, match=r"300\.0 ms are left"):
        queue.admit(make_tail(deadline_s=0.3), 0.0)
    tail = make_tail(deadline_s=0.6)
    queue.admit(tail, 0.0)
    assert queue.dispatch(0.4).expired == []
    assert queue.dispatch(0.55).expired == [tail]
    queue.finished(flight, 0.55)
    assert queue.queue_length == 0


def test_without_any_back_end_tails_are_kept_a_moment_and_then_refused() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (flight,) = sent(queue, make_tail("a"))
    queue.set_ready(0, False, 1.0)
    assert queue.move(flight, 1.0)
    queue.admit(make_tail("b"), 1.1)
    assert queue.dispatch(1.1).stranded == []
    assert [tail.work for tail in queue.dispatch(1.0 + HOPE_S).stranded] == ["a", "b"]
    assert queue.backlog_s(1.0 + HOPE_S) == NO_ENGINE_S
    with pytest.raises(StoppingError, match="no engine"):
        queue.admit(make_tail(), 1.0 + HOPE_S)


def test_a_back_end_that_comes_back_gets_what_was_kept() -> None:
    queue = make_queue(back_ends=1, limit=1)
    (flight,) = sent(queue, make_tail("a"))
    queue.set_ready(0, False, 1.0)
    queue.move(flight, 1.0)
    queue.set_ready(0, True, 1.5)
    assert [flight.tail.work for flight in queue.dispatch(1.5).flights] == ["a"]


def test_a_queue_that_never_had_a_back_end_refuses() -> None:
    queue = EngineQueue[str](1, TAIL_S, [BackEndLoad(0, 1, 0.2)], 0.0)
    with pytest.raises(StoppingError):
        queue.admit(make_tail(), 0.0)


def test_a_stopping_queue_takes_nothing_more_and_gives_up_what_waits() -> None:
    queue = make_queue(back_ends=1, limit=1)
    sent(queue, make_tail("a"), make_tail("b"))
    queue.is_stopping = True
    with pytest.raises(StoppingError, match="stopping"):
        queue.admit(make_tail(), 0.0)
    assert [tail.work for tail in queue.drain(0.0)] == ["b"]


def test_cancelled_tails_leave_at_once_while_they_wait() -> None:
    queue = make_queue(back_ends=1, limit=1)
    under_way, waiting = make_tail("a"), make_tail("b", owner="p")
    sent(queue, under_way, waiting)
    assert queue.tails_of("p") == [waiting]
    assert queue.cancel(waiting, 0.0)
    assert not queue.cancel(under_way, 0.0)
    assert not under_way.is_wanted
    assert queue.tails_of("o") == [under_way]


def test_the_error_of_the_predicted_wait_is_tracked() -> None:
    queue = make_queue(back_ends=1, limit=1)
    assert queue.backlog_error_s is None
    now_s = 0.0
    for _ in range(3):
        (flight,) = sent(queue, make_tail(at_s=now_s), now_s=now_s)
        now_s += 0.15
        queue.finished(flight, now_s)
    assert queue.backlog_error_s is not None
    assert 0.0 < queue.backlog_error_s <= 0.05


def test_the_reading_says_what_arrived_and_how_busy_it_is() -> None:
    queue = make_queue(back_ends=1, limit=1)
    sent(queue, make_tail(cut=0), make_tail(cut=2))
    reading = queue.reading(0.1)
    assert reading.arrived_work_s[0] == pytest.approx(0.5)
    assert reading.backlog.backlog_s == pytest.approx(0.4)
    assert reading.queue_length == 2
    assert reading.busy_share > 0.0
