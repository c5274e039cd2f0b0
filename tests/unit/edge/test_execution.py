from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.execution import TailExecutor
from edge.tail_queue import TailEnd
from tests.unit.edge.chain_bench import WIDTH, Bench
from twinsplit.errors import ComputeError, DeadlineError, StoppingError, TensorError
from twinsplit.tensor import EncodedTensor, decode


def values(output: EncodedTensor | None) -> NDArray[Any]:
    assert output is not None
    return decode(output.header, output.data, WIDTH)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_tail_runs_the_segments_after_its_cut_and_no_others(cut: int) -> None:
    bench = Bench()
    result = bench.run(bench.tail(cut=cut))
    assert result.end is TailEnd.FINISHED
    assert bench.chain.ran == list(range(cut, 3))
    np.testing.assert_array_equal(values(result.output), np.full((1, WIDTH), 3.0 - cut, np.float32))
    assert result.service_s == pytest.approx(0.01 * (3 - cut))


def test_the_slowdown_sleeps_what_is_missing_to_a_multiple_of_the_measured_time() -> None:
    bench = Bench(slowdown=4.0)
    result = bench.run(bench.tail(cut=1))
    assert bench.slept == pytest.approx([0.03, 0.03])
    assert result.service_s == pytest.approx(0.08)
    assert bench.queue.speed_factor == pytest.approx(1.0)


def test_a_segment_that_is_slower_than_the_emulation_is_not_slowed_further() -> None:
    bench = Bench(slowdown=2.0)
    bench.chain.segment_s = 0.05
    bench.run(bench.tail(cut=2))
    assert bench.slept == []


def test_a_tail_that_is_cancelled_while_it_runs_stops_before_the_next_segment() -> None:
    bench = Bench()
    tail = bench.tail()

    def cancel(index: int) -> None:
        if index == 1:
            bench.executor.cancel(tail)

    bench.chain.before_segment = cancel
    result = bench.run(tail)
    assert result.end is TailEnd.CANCELLED
    assert result.output is None
    assert result.error is None
    assert bench.chain.ran == [0, 1]
    assert bench.executor.ends() == {TailEnd.CANCELLED: 1}


def test_a_tail_whose_time_runs_out_while_it_runs_is_refused_by_name() -> None:
    bench = Bench()
    bench.chain.segment_s = 0.04
    result = bench.run(bench.tail(budget_s=0.05))
    assert result.end is TailEnd.EXPIRED
    assert isinstance(result.error, DeadlineError)
    assert bench.chain.ran == [0, 1]


def test_a_payload_that_cannot_be_decoded_is_refused_and_the_next_is_served() -> None:
    bench = Bench()
    result = bench.run(bench.tail(data=b"xyz"))
    assert result.end is TailEnd.FAILED
    assert isinstance(result.error, TensorError)
    assert bench.run(bench.tail()).end is TailEnd.FINISHED


def test_a_segment_that_fails_fails_its_tail_and_no_other() -> None:
    bench = Bench()

    def fail(index: int) -> None:
        raise ComputeError("segment: broken")

    bench.chain.before_segment = fail
    result = bench.run(bench.tail())
    assert result.end is TailEnd.FAILED
    assert isinstance(result.error, ComputeError)
    bench.chain.before_segment = lambda _: None
    assert bench.run(bench.tail()).end is TailEnd.FINISHED
    assert bench.queue.speed_factor == pytest.approx(1.0)


def test_a_long_tail_is_left_to_the_compute_thread() -> None:
    bench = Bench()
    executor = TailExecutor(bench.queue, {bench.digest: bench.model}, bench.clock, inline_s=0.0)
    executor.submit(bench.tail())
    assert bench.results == []
    executor.start()
    executor.close(grace_s=10.0)
    assert [result.end for result in bench.results] == [TailEnd.FINISHED]


def test_closing_finishes_what_waits_and_then_refuses() -> None:
    bench = Bench()
    executor = TailExecutor(bench.queue, {bench.digest: bench.model}, bench.clock, inline_s=0.0)
    for _ in range(3):
        executor.submit(bench.tail())
    executor.start()
    executor.close(grace_s=10.0)
    assert [result.end for result in bench.results] == [TailEnd.FINISHED] * 3
    assert executor.is_stopping
    with pytest.raises(StoppingError):
        executor.submit(bench.tail())


def test_closing_without_time_refuses_what_waits_with_stopping() -> None:
    bench = Bench()
    executor = TailExecutor(bench.queue, {bench.digest: bench.model}, bench.clock, inline_s=0.0)
    released = _Gate()
    bench.chain.before_segment = released.hold
    for _ in range(3):
        executor.submit(bench.tail())
    executor.start()
    released.is_entered.wait(10.0)
    released.release_when(lambda: len(bench.results) == 2)
    executor.close(grace_s=0.0)
    assert [type(result.error) for result in bench.results] == [StoppingError] * 3
    assert bench.chain.ran == [0]


class _Gate:
    """Holds the compute thread within its first segment."""

    def __init__(self) -> None:
        self.is_entered = threading.Event()
        self._may_go = threading.Event()
        self._condition: Callable[[], bool] = lambda: False

    def hold(self, _: int) -> None:
        self.is_entered.set()
        while not (self._may_go.wait(0.001) and self._condition()):
            pass

    def release_when(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self._may_go.set()
