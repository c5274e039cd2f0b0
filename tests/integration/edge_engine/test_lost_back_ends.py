"""Servers behind an edge that die, hang and come back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.engine import probe, remote
from edge.engine.back_end import CHANNELS, Answer, BackEnd
from edge.tail_queue import TailEnd
from tests.integration.device_bench import until
from tests.integration.edge_engine.bench import answers, output_of, plain, request, running
from tests.integration.edge_engine.other_server import OtherServer
from tests.integration.stopping import stopped_after
from twinsplit.errors import StoppingError
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip.messages import InferenceRequest, InferenceResponse
from twinsplit.transport import limits

PINGED_S = 6.0
"""Long enough for a server to have closed a connection that is pinged whenever gRPC allows it, once a second."""


@pytest.mark.slow
async def test_tails_of_a_back_end_that_dies_are_answered_by_the_other(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer, second: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address},{second.address}", engine_in_flight=3) as edge:
        await until(lambda: all(load.is_ready for load in edge.executor._queue.back_ends))
        asked = other.asked
        other.answer = other.never
        pending = asyncio.ensure_future(
            answers(edge, [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 31)])
        )
        await until(lambda: other.asked >= asked + 3)
        await other.stop()
        found = await pending
        assert len(found) == 30
        for response in found.values():
            np.testing.assert_allclose(output_of(response), tensors[-1], atol=1e-5)
        assert edge.executor.ends() == {TailEnd.FINISHED: 30}
        samples = {(name, tuple(labels.values())): value for name, labels, value in edge.executor.samples()}
        assert samples["twinsplit_engine_tails_total", (other.address, "moved")] >= 3
        await until(lambda: not edge.executor._queue.back_ends[0].is_ready)


@pytest.mark.slow
async def test_without_any_back_end_tails_are_refused_by_name_until_one_is_back(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    payload = plain(runtime, tensors, 2)
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        other.is_ready, other.answer = False, other.unavailable
        refused = (await answers(edge, [request(runtime, 1, 2, payload)]))[1].error
        assert isinstance(refused, StoppingError)
        assert "no engine" in str(refused)
        assert edge.executor.unready_reason is not None
        assert edge.executor.backlog_s() > 10.0
        other.is_ready, other.answer = True, other.right
        await until(lambda: edge.executor.unready_reason is None)
        assert output_of((await answers(edge, [request(runtime, 1, 2, payload)]))[1]).shape == (1, 4)


@pytest.mark.slow
async def test_a_back_end_that_died_is_used_again_when_it_is_back(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        await other.stop()
        await until(lambda: edge.executor.unready_reason is not None)
        again = OtherServer(runtime)
        await again.start(other.address)
        async with stopped_after(again):
            await until(lambda: edge.executor.unready_reason is None)
            found = await answers(edge, [request(runtime, 1, 1, plain(runtime, tensors, 1))])
            np.testing.assert_allclose(output_of(found[1]), tensors[-1], atol=1e-5)


@pytest.mark.slow
async def test_tails_of_a_back_end_that_hangs_go_to_the_other(
    folder: Path,
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    other: OtherServer,
    second: OtherServer,
) -> None:
    async with running(folder, engine=f"oip://{other.address},{second.address}", engine_in_flight=2) as edge:
        asked = other.asked
        other.answer = other.never
        pending = asyncio.ensure_future(
            answers(edge, [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 9)])
        )
        await until(lambda: other.asked == asked + 2)
        other.is_ready = False  # what a hanging server is found by: it does not say that it is ready
        found = await pending
        assert all(response.error is None for response in found.values())
        assert other.cancelled == 2


@pytest.mark.slow
async def test_tails_that_a_back_end_keeps_for_too_long_go_to_the_other_though_it_says_that_it_is_ready(
    folder: Path,
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    other: OtherServer,
    second: OtherServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "LEAST_PATIENCE_S", 0.3)
    async with running(folder, engine=f"oip://{other.address},{second.address}", engine_in_flight=2) as edge:
        await until(lambda: all(load.is_ready for load in edge.executor._queue.back_ends))
        kept_up_to = other.asked + 2

        async def at_first_never(asked: InferenceRequest, context: Any) -> InferenceResponse:
            return await (other.never if other.asked <= kept_up_to else other.right)(asked, context)

        other.answer = at_first_never
        tails = [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 9)]
        found = await answers(edge, tails)
        assert all(response.error is None for response in found.values())
        assert other.cancelled == 2


@pytest.mark.slow
async def test_a_back_end_that_is_known_to_be_slow_is_waited_for_longer(
    folder: Path,
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    other: OtherServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "LEAST_PATIENCE_S", 0.01)
    given_s: list[float] = []
    infer = BackEnd.infer

    async def noted(*given: Any, timeout_s: float, budget_s: float | None) -> Answer:
        given_s.append(timeout_s)
        return await infer(*given, timeout_s=timeout_s, budget_s=budget_s)

    monkeypatch.setattr(BackEnd, "infer", noted)
    other.answer = other.slowly
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        found = await answers(edge, [request(runtime, 1, 1, plain(runtime, tensors, 1))])
        assert found[1].error is None
    assert given_s[-1] >= 20.0 * other.SLEEPS_S[1]


@pytest.mark.slow
async def test_connections_without_tails_are_kept_though_the_server_allows_no_pings(
    folder: Path,
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    other: OtherServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "KEEPALIVE_TIME_S", 0.3)
    monkeypatch.setattr(probe, "PERIOD_S", 0.05)
    other.answer = other.slowly
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        tails = [request(runtime, n, 1, plain(runtime, tensors, 1)) for n in range(1, 9)]
        assert all(response.error is None for response in (await answers(edge, tails)).values())
        await asyncio.sleep(PINGED_S)
        assert all(response.error is None for response in (await answers(edge, tails)).values())
    assert len(other.connections) == CHANNELS, "none was closed for its pings and made again"
