"""Load from other users: real tails sent through the same queue, at arrivals that a seed reproduces.

Used by ``twinsplit edge load`` and, as a class, by tests, the demo and benchmarks. Every arrival gets exactly one end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc.aio

from edge.load_pattern import LoadShape, arrivals_s
from twinsplit.clock import Clock, SystemClock
from twinsplit.errors import PeerError, TwinsplitError
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.status import code_of
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

MEASURING_TAILS = 9
MEASURING_TIMEOUT_S = 20.0
LAST_ANSWERS_S = 5.0
RECONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class LoadTails:
    """What every user of the load asks: tails of one model after one cut."""

    model_digest: str
    cut: int
    payloads: Sequence[EncodedTensor]
    """Used in turn."""
    max_message_bytes: int
    """Limit that the channel to the edge needs."""
    budget_s: float | None = None
    """Time left that is told to the edge with each tail; ``None``: no limit."""


@dataclass(slots=True)
class LoadSummary:
    """What became of the load. ``sent + unsent`` is the number of arrivals, and every sent one has one end."""

    sent: int = 0
    unsent: int = 0
    """Arrivals while no stream was open."""
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By error code."""
    lost: int = 0
    """Sent, but the stream ended or the run was over before the answer."""
    elapsed_s: float = 0.0
    service_s: float = 0.0
    """Time in service that the edge told of answered tails, summed."""
    queue_wait_s: float = 0.0
    """Waiting that the edge told of answered tails, summed."""
    latest_backlog_s: float = 0.0
    largest_lag_s: float = 0.0
    """How much later than its arrival a tail was sent at worst: above some milliseconds this machine is too busy."""
    assumed_service_s: float = 0.0
    """Service time of one tail from which the arrival rate was made."""
    reconnections: int = 0

    @property
    def arrivals(self) -> int:
        return self.sent + self.unsent

    @property
    def refused_total(self) -> int:
        return sum(self.refused.values())

    @property
    def pending(self) -> int:
        """Sent and not yet ended."""
        return self.sent - self.answered - self.refused_total - self.lost

    @property
    def offered_load(self) -> float:
        """Work offered so far, share of the edge's capacity."""
        return self.arrivals * self.assumed_service_s / self.elapsed_s if self.elapsed_s > 0.0 else 0.0

    @property
    def mean_service_s(self) -> float | None:
        """``None``: nothing was answered."""
        return self.service_s / self.answered if self.answered else None

    @property
    def mean_queue_wait_s(self) -> float | None:
        """``None``: nothing was answered."""
        return self.queue_wait_s / self.answered if self.answered else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {
            "refused": dict(self.refused),
            "arrivals": self.arrivals,
            "offered_load": self.offered_load,
            "mean_service_s": self.mean_service_s,
            "mean_queue_wait_s": self.mean_queue_wait_s,
        }


class LoadGenerator:
    """Sends tails to one edge as many independent users would.

    Args:
        channel: To the edge; stays the caller's. Its message limit must allow the payloads.
        address: For messages to people.
        tails: What is asked.
        shape: When.
        seed: Same seed, shape and service time: same arrivals.
        service_s: Service time of one such tail at the edge; ``None``: measured first with a few tails.
        clock: ``None``: the system's.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: str,
        tails: LoadTails,
        shape: LoadShape,
        seed: int,
        *,
        service_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not tails.payloads:
            raise ValueError("a load needs at least one payload")
        self._channel = channel
        self._address = address
        self._tails = tails
        self._shape = shape
        self._seed = seed
        self._service_s = service_s
        self._clock = clock or SystemClock()
        self._payloads = itertools.cycle(tails.payloads)
        self._request_ids = itertools.count(1)
        self._call: grpc.aio.StreamStreamCall[InferRequest, InferResponse] | None = None
        self._pending: set[int] = set()
        self._is_answered = asyncio.Event()
        self._is_answered.set()
        self.summary = LoadSummary()
        """Live while the run goes on."""

    async def measure_service_s(self) -> float:
        """Median service time of a few tails sent one after the other, seconds; kept for the arrivals.

        Raises:
            PeerError: the edge does not answer.
            RefusedError: the edge refuses such tails.
        """
        call = infer_call(self._channel, self._clock)
        times = []
        try:
            for _ in range(MEASURING_TAILS):
                await call.write(self._request())
                answer = await asyncio.wait_for(call.read(), MEASURING_TIMEOUT_S)
                if not isinstance(answer, InferResponse):
                    raise self._unreachable()
                problem = answer.error or answer.problem
                if problem is not None:
                    raise problem
                times.append(answer.service_s)
        except (grpc.aio.AioRpcError, asyncio.TimeoutError, asyncio.InvalidStateError):
            raise self._unreachable() from None
        finally:
            call.cancel()
        self._service_s = max(statistics.median(times), 1e-5)
        return self._service_s

    async def run(
        self,
        seconds: float | None = None,
        *,
        progress: Callable[[LoadSummary], None] | None = None,
        progress_s: float = 1.0,
    ) -> LoadSummary:
        """Send until ``seconds`` have passed (``None``: until cancelled), then wait shortly for the last answers.

        Args:
            seconds: Length of the run, from the first instant of the arrival process.
            progress: Told the live summary every ``progress_s`` seconds.

        Raises:
            PeerError, RefusedError: see :meth:`measure_service_s`; afterwards an edge that is lost is counted and
                reconnected to.
        """
        service_s = self._service_s if self._service_s is not None else await self.measure_service_s()
        self.summary.assumed_service_s = service_s
        began_s = self._clock.monotonic_s()
        keeper = asyncio.ensure_future(self._keep_stream())
        ticker = asyncio.ensure_future(self._tick(began_s, progress, progress_s))
        try:
            await asyncio.sleep(0.0)  # the keeper opens the first stream
            for arrival_s in arrivals_s(self._shape, service_s, self._seed):
                if seconds is not None and arrival_s > seconds:
                    break
                await self._wait_until(began_s + arrival_s)
                await self._send(began_s + arrival_s)
            if seconds is not None:
                await self._wait_until(began_s + seconds)
        finally:
            ticker.cancel()
            self.summary.elapsed_s = self._clock.monotonic_s() - began_s
            await self._end(keeper, ticker)
        return self.summary

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_answered.wait(), LAST_ANSWERS_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._lose_pending()

    async def _wait_until(self, instant_s: float) -> None:
        left_s = instant_s - self._clock.monotonic_s()
        if left_s > 0.0:
            await asyncio.sleep(left_s)

    async def _send(self, due_s: float) -> None:
        call = self._call
        if call is None:
            self.summary.unsent += 1
            return
        request = self._request()
        self._pending.add(request.request_id)
        self._is_answered.clear()
        self.summary.sent += 1
        self.summary.largest_lag_s = max(self.summary.largest_lag_s, self._clock.monotonic_s() - due_s)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(request)

    async def _keep_stream(self) -> None:
        while True:
            call = infer_call(self._channel, self._clock)
            self._call = call
            try:
                while isinstance(answer := await call.read(), InferResponse):
                    self._note(answer)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass
            finally:
                call.cancel()
                self._call = None
                self._lose_pending()
            await asyncio.sleep(RECONNECT_S)
            self.summary.reconnections += 1

    def _note(self, answer: InferResponse) -> None:
        if answer.backlog is not None:
            self.summary.latest_backlog_s = answer.backlog.backlog_s
        if answer.request_id not in self._pending:
            return
        self._pending.discard(answer.request_id)
        if not self._pending:
            self._is_answered.set()
        problem: TwinsplitError | None = answer.error or answer.problem
        if problem is not None:
            self.summary.refused[code_of(problem).value] += 1
            return
        self.summary.answered += 1
        self.summary.service_s += answer.service_s
        self.summary.queue_wait_s += answer.queue_wait_s

    async def _tick(self, began_s: float, progress: Callable[[LoadSummary], None] | None, progress_s: float) -> None:
        while progress is not None:
            await asyncio.sleep(progress_s)
            self.summary.elapsed_s = self._clock.monotonic_s() - began_s
            progress(self.summary)

    def _lose_pending(self) -> None:
        self.summary.lost += len(self._pending)
        self._pending.clear()
        self._is_answered.set()

    def _request(self) -> InferRequest:
        return InferRequest(
            request_id=next(self._request_ids),
            model_digest=self._tails.model_digest,
            cut=self._tails.cut,
            budget_s=self._tails.budget_s,
            tensor=next(self._payloads),
        )

    def _unreachable(self) -> PeerError:
        return PeerError(
            f"the edge at {self._address} does not answer; see that `twinsplit edge serve` runs there and that both "
            "sides use TLS or neither does"
        )
