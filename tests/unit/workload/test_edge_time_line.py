"""What an edge's backlog was, and what it would have been without one tail."""

from __future__ import annotations

import random

import pytest

from edge.tail_queue import Tail, TailQueue
from twin_service.messages import ArrivedTail
from twin_service.workload.edge_time_line import EdgeTimeLine


def line_of(*tails: ArrivedTail) -> EdgeTimeLine:
    line = EdgeTimeLine()
    for tail in tails:
        line.add(tail)
    return line


def random_tails(seed: int, count: int = 60) -> list[ArrivedTail]:
    rng = random.Random(seed)
    now_s, tails = 0.0, []
    for number in range(count):
        now_s += rng.expovariate(10.0)
        own = number % 7 == 0
        tails.append(ArrivedTail(now_s, rng.expovariate(1 / 0.08), "cam" if own else "", number if own else 0))
    return tails


def by_hand_s(tails: list[ArrivedTail], at_s: float) -> float:
    """Work left of a FIFO that is fed with ``tails``."""
    free_at_s = 0.0
    for tail in tails:
        if tail.at_s <= at_s:
            free_at_s = max(free_at_s, tail.at_s) + tail.work_s
    return max(free_at_s - at_s, 0.0)


def test_backlog_drains_at_rate_one_and_jumps_with_every_arrival() -> None:
    line = line_of(ArrivedTail(1.0, 0.3), ArrivedTail(1.1, 0.2), ArrivedTail(3.0, 0.1))
    assert [line.backlog_s(t) for t in (0.9, 1.0, 1.1, 1.3, 2.0, 3.05)] == pytest.approx(
        [0.0, 0.3, 0.4, 0.2, 0.0, 0.05]
    )


@pytest.mark.parametrize("seed", range(5))
def test_backlog_without_any_tail_is_that_of_a_queue_that_never_got_it(seed: int) -> None:
    tails = random_tails(seed)
    line = line_of(*tails)
    rng = random.Random(seed + 100)
    for tail in tails:
        owner = (tail.device_id, tail.task_id)
        later = [each for each in tails if each.device_id and each.task_id >= tail.task_id] if tail.device_id else []
        without = [each for each in tails if each not in later]
        for _ in range(4):
            at_s = rng.uniform(0.0, tails[-1].at_s + 1.0)
            assert line.backlog_s(at_s, owner) == pytest.approx(by_hand_s(without, at_s), abs=1e-9)
            assert line.backlog_s(at_s) == pytest.approx(by_hand_s(tails, at_s), abs=1e-9)


def test_the_line_is_that_of_the_edges_own_queue() -> None:
    queue: TailQueue[None] = TailQueue(99, {"m": (0.05, 0.02)}, 0.0)
    line = EdgeTimeLine()
    rng = random.Random(3)
    now_s = 0.0
    for _ in range(50):
        arrives_s = now_s + rng.expovariate(20.0)
        while (tail := queue.in_service) is not None and tail.started_at_s + tail.profiled_s <= arrives_s:
            queue.finish(tail.started_at_s + tail.profiled_s, tail.profiled_s)
            queue.start_next(tail.started_at_s + tail.profiled_s)
        now_s = arrives_s
        arrived: Tail[None] = Tail("m", rng.randrange(2), "x", None, now_s)
        queue.admit(arrived, now_s)
        line.add(ArrivedTail(now_s, arrived.predicted_s))
        if queue.in_service is None:
            queue.start_next(now_s)
        reading = queue.reading(now_s)
        assert line.backlog_s(now_s) == pytest.approx(reading.backlog.backlog_s, abs=1e-9)
        assert line.arrived_work_s(now_s) == pytest.approx(reading.arrived_work_s, abs=1e-9)


def test_arrived_work_leaves_the_own_tail_out() -> None:
    line = line_of(
        ArrivedTail(1.0, 0.5), ArrivedTail(4.0, 0.2), ArrivedTail(4.8, 0.1, "cam", 3), ArrivedTail(4.9, 0.05)
    )
    assert line.arrived_work_s(4.9) == pytest.approx((0.15, 0.35, 0.85))
    assert line.arrived_work_s(4.9, ("cam", 3)) == pytest.approx((0.05, 0.25, 0.75))
    assert line.arrived_work_s(4.9, ("cam", 4)) == line.arrived_work_s(4.9)
    assert line.arrived_work_s(9.0, ("cam", 3)) == pytest.approx((0.0, 0.0, 0.0))
    assert line.arrived_work_s(0.5) == (0.0, 0.0, 0.0)


def test_a_task_that_sent_nothing_there_changes_nothing() -> None:
    line = line_of(ArrivedTail(1.0, 0.5, "cam", 1))
    assert line.backlog_s(1.2, ("cam", 2)) == line.backlog_s(1.2)
    assert line.arrived_work_s(1.2, ("cam", 2)) == line.arrived_work_s(1.2)
    assert ("cam", 1) in line
    assert ("cam", 2) not in line


def test_later_tails_of_the_same_device_would_have_waited_on_it() -> None:
    tails = (ArrivedTail(1.0, 0.5, "cam", 1), ArrivedTail(1.1, 0.4, "dock", 1), ArrivedTail(1.2, 0.3, "cam", 2))
    line = line_of(*tails)
    assert line.backlog_s(1.3) == pytest.approx(0.9)
    assert line.backlog_s(1.3, ("cam", 2)) == pytest.approx(0.6)
    assert line.backlog_s(1.3, ("cam", 1)) == pytest.approx(0.2)
    assert line.backlog_s(1.05, ("cam", 2)) == pytest.approx(0.45)
    assert line.arrived_work_s(1.3, ("cam", 1))[0] == pytest.approx(0.4)


def test_a_device_that_counts_anew_does_not_leave_its_old_tails_out() -> None:
    line = line_of(ArrivedTail(1.0, 0.5, "cam", 7), ArrivedTail(1.1, 0.2, "cam", 1))
    assert line.backlog_s(1.2, ("cam", 1)) == pytest.approx(0.3)


def test_a_report_puts_the_backlog_right_and_counterfactuals_keep_that() -> None:
    line = line_of(ArrivedTail(1.0, 0.2), ArrivedTail(1.1, 0.2, "cam", 1))
    line.observed(0.5, 1.2)  # 0.2 s more than reckoned: service takes longer than was predicted
    assert line.complete_until_s == 1.2
    assert line.backlog_s(1.3) == pytest.approx(0.4)
    assert line.backlog_s(1.3, ("cam", 1)) == pytest.approx(0.2)
    assert line.arrived_work_s(1.3) == pytest.approx((0.2, 0.4, 0.4))
    line.observed(0.0, 1.4)  # a tail was cancelled
    assert line.backlog_s(1.4) == 0.0
    assert line.backlog_s(1.5, ("cam", 1)) == 0.0


def test_a_report_that_is_older_than_what_is_known_corrects_nothing() -> None:
    line = line_of(ArrivedTail(1.0, 0.2))
    line.observed(0.9, 0.5)
    assert line.backlog_s(1.1) == pytest.approx(0.1)


def test_the_line_forgets_what_is_old_and_goes_on_right() -> None:
    line = EdgeTimeLine(memory_s=10.0)
    tails = [ArrivedTail(0.01 * n, 0.009, "cam" if n % 3 == 0 else "", n) for n in range(10_000)]
    for tail in tails:
        line.add(tail)
    assert len(line) < 3000
    assert ("cam", 0) not in line
    last = tails[-1]
    assert line.backlog_s(last.at_s) == pytest.approx(last.work_s)
    assert line.arrived_work_s(last.at_s) == pytest.approx((25 * 0.009, 100 * 0.009, 400 * 0.009), abs=0.02)
    own = ("cam", 9999)
    assert line.backlog_s(last.at_s, own) == pytest.approx(0.0, abs=1e-9)
    assert line.arrived_work_s(last.at_s)[0] - line.arrived_work_s(last.at_s, own)[0] == pytest.approx(0.009)
