"""Servers behind an edge that have as much to do as they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.service import EdgeService
from edge.tail_queue import TailEnd
from tests.integration.device_bench import until
from tests.integration.edge_engine.bench import answers, output_of, plain, request, running
from tests.integration.edge_engine.other_server import OtherServer
from twinsplit.errors import DeadlineError, EdgeFullError, PeerLimitError, RefusedError
from twinsplit.model.runtime import SegmentRuntime

pytestmark = pytest.mark.slow

SLOWDOWN = 300.0
"""Makes a tail of the tiny model last some milliseconds, so that tails meet."""


def outcomes(edge: EdgeService) -> dict[str, float]:
    """Of tails at the first back end."""
    found = {tuple(labels.values()): value for name, labels, value in edge.executor.samples() if "tails_total" in name}
    first = edge.executor._back_ends[0].address
    return {outcome: count for (address, outcome), count in found.items() if address == first}


async def test_what_an_edge_behind_the_edge_has_no_room_for_waits_before_it(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]]
) -> None:
    async with (
        running(folder, queue_capacity=2, emulate_slowdown=SLOWDOWN) as inner,
        running(folder, engine=f"oip://{inner.address}", engine_in_flight=8) as edge,
    ):
        await until(lambda: edge.executor.unready_reason is None)
        tails = [request(runtime, n, 0, plain(runtime, tensors, 0)) for n in range(1, 41)]
        for response in (await answers(edge, tails)).values():
            np.testing.assert_allclose(output_of(response), tensors[-1], atol=1e-2)
        assert edge.executor.ends() == {TailEnd.FINISHED: 40}
        found = outcomes(edge)
        assert found.pop("full") > 0
        assert found == {"finished": 40}, "none was lost to it"


@pytest.mark.parametrize("cause", [EdgeFullError("no room"), PeerLimitError("too many calls at once")])
async def test_a_tail_that_waits_for_a_full_server_is_refused_when_its_time_is_over(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer, cause: RefusedError
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        other.answer = other.refusing(cause)
        found = await answers(edge, [request(runtime, 1, 1, plain(runtime, tensors, 1), budget_s=0.3)])
        assert isinstance(found[1].error, DeadlineError)
        assert edge.executor.unready_reason is None
        other.answer = other.right
        found = await answers(edge, [request(runtime, 2, 1, plain(runtime, tensors, 1))])
        np.testing.assert_allclose(output_of(found[2]), tensors[-1], atol=1e-5)


async def test_what_a_server_cannot_answer_in_time_is_refused_at_once_if_there_is_no_other(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address}") as edge:
        await until(lambda: edge.executor.unready_reason is None)
        asked, other.answer = other.asked, other.refusing(DeadlineError("too much to do here"))
        found = await answers(edge, [request(runtime, 1, 1, plain(runtime, tensors, 1), budget_s=30.0)])
        assert isinstance(found[1].error, DeadlineError)
        assert other.asked == asked + 1
        assert edge.executor.unready_reason is None
        assert outcomes(edge) == {"late": 1}


async def test_what_a_server_cannot_answer_in_time_goes_to_the_other(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer, second: OtherServer
) -> None:
    async with running(folder, engine=f"oip://{other.address},{second.address}") as edge:
        loads = edge.executor._queue.back_ends
        await until(lambda: all(load.is_ready for load in loads))
        other.answer = other.refusing(DeadlineError("too much to do here"))
        for number in range(1, 9):
            tail = request(runtime, number, 1, plain(runtime, tensors, 1), budget_s=30.0)
            np.testing.assert_allclose(output_of((await answers(edge, [tail]))[number]), tensors[-1], atol=1e-5)
        assert all(load.is_ready for load in loads)
