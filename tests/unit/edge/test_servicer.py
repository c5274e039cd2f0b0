from __future__ import annotations

import asyncio
from collections import deque

import numpy as np
import pytest
from grpc.aio import EOF

from edge.servicer import MAX_UNSENT, EdgeIdentity, EdgeServicer
from edge.tail_queue import TailEnd
from tests.unit.edge.chain_bench import WIDTH, Bench
from twinsplit.errors import ErrorCode, WrongDigestError
from twinsplit.tensor import encode
from twinsplit.transport.tail_stream import InferRequest, InferResponse


class FakeContext:
    """A device that sends ``requests`` and reads answers only while it is told to."""

    def __init__(self, requests: list[InferRequest], metadata: tuple[tuple[str, object], ...] | None = None) -> None:
        self._requests = deque(requests)
        self._metadata = metadata
        self.reads = 0
        self.written: list[InferResponse] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.has_ended = asyncio.Event()

    def invocation_metadata(self) -> tuple[tuple[str, object], ...] | None:
        return self._metadata

    async def read(self) -> object:
        await asyncio.sleep(0)
        if not self._requests:
            return EOF
        self.reads += 1
        return self._requests.popleft()

    async def write(self, response: InferResponse) -> None:
        await self.may_write.wait()
        self.written.append(response)


def make_servicer(bench: Bench) -> EdgeServicer:
    return EdgeServicer(bench.executor, {bench.digest: bench.model}, EdgeIdentity("edge", "cpu"), bench.clock)


def good_request(bench: Bench, request_id: int) -> InferRequest:
    payload = encode(np.zeros((1, WIDTH), np.float32), "float32", "none")
    return InferRequest(request_id, bench.digest, 0, None, False, payload)


def bad_request(request_id: int) -> InferRequest:
    payload = encode(np.zeros((1, WIDTH), np.float32), "float32", "none")
    return InferRequest(request_id, "0" * 64, 0, None, False, payload)


async def serve(servicer: EdgeServicer, context: FakeContext) -> None:
    await servicer.infer(None, context)


async def test_every_request_is_answered_and_the_stream_ends() -> None:
    bench = Bench()
    servicer = make_servicer(bench)
    context = FakeContext([good_request(bench, 1), bad_request(2), good_request(bench, 3)])
    await serve(servicer, context)
    assert [answer.request_id for answer in context.written] == [1, 2, 3]
    assert [type(answer.error) for answer in context.written] == [type(None), WrongDigestError, type(None)]
    assert servicer.refusals == {ErrorCode.WRONG_DIGEST: 1}
    assert servicer.open_streams == 0
    assert bench.executor.ends() == {TailEnd.FINISHED: 2}


async def test_an_answer_is_written_before_it_is_counted() -> None:
    bench = Bench()
    servicer = make_servicer(bench)
    context = FakeContext([good_request(bench, 1)])
    written_when_counted: list[int] = []
    servicer.observe = lambda _result: written_when_counted.append(len(context.written))
    await serve(servicer, context)
    assert written_when_counted == [1]


async def test_a_device_that_does_not_read_is_read_no_further_until_it_does() -> None:
    bench = Bench()
    count = 4 * MAX_UNSENT
    context = FakeContext([bad_request(request_id) for request_id in range(1, count + 1)])
    context.may_write.clear()
    serving = asyncio.ensure_future(serve(make_servicer(bench), context))
    for _ in range(10 * count):
        await asyncio.sleep(0)
    assert 0 < context.reads <= MAX_UNSENT + 1
    context.may_write.set()
    await serving
    assert [answer.request_id for answer in context.written] == list(range(1, count + 1))


async def test_wire_and_raw_bytes_are_those_of_admitted_tails() -> None:
    bench = Bench()
    servicer = make_servicer(bench)
    await serve(servicer, FakeContext([good_request(bench, 1), bad_request(2)]))
    assert servicer.wire_bytes == servicer.raw_bytes == 4 * WIDTH


async def test_the_twin_link_is_told_of_every_event() -> None:
    bench = Bench()
    servicer = make_servicer(bench)
    backlogs_s: list[float] = []
    servicer.note_event = lambda: backlogs_s.append(bench.executor.backlog_s())
    await serve(servicer, FakeContext([good_request(bench, 1), InferRequest(9, is_cancel=True)]))
    assert len(backlogs_s) >= 3


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ((("user-agent", "x"), ("twinsplit-device", "cam")), ("cam", 4)),
        ((("twinsplit-device", "no name!"),), ("", 0)),
        ((("twinsplit-device", b"cam"),), ("", 0)),
        (None, ("", 0)),
    ],
)
async def test_admitted_tails_are_noted_with_the_device_that_named_itself(metadata: object, owner: object) -> None:
    bench = Bench()
    servicer = make_servicer(bench)
    log = servicer.arrivals.open("twin")
    await serve(servicer, FakeContext([good_request(bench, 4), bad_request(5)], metadata))
    (arrival,) = log.untold(bench.clock.monotonic_s())
    assert (arrival.device_id, arrival.task_id) == owner
    assert arrival.work_s == pytest.approx(bench.model.tail_s[0])
