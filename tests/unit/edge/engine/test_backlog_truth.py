"""The backlog behind an edge against the truth: servers whose queues are known to the test, and not to the edge."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Literal

import pytest

from edge.engine.back_end_load import BackEndLoad, Flight
from edge.engine.queue import EngineQueue
from edge.tail_queue import Tail

pytestmark = pytest.mark.slow
MODEL = "a" * 64
TAIL_S = {MODEL: (0.02, 0.012, 0.006)}


@dataclass
class Server:
    """First come first served by a number of workers; service times are those of the profile, times a factor."""

    workers: int
    factor: float
    free_at_s: list[float] = field(default_factory=list)
    waiting_until: list[float] = field(default_factory=list)
    """When those that wait will begin."""
    answered: list[tuple[float, float]] = field(default_factory=list)
    """When each that the server has not told of yet is answered, and how long it waits, seconds."""

    def __post_init__(self) -> None:
        self.free_at_s = [0.0] * self.workers

    def take(self, profiled_s: float, now_s: float) -> float:
        """When it will be answered."""
        begins_s = max(heapq.heappop(self.free_at_s), now_s)
        ends_s = begins_s + self.factor * profiled_s
        heapq.heappush(self.free_at_s, ends_s)
        self.waiting_until.append(begins_s)
        self.answered.append((ends_s, begins_s - now_s))
        return ends_s

    def wait_s(self, now_s: float) -> float:
        """The truth: how long a tail that came now would wait."""
        return max(min(self.free_at_s) - now_s, 0.0)

    def pending(self, now_s: float) -> int:
        self.waiting_until = [begins_s for begins_s in self.waiting_until if begins_s > now_s]
        return len(self.waiting_until)

    def mean_wait_s(self, now_s: float) -> float | None:
        """How long those waited that were answered since it was asked last; ``None``: none was."""
        waited_s = [wait_s for ends_s, wait_s in self.answered if ends_s <= now_s]
        self.answered = [each for each in self.answered if each[0] > now_s]
        return sum(waited_s) / len(waited_s) if waited_s else None


def errors(
    servers: list[Server],
    load: float,
    *,
    foreign: float = 0.0,
    burst_s: float = 0.0,
    tells: Literal["nothing", "requests", "waits"] = "nothing",
    seconds: float,
    limit: int = 4,
) -> tuple[float, float]:
    """Mean error of the backlog and the mean wait, seconds, over tails that arrive at random with this load.

    Args:
        foreign: load that others put on the servers.
        burst_s: they do so for as long, and are silent for as long; 0: always.
        tells: the servers say how many requests wait or how long those did that were answered, twice a second.
    """
    rng = random.Random(1)
    loads: list[BackEndLoad[int]] = [BackEndLoad(place, limit, 0.0127) for place in range(len(servers))]
    queue = EngineQueue[int](200, TAIL_S, loads, 0.0)
    for place, server in enumerate(servers):
        queue.back_ends[place].measured(float(server.workers), 1.0)
        queue.set_ready(place, True, 0.0)
    rate = load / 0.0127 * sum(server.workers / server.factor for server in servers)
    events: list[tuple[float, int, str, Flight[int] | None]] = []
    count = 0

    def at(when_s: float, kind: str, flight: Flight[int] | None = None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (when_s, count, kind, flight))

    at(0.0, "arrival")
    at(0.25, "page")
    if foreign:
        at(0.0, "foreign")
    expected: dict[Tail[int], float] = {}
    found: list[tuple[float, float]] = []
    while events and events[0][0] < seconds:
        now_s, _, kind, flight = heapq.heappop(events)
        if kind == "arrival":
            tail = Tail[int](MODEL, rng.randrange(3), "o", 0, now_s)
            expected[tail] = queue.backlog_s(now_s)
            queue.admit(tail, now_s)
            at(now_s + rng.expovariate(rate), "arrival")
        elif kind == "foreign":
            if not burst_s or now_s % (2 * burst_s) < burst_s:
                rng.choice(servers).take(0.0127, now_s)
            at(now_s + rng.expovariate(rate * foreign / load), "foreign")
        elif kind == "page":
            for place, server in enumerate(servers):
                told = queue.back_ends[place]
                if tells == "requests":
                    told.told_pending(server.pending(now_s), queue.mean_profiled_s, now_s)
                elif tells == "waits" and (waited_s := server.mean_wait_s(now_s)) is not None:
                    told.told(waited_s, now_s)
            at(now_s + 0.5, "page")
        elif flight is not None:
            queue.finished(flight, now_s)
        for sent in queue.dispatch(now_s).flights:
            server = servers[sent.place]
            met_s = now_s - sent.tail.arrived_at_s + server.wait_s(now_s)
            found.append((abs(expected[sent.tail] - met_s), met_s))
            at(server.take(sent.tail.profiled_s, now_s), "answer", sent)
    assert len(found) > 200
    return sum(error for error, _ in found) / len(found), sum(met for _, met in found) / len(found)


@pytest.mark.parametrize(
    ("workers", "most_error_share"),
    [([1], 0.05), ([1, 1], 0.35), ([2], 0.5)],
    ids=["one worker", "two back ends", "two workers"],
)
def test_from_our_own_requests_it_is_near_the_wait_that_tails_meet(workers: list[int], most_error_share: float) -> None:
    error_s, met_s = errors([Server(count, 1.0) for count in workers], 0.8, seconds=40.0)
    assert error_s < most_error_share * met_s


def test_of_a_back_end_that_became_slower_than_measured_it_is_right_by_itself() -> None:
    server = Server(1, 1.0)
    server.factor = 2.0
    error_s, met_s = errors([server], 0.6, seconds=40.0)
    assert error_s < 0.2 * met_s


@pytest.mark.parametrize("tells", ["requests", "waits"])
def test_what_others_do_there_is_seen_where_the_server_tells(tells: Literal["requests", "waits"]) -> None:
    blind_s, _ = errors([Server(1, 1.0)], 0.05, foreign=0.9, burst_s=5.0, seconds=60.0)
    told_s, _ = errors([Server(1, 1.0)], 0.05, foreign=0.9, burst_s=5.0, tells=tells, seconds=60.0)
    assert told_s < 0.9 * blind_s
