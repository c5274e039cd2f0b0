from __future__ import annotations

import threading

import pytest

from edge.execution import TailExecutor
from edge.idle_check import IdleCheck
from edge.tail_queue import TailEnd
from tests.unit.edge.chain_bench import Bench
from twinsplit.errors import ComputeError

BELIEVED_S = 0.03
"""Three segments of 0.01 s, as the bench's model was profiled."""


def always() -> bool:
    return True


def check_of(bench: Bench, idle_s: float = 10.0) -> IdleCheck:
    return IdleCheck({bench.digest: bench.model}, bench.computing.quickest_s, idle_s)


def test_the_quickest_of_several_runs_counts() -> None:
    bench = Bench()
    segment_s = iter([0.5, 0.001, 0.001, *[0.001] * 3, *[0.002] * 3])
    bench.chain.before_segment = lambda _: setattr(bench.chain, "segment_s", next(segment_s))
    assert check_of(bench).measured(always) == pytest.approx((BELIEVED_S, 0.003))
    assert bench.chain.ran == [0, 1, 2] * 3


def test_work_that_arrives_goes_first() -> None:
    bench = Bench()
    assert check_of(bench).measured(lambda: len(bench.chain.ran) < 2) is None
    assert bench.chain.ran == [0, 1]


def test_it_is_checked_less_and_less_often_until_tails_have_been_served() -> None:
    bench = Bench()
    check = check_of(bench)
    pauses = [check.pause_s]
    for _ in range(8):
        check.measured(always)
        pauses.append(check.pause_s)
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    check.tails_were_served()
    assert check.pause_s == 10.0


def test_a_slow_network_takes_a_hundredth_of_the_time() -> None:
    bench = Bench()
    bench.chain.segment_s = 10.0
    check = check_of(bench)
    check.measured(always)
    assert check.pause_s == pytest.approx(9000.0)


def test_a_segment_that_fails_gives_nothing_and_is_tried_again_later() -> None:
    bench = Bench()
    check = check_of(bench)

    def fail(index: int) -> None:
        raise ComputeError("segment: broken")

    bench.chain.before_segment = fail
    assert check.measured(always) is None
    assert check.pause_s == 20.0


def test_an_emulated_speed_is_not_checked() -> None:
    assert check_of(Bench(slowdown=2.0)).pause_s is None


def test_an_edge_without_work_learns_that_it_is_faster_than_it_believes_and_serves_on() -> None:
    bench = Bench()
    bench.chain.segment_s = 0.0002
    check = check_of(bench, idle_s=0.01)
    has_checked = threading.Event()
    bench.chain.before_segment = lambda _: has_checked.set() if len(bench.chain.ran) >= 9 else None
    executor = TailExecutor(bench.queue, {bench.digest: bench.model}, bench.clock, inline_s=0.0, idle_check=check)
    executor.start()
    assert has_checked.wait(30.0), "a second check has begun, so the first one counts"
    assert executor.reading().speed_factor == pytest.approx(0.02)
    executor.submit(bench.tail())
    executor.close(grace_s=30.0)
    assert [result.end for result in bench.results] == [TailEnd.FINISHED]
    assert executor.ends() == {TailEnd.FINISHED: 1}, "a check is no tail"
