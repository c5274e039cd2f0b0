"""One back end as seen from here: what it has to do, and what is learnt of it."""

from __future__ import annotations

import pytest

from edge.engine.back_end_load import BackEndLoad, Flight
from edge.tail_queue import Tail

MODEL = "a" * 64


def make_load(limit: int = 4) -> BackEndLoad[str]:
    load: BackEndLoad[str] = BackEndLoad(0, limit, mean_s=0.1)
    load.is_ready = True
    return load


def make_tail(profiled_s: float = 0.1) -> Tail[str]:
    return Tail(MODEL, 0, "o", "w", 0.0, profiled_s=profiled_s)


def test_what_one_worker_has_under_way_is_what_a_further_tail_waits_for() -> None:
    load = make_load()
    load.send(make_tail(), 0.0)
    load.send(make_tail(), 0.0)
    assert load.wait_s(0.0) == pytest.approx(0.2)
    assert load.wait_s(0.04) == pytest.approx(0.16)
    assert load.wait_s(5.0) == pytest.approx(0.1), "a tail that has not begun is left whole"


def test_a_tail_waits_for_nothing_until_all_workers_are_busy() -> None:
    load = make_load()
    load.measured(parallelism=2.0, speed_factor=1.0)
    load.send(make_tail(), 0.0)
    assert load.wait_s(0.0) == 0.0
    load.send(make_tail(), 0.0)
    assert load.wait_s(0.0) == pytest.approx(0.05), (
        "the first of two equal workers is free after half a tail on average"
    )


def test_tails_that_ran_alone_show_how_fast_it_is() -> None:
    load = make_load()
    now_s = 0.0
    for _ in range(200):
        flight = load.send(make_tail(), now_s)
        now_s += 0.2
        load.finished(flight, now_s)
    assert load.speed_factor == pytest.approx(2.0, rel=0.01)


def test_one_hiccup_does_not_make_it_look_slow() -> None:
    load = make_load()
    load.finished(load.send(make_tail(), 0.0), 60.0)
    assert load.speed_factor < 1.2


def test_one_stall_of_a_full_back_end_does_not_make_it_look_slow_either() -> None:
    load = make_load(limit=2)
    flights = [load.send(make_tail(), 0.0) for _ in range(2)]
    now_s = 0.0
    for number in range(60):
        now_s += 60.0 if number == 30 else 0.1
        load.finished(flights.pop(0), now_s)
        flights.append(load.send(make_tail(), now_s))
    assert load.rate == pytest.approx(1.0, rel=0.1)


def test_tails_that_shared_it_say_nothing_of_its_speed() -> None:
    load = make_load()
    first, second = load.send(make_tail(), 0.0), load.send(make_tail(), 0.0)
    load.finished(first, 1.0)
    load.finished(second, 2.0)
    assert load.speed_factor == 1.0


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_full_back_end_shows_how_many_it_runs_at_once(workers: int) -> None:
    load = make_load(limit=6)
    flights: list[Flight[str]] = [load.send(make_tail(), 0.0) for _ in range(6)]
    now_s = 0.0
    for _ in range(200):
        now_s += 0.1 / workers
        load.finished(flights.pop(0), now_s)
        flights.append(load.send(make_tail(), now_s))
    assert load.parallelism == pytest.approx(workers, rel=0.02)
    assert load.wait_s(now_s) == pytest.approx((6 + 1) * 0.1 / workers - 0.1, abs=0.11 / workers)


def test_a_gap_in_which_it_was_not_full_does_not_count() -> None:
    load = make_load(limit=2)
    load.measured(parallelism=1.0, speed_factor=1.0)
    now_s = 0.0
    for _ in range(50):
        flights = [load.send(make_tail(), now_s) for _ in range(2)]
        for flight in flights:
            now_s += 0.1
            load.finished(flight, now_s)
        now_s += 3.0
    assert load.parallelism == 1.0


def test_what_the_server_tells_counts_once_it_has_foretold_waits_better_and_for_a_while() -> None:
    load = make_load()
    load.measured(parallelism=2.0, speed_factor=1.5)
    load.told_pending(4, mean_s=0.1, now_s=0.0)
    told_s = 4 * 0.1 * 1.5 / 2
    assert load.told_wait_s(0.0) == pytest.approx(told_s)
    assert load.wait_s(0.0) == 0.0
    # A tail of ours that had the server to itself, as far as we know, waited all the same.
    load.finished(load.send(make_tail(), 0.0), 0.15 + told_s)
    assert load.wait_s(1.0) == pytest.approx(told_s)
    assert load.wait_s(10.0) == 0.0


def test_what_is_told_again_and_again_is_averaged() -> None:
    load = make_load()
    for look in range(100):
        load.told(0.2 * (look % 2), look * 0.1)
    assert load.told_wait_s(9.9) == pytest.approx(0.1, abs=0.04)


def test_what_is_given_up_leaves_and_the_next_begins() -> None:
    load = make_load()
    first, second = load.send(make_tail(), 0.0), load.send(make_tail(), 0.0)
    assert second.began_at_s is None
    load.leave(first, 0.05)
    assert second.began_at_s == 0.05
    assert load.speed_factor == 1.0


def test_a_back_end_without_room_is_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="nothing would ever be done"):
        BackEndLoad(0, 0, 0.1)
