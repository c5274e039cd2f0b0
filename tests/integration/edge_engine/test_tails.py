"""Tails that run at servers of the Open Inference Protocol: answered, refused and cancelled as at the edge itself."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.models import HeldModel
from edge.tail_queue import Tail, TailEnd
from edge.tail_work import EdgeTail, TailResult, TailWork
from tests.integration.device_bench import until
from tests.integration.edge_engine.bench import answers, output_of, plain, request, running
from tests.integration.edge_engine.other_server import OtherServer
from twinsplit.errors import DeadlineError, StoppingError, TensorError
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import InternalError
from twinsplit.transport.tail_stream import InferRequest, infer_call


@pytest.mark.slow
async def test_answers_by_other_edges_equal_those_of_its_own_at_every_cut_and_representation(
    folder: Path, models: dict[str, HeldModel], runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    manifest = runtime.manifest
    asked = [(cut, n) for cut in range(manifest.segment_count) for n in range(len(manifest.cuts[cut].representations))]
    async with running(folder, models, id="a") as first, running(folder, models, id="b") as last:
        engine = f"oip://{first.address},{last.address}"
        async with running(folder, engine=engine) as remote, running(folder, models) as local:
            await until(lambda: all(load.is_ready for load in remote.executor._queue.back_ends))
            requests = [
                request(runtime, number, cut, plain(runtime, tensors, cut, position))
                for number, (cut, position) in enumerate(asked, 1)
            ]
            found, expected = await answers(remote, requests), await answers(local, requests)
            for number in expected:
                np.testing.assert_array_equal(output_of(found[number]), output_of(expected[number]))
                assert found[number].service_s > 0.0
            served = [edge.executor.ends()[TailEnd.FINISHED] for edge in (first, last)]
            assert min(served) > 5, "both have tails"
            assert remote.executor.ends() == {TailEnd.FINISHED: len(asked)}
            page = await asyncio.to_thread(_page, remote.http_address)
            assert f'twinsplit_engine_ready{{back_end="{first.address}"}} 1.0' in page
            assert "twinsplit_engine_backlog_error_seconds" in page
            assert 'twinsplit_provider_info{provider="oip"} 1.0' in page
            reading = remote.executor.reading()
            assert reading.queue_length == 0
            assert reading.backlog.backlog_s == 0.0


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        return str(answer.read().decode())


@pytest.mark.slow
async def test_what_a_back_end_cannot_do_is_refused_by_name_and_the_others_go_on(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    payload = plain(runtime, tensors, 2)
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        other.answer = other.invalid
        error = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(error, InternalError)
        assert "secret" not in str(error)
        other.answer = other.another_shape
        error = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(error, InternalError)
        other.answer = other.never
        late = (await answers(edge, [request(runtime, 1, 2, payload, budget_s=1.0)]))[1].error
        assert isinstance(late, DeadlineError)
        other.answer = other.right
        await until(lambda: edge.executor.unready_reason is None)
        broken = EncodedTensor(plain(runtime, tensors, 2, 2).header, b"no zstd")
        found = await answers(edge, [request(runtime, 1, 2, broken), request(runtime, 2, 2, payload)])
        assert isinstance(found[1].error, TensorError)
        np.testing.assert_allclose(output_of(found[2]), tensors[-1], atol=1e-5)
        assert edge.executor.ends() == {TailEnd.FAILED: 3, TailEnd.EXPIRED: 1, TailEnd.FINISHED: 1}


@pytest.mark.slow
async def test_a_cancelled_tail_is_cancelled_at_its_back_end_and_a_stopping_edge_gives_up_the_rest(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}", engine_in_flight=1, drain_s=0.1) as edge:
        await until(lambda: edge.executor.unready_reason is None)
        asked = other.asked
        other.answer = other.never
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for number in (1, 2, 3):
                await call.write(request(runtime, number, 1, plain(runtime, tensors, 1)))
            await until(lambda: other.asked == asked + 1)
            await call.write(InferRequest(1, is_cancel=True))
            await until(lambda: other.cancelled == 1)
            await until(lambda: other.asked == asked + 2)
            stopping = asyncio.ensure_future(edge.stop())
            ended = [await asyncio.wait_for(call.read(), 10.0) for _ in range(2)]
            assert {each.request_id for each in ended} == {2, 3}
            assert all(isinstance(each.error, StoppingError) for each in ended)
            await stopping
        ends = edge.executor.ends()
        assert ends == {TailEnd.CANCELLED: 1, TailEnd.FAILED: 2}


@pytest.mark.slow
async def test_a_tail_that_is_cancelled_before_it_was_sent_has_one_result_all_the_same(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        results: list[TailResult] = []
        payload = plain(runtime, tensors, 1)
        work = TailWork(payload.header, payload.data, lambda _, result: results.append(result))
        tail: EdgeTail = Tail(runtime.digest, 1, "owner", work, asyncio.get_running_loop().time())
        edge.executor.submit(tail)
        edge.executor.cancel_owner("owner")
        await until(lambda: len(results) > 0)
        assert [result.end for result in results] == [TailEnd.CANCELLED]
        assert edge.executor.reading().queue_length == 0
