"""What a queue is told by the pages of its back ends."""

from __future__ import annotations

import pytest

from edge.engine import pages
from edge.engine.back_end_load import BackEndLoad
from edge.engine.pages import PageWatch
from edge.engine.queue import EngineQueue
from edge.tail_work import TailWork
from twinsplit.clock import ManualClock

MODEL = "a" * 64
PLACES = ("http://a/metrics", "http://b/metrics")


def waiting(count: int) -> str:
    return f'nv_inference_pending_request_count{{model="net.segment_0",version="1"}} {count}\n'


def waited(answered: int, queue_us: int) -> str:
    return (
        f'nv_inference_request_success{{model="net",version="1"}} {answered}\n'
        f'nv_inference_queue_duration_us{{model="net.segment_0",version="1"}} {queue_us}\n'
    )


class Watched:
    """Two back ends, and what is known of them by what their pages say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._said: dict[str, str | None] = {}
        self._clock = ManualClock()
        loads: list[BackEndLoad[TailWork]] = [BackEndLoad(place, 4, 0.02) for place in range(2)]
        self.queue = EngineQueue[TailWork](8, {MODEL: (0.03, 0.02, 0.01)}, loads, 0.0)
        self._watch = PageWatch(PLACES, ["net"], self.queue, self._clock)
        monkeypatch.setattr(pages, "read_page", lambda url: self._said[url])

    async def told_wait_s(self, *said: str | None) -> list[float]:
        """How long a tail would wait at each back end by its page, half a minute after it was read last, seconds."""
        self._said = dict(zip(PLACES, said, strict=True))
        self._clock.advance(30.0)
        for place in range(len(PLACES)):
            await self._watch._read(place)
        return [load.told_wait_s(self._clock.monotonic_s()) for load in self.queue.back_ends]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


async def test_requests_that_wait_count_as_tails_of_middle_length_over_what_runs_at_once(watched: Watched) -> None:
    watched.queue.back_ends[1].measured(parallelism=2.0, speed_factor=3.0)
    found = await watched.told_wait_s(waiting(5), waiting(4))
    assert found == pytest.approx([5 * 0.02, 4 * 0.02 * 3.0 / 2.0])


async def test_without_their_number_it_is_how_long_those_waited_that_were_answered_since(watched: Watched) -> None:
    assert await watched.told_wait_s(waited(100, 1_000_000), waited(7, 0)) == [0.0, 0.0]
    found = await watched.told_wait_s(waited(110, 1_500_000), waited(8, 200_000))
    assert found == pytest.approx([0.05, 0.2])
    assert await watched.told_wait_s(waited(110, 1_500_000), waited(9, 200_000)) == pytest.approx([0.0, 0.0], abs=1e-9)


async def test_a_page_that_was_gone_is_compared_with_nothing(watched: Watched) -> None:
    await watched.told_wait_s(waited(100, 1_000_000), waited(100, 1_000_000))
    await watched.told_wait_s(None, waited(110, 1_000_000))
    found = await watched.told_wait_s(waited(5, 900_000_000), waited(120, 1_100_000))
    assert found == pytest.approx([0.0, 0.01])


async def test_the_number_of_those_that_wait_is_taken_before_how_long_they_did(watched: Watched) -> None:
    await watched.told_wait_s(waited(1, 0), waited(1, 0))
    found = await watched.told_wait_s(waited(2, 9_000_000) + waiting(1), waiting(0))
    assert found == pytest.approx([0.02, 0.0])
