"""Several tails at once: when it pays, what is learnt, and that answers are those of each tail by itself."""

from __future__ import annotations

import numpy as np
import pytest

from edge.batching import BatchSettings, BatchSizes
from edge.computing import LocalComputing
from edge.execution import TailExecutor
from edge.service import batches_of
from edge.tail_queue import Tail, TailEnd, TailQueue, Turn
from tests.unit.edge.chain_bench import WIDTH, Bench
from twinsplit.errors import ComputeError, TensorError
from twinsplit.tensor import decode

MODEL, OTHER = "a" * 64, "b" * 64
TAIL_S = {MODEL: (0.4, 0.2, 0.1), OTHER: (0.2,)}


def sizes_of(most: int = 8, **relative: float) -> BatchSizes:
    sizes = BatchSizes(BatchSettings(most, ((MODEL, 1),)))
    for size, value in relative.items():
        sizes.served(MODEL, 1, int(size[1:]), value)
    return sizes


class TestSizes:
    def test_a_batch_pays_by_those_that_wait_behind_it(self):
        assert sizes_of(s2=0.9).sizes(MODEL, 1, alike=2, waiting=2) == [1], "both end later than by themselves"
        assert sizes_of(s2=0.9).sizes(MODEL, 1, alike=2, waiting=64) == [2, 1]
        assert sizes_of(s2=0.6).sizes(MODEL, 1, alike=2, waiting=2) == [2, 1], "both end sooner on average"

    def test_a_batch_that_takes_as_long_as_its_tails_never_pays(self):
        assert sizes_of(s2=1.0, s4=1.1, s8=1.0).sizes(MODEL, 1, alike=8, waiting=1000) == [1]

    def test_the_best_size_comes_first(self):
        assert sizes_of(s2=0.9, s4=0.5, s8=0.9).sizes(MODEL, 1, alike=8, waiting=64)[0] == 4

    def test_an_untried_size_is_tried_where_many_wait(self):
        assert sizes_of().sizes(MODEL, 1, alike=8, waiting=64)[0] == 8
        assert sizes_of().sizes(MODEL, 1, alike=2, waiting=2) == [1]

    def test_no_more_than_allowed_alike_or_possible(self):
        assert sizes_of(most=3).sizes(MODEL, 1, alike=8, waiting=64)[0] == 2
        assert sizes_of().sizes(MODEL, 1, alike=5, waiting=64)[0] == 4
        assert sizes_of().sizes(MODEL, 0, alike=8, waiting=64) == [1], "segment 0 takes one at a time"
        assert sizes_of().sizes(OTHER, 0, alike=8, waiting=64) == [1]
        assert BatchSizes(BatchSettings(1, ((MODEL, 0),))).sizes(MODEL, 1, alike=8, waiting=64) == [1]

    def test_what_did_not_pay_is_tried_again_after_long(self):
        sizes = sizes_of(most=2, s2=2.0)
        choices = [sizes.sizes(MODEL, 1, alike=2, waiting=64)[0] for _ in range(2000)]
        assert choices[:200] == [1] * 200
        assert 2 in choices

    def test_one_hiccup_does_not_decide(self):
        sizes = sizes_of(s2=0.5)
        sizes.served(MODEL, 1, 2, 50.0)
        assert sizes.relative(MODEL, 1, 2) == pytest.approx(0.5 + 1.5 / 8)


def queue_of(most: int = 4) -> TailQueue[str]:
    """Batches after cut 1 take half the time of their tails."""
    queue: TailQueue[str] = TailQueue(16, TAIL_S, 0.0, BatchSettings(most, ((MODEL, 0),)))
    for size in (2, 4):
        queue.batches.served(MODEL, 1, size, 0.5)
    return queue


def admitted(queue: TailQueue[str], names: str, *, cut: int = 1, model: str = MODEL, deadline_s: float | None = None):
    tails = [Tail(model, cut, name, name, 0.0, deadline_s) for name in names]
    for tail in tails:
        queue.admit(tail, 0.0)
    return tails


def work_of(turn: Turn[str]) -> str:
    assert turn.tail is not None
    return "".join(tail.work for tail in (turn.tail, *turn.others))


class TestQueue:
    def test_what_waits_in_line_and_is_alike_leaves_together(self):
        queue = queue_of()
        admitted(queue, "abcdefgh")
        assert work_of(queue.start_next(0.0)) == "abcd"
        assert queue.queue_length == 8
        queue.finish(0.4, 0.4)
        assert queue.queue_length == 4

    def test_nobody_is_overtaken(self):
        queue = queue_of()
        admitted(queue, "ab")
        admitted(queue, "c", cut=2)
        admitted(queue, "defghijk")
        assert work_of(queue.start_next(0.0)) == "ab"
        queue.finish(0.2, 0.2)
        assert work_of(queue.start_next(0.2)) == "c"

    def test_nobody_waits_for_others(self):
        queue = queue_of()
        admitted(queue, "a")
        assert work_of(queue.start_next(0.0)) == "a"

    def test_a_batch_leaves_everybody_in_time(self):
        queue = queue_of()
        admitted(queue, "abcd", deadline_s=0.9)
        admitted(queue, "efghijkl")
        assert work_of(queue.start_next(0.0)) == "abcd"
        queue = queue_of()
        admitted(queue, "a", deadline_s=0.35)
        admitted(queue, "bcdefghi")
        assert work_of(queue.start_next(0.0)) == "ab"

    def test_the_backlog_knows_what_batches_bring(self):
        queue = queue_of()
        now_s = 0.0
        for _ in range(30):
            for _ in range(8):
                queue.admit(Tail(MODEL, 1, "o", "x", now_s), now_s)
            while queue.start_next(now_s).tail is not None:
                count = queue.queue_length - len(queue._waiting)
                service_s = 0.2 * count * (0.5 if count > 1 else 1.0)
                now_s += service_s
                queue.finish(now_s, service_s)
        assert queue.speed_factor == pytest.approx(1.0), "a batch says nothing of the edge's speed"
        for _ in range(8):
            queue.admit(Tail(MODEL, 1, "o", "x", now_s), now_s)
        assert queue.backlog_s(now_s) == pytest.approx(0.5 * 8 * 0.2, rel=0.1)

    def test_a_batch_is_in_the_backlog_until_all_have_gone(self):
        queue = queue_of(2)
        first, second = admitted(queue, "ab")
        admitted(queue, "cdefghij")
        assert work_of(queue.start_next(0.0)) == "ab"
        waiting_s = 8 * 0.2
        assert queue.backlog_s(0.1) == pytest.approx(waiting_s + 0.5 * 0.4 - 0.1, rel=1e-3)
        assert not queue.cancel(first, 0.1)
        assert queue.backlog_s(0.1) == pytest.approx(waiting_s + 0.5 * 0.4 - 0.1, rel=1e-3)
        queue.cancel(second, 0.1)
        assert queue.backlog_s(0.1) == pytest.approx(waiting_s)


class BatchBench(Bench):
    """Tails wait until :meth:`work`; a segment takes its time whatever it is given."""

    def __init__(self, most: int = 4, **options: object) -> None:
        super().__init__(capacity=32, **options)
        settings = BatchSettings(most, ((self.digest, 0),))
        self.queue = TailQueue(32, {self.digest: self.model.tail_s}, 0.0, settings)
        models = {self.digest: self.model}
        computing = LocalComputing(models, self.clock, self.sleep)
        self.executor = TailExecutor(self.queue, models, self.clock, computing=computing, inline_s=0.0)

    def wait(self, *starts: float, data: bytes | None = None) -> list[Tail]:
        tails = []
        for start in starts:
            tail = self.tail(cut=1, data=np.full((1, WIDTH), start, np.float32).tobytes() if data is None else data)
            self.executor.submit(tail)
            tails.append(tail)
        return tails

    def work(self) -> None:
        self.executor.start()
        self.executor.close(10.0)

    def outputs(self) -> list[float]:
        outputs = []
        for result in self.results:
            assert result.output is not None, result.error
            outputs.append(float(decode(result.output.header, result.output.data, WIDTH)[0, 0]))
        return outputs


class TestExecutor:
    def test_answers_are_those_of_each_tail_by_itself(self):
        starts = [float(k) for k in range(16)]
        together, alone = BatchBench(most=4), BatchBench(most=1)
        for bench in (together, alone):
            bench.wait(*starts)
            bench.work()
        assert together.outputs() == alone.outputs() == [start + 2.0 for start in starts]
        assert together.executor.batches[1] > 8
        assert alone.executor.batches == (0, 0)
        assert together.clock.monotonic_s() < 0.5 * alone.clock.monotonic_s()
        assert together.executor.ends() == alone.executor.ends() == {TailEnd.FINISHED: 16}

    def test_one_that_is_cancelled_in_a_batch_takes_nothing_from_the_others(self):
        bench = BatchBench()
        tails = bench.wait(*range(16))
        bench.chain.before_segment = lambda index: bench.executor.cancel(tails[1])
        bench.work()
        assert bench.executor.ends() == {TailEnd.FINISHED: 15, TailEnd.CANCELLED: 1}
        assert [result.end for result in bench.results[:3]] == [
            TailEnd.FINISHED,
            TailEnd.CANCELLED,
            TailEnd.FINISHED,
        ]

    def test_a_bad_payload_in_a_batch_is_refused_and_the_others_are_answered(self):
        bench = BatchBench()
        bench.wait(1.0)
        bench.wait(0.0, data=b"xyz")
        bench.wait(*range(14))
        bench.work()
        assert bench.executor.ends() == {TailEnd.FINISHED: 15, TailEnd.FAILED: 1}
        assert isinstance(bench.results[1].error, TensorError)

    def test_a_model_that_cannot_be_run_so_is_run_one_by_one_from_then_on(self, caplog):
        bench = BatchBench()
        batches = []

        def run_segment(index: int, tensor: np.ndarray) -> np.ndarray:
            if len(tensor) > 1:
                batches.append(len(tensor))
                raise ComputeError("one at a time")
            return tensor + np.float32(1.0)

        bench.chain.run_segment = run_segment
        bench.wait(*range(16))
        bench.work()
        assert bench.executor.ends() == {TailEnd.FINISHED: 16}
        assert batches == [4]
        assert bench.executor.batches == (0, 0)
        assert "batch-failed" in caplog.text


def test_only_models_that_take_batches_are_given_to_the_queue():
    bench = Bench()
    assert batches_of(8, {bench.digest: bench.model}) == BatchSettings(8, ())
