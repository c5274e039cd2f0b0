"""Tails run by servers of the Open Inference Protocol: the shell around :class:`edge.engine.queue.EngineQueue`.

All of it lives in the event loop. A back end that fails a call is asked whether it is ready before it gets another
tail; one that dies fails everything it had under way, which goes on to the others. What one that is full refuses waits
here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial

from edge.engine.back_end import Answer, BackEnd, BackEndError
from edge.engine.back_end_load import Flight
from edge.engine.pages import PageWatch
from edge.engine.probe import Probe
from edge.engine.queue import NO_ENGINE_TEXT, EngineQueue
from edge.models import HeldModel
from edge.tail_queue import EdgeReading, TailEnd
from edge.tail_work import EdgeTail, TailResult, TailWork
from twinsplit.clock import Clock
from twinsplit.errors import DeadlineError, RefusedError, StoppingError, TwinsplitError
from twinsplit.model.payload import decode_payload
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import encode
from twinsplit.transport.status import INTERNAL_TEXT, InternalError

_log = EventLog("edge.engine")

TICK_S = 0.1
"""How often what waits is looked at while nothing happens."""
INLINE_DECODE_S = 0.0003
"""A payload whose decoding takes longer is decoded in another thread."""
LEAST_PATIENCE_S = 5.0
PATIENCE_SHARE = 20.0
"""A back end that takes this many times as long as predicted, and at least so many seconds, is taken to hang."""
LAST_CALLS_S = 2.0
_EARLY_S = 0.01
_REPEATED_LINE_S = 10.0

TailFlight = Flight[TailWork]


class RemoteEngine:
    """Runs the tails of one queue at its back ends.

    Args:
        queue: Only this object touches it from now on.
        back_ends: In the order of the queue's.
        models: By digest.
        clock: The queue's clock.
        probes: Keep each back end's readiness; in the order of the back ends.
        pages: Reads what the back ends tell of their queues; ``None``: they tell nothing.
    """

    def __init__(
        self,
        queue: EngineQueue[TailWork],
        back_ends: Sequence[BackEnd],
        models: Mapping[str, HeldModel],
        clock: Clock,
        probes: Sequence[Probe],
        pages: PageWatch | None = None,
    ) -> None:
        self._queue = queue
        self._back_ends = back_ends
        self._models = models
        self._now_s = clock.monotonic_s
        self._probes = probes
        self._pages = pages
        self._ends: Counter[TailEnd] = Counter()
        self._outcomes: Counter[tuple[int, str]] = Counter()
        self._response = Histogram.of("twinsplit_engine_response_seconds")
        self._calls: dict[EdgeTail, asyncio.Task[None]] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._is_idle = asyncio.Event()
        self._is_giving_up = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchers = [self._loop.create_task(probe.run(self._set_ready)) for probe in self._probes]
        self._watchers.append(self._loop.create_task(self._tick()))
        if self._pages is not None:
            self._watchers.append(self._loop.create_task(self._pages.run()))

    def submit(self, tail: EdgeTail) -> None:
        self._queue.admit(tail, self._now_s())
        self._dispatch()

    def cancel(self, tail: EdgeTail) -> None:
        if self._queue.cancel(tail, self._now_s()):
            self._ends[TailEnd.CANCELLED] += 1
        elif (call := self._calls.get(tail)) is not None:
            call.cancel()

    def cancel_owner(self, owner: Hashable) -> None:
        for tail in self._queue.tails_of(owner):
            self.cancel(tail)

    def reading(self) -> EdgeReading:
        return self._queue.reading(self._now_s())

    def backlog_state(self) -> BacklogState:
        return self._queue.backlog_state(self._now_s())

    def backlog_s(self) -> float:
        return self._queue.backlog_s(self._now_s())

    def ends(self) -> dict[TailEnd, int]:
        return dict(self._ends)

    @property
    def batches(self) -> tuple[int, int]:
        return 0, 0

    @property
    def unready_reason(self) -> str | None:
        if self._queue.is_stopping:
            return "stopping"
        return None if self._queue.is_ready else "no engine behind this edge answers; the log says why"

    @property
    def is_stopping(self) -> bool:
        return self._queue.is_stopping

    def samples(self) -> Iterator[Sample]:
        now_s = self._now_s()
        for load, back_end in zip(self._queue.back_ends, self._back_ends, strict=True):
            labels = {"back_end": back_end.address}
            yield "twinsplit_engine_ready", labels, float(load.is_ready)
            yield "twinsplit_engine_tails_in_flight", labels, len(load.flights)
            yield "twinsplit_engine_backlog_seconds", labels, load.wait_s(now_s) if load.is_ready else None
            yield "twinsplit_engine_parallelism", labels, load.parallelism
        for (place, outcome), count in self._outcomes.items():
            labels = {"back_end": self._back_ends[place].address, "outcome": outcome}
            yield "twinsplit_engine_tails_total", labels, count
        yield "twinsplit_engine_response_seconds", {}, self._response
        yield "twinsplit_engine_backlog_error_seconds", {}, self._queue.backlog_error_s

    def stop_admitting(self) -> None:
        self._queue.is_stopping = True

    def close(self, grace_s: float) -> None:
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(grace_s), self._loop).result()

    async def _close(self, grace_s: float) -> None:
        self.stop_admitting()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wait_until_idle(), grace_s)
        self._is_giving_up = True
        for tail in self._queue.drain(self._now_s()):
            self._refuse(tail, TailEnd.FAILED, _stopped())
        calls = list(self._calls.values())
        for task in (*calls, *self._watchers):
            task.cancel()
        await asyncio.wait([*calls, *self._watchers], timeout=LAST_CALLS_S)
        await asyncio.gather(*(back_end.close() for back_end in self._back_ends))

    async def _wait_until_idle(self) -> None:
        while self._queue.queue_length:
            self._is_idle.clear()
            await self._is_idle.wait()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._queue.try_more()
            self._dispatch()

    def _set_ready(self, place: int, is_ready: bool) -> None:
        self._queue.set_ready(place, is_ready, self._now_s())
        if not is_ready:
            for flight in self._queue.back_ends[place].flights:
                self._calls[flight.tail].cancel()
        self._dispatch()

    def _dispatch(self) -> None:
        found = self._queue.dispatch(self._now_s())
        for flight in found.flights:
            call = self._calls[flight.tail] = asyncio.ensure_future(self._carry(flight))
            # One that is cancelled before it has begun never comes to say so itself.
            call.add_done_callback(partial(self._note_done, flight))
        for tail in found.expired:
            self._refuse(tail, TailEnd.EXPIRED, _too_late())
        for tail in found.stranded:
            self._refuse(tail, TailEnd.FAILED, StoppingError(NO_ENGINE_TEXT))
        if not self._queue.queue_length:
            self._is_idle.set()

    def _note_done(self, flight: TailFlight, call: asyncio.Task[None]) -> None:
        if call.cancelled():
            self._cancelled(flight)
            self._dispatch()

    async def _carry(self, flight: TailFlight) -> None:
        """One tail's way through one back end, whatever it comes to."""
        tail = flight.tail
        try:
            self._answered(flight, await self._answer(flight))
        except asyncio.CancelledError:
            self._cancelled(flight)
        except RefusedError as refusal:
            self._end(flight, "refused")
            self._refuse(tail, TailEnd.FAILED, refusal)
        except BackEndError as failure:
            self._move(flight, failure)
        except Exception as failure:  # noqa: BLE001 - one broken tail must not end what serves all others
            _log.exception("tail-failed", failure, model=tail.model, cut=tail.cut)
            self._end(flight, "failed")
            self._refuse(tail, TailEnd.FAILED, InternalError(INTERNAL_TEXT))
        self._dispatch()

    async def _answer(self, flight: TailFlight) -> Answer:
        tail = flight.tail
        model = self._models[tail.model]
        if model.decode_s[tail.cut] <= INLINE_DECODE_S:
            tensor = decode_payload(model.manifest, tail.cut, tail.work.header, tail.work.data)
        else:
            tensor = await asyncio.to_thread(decode_payload, model.manifest, tail.cut, tail.work.header, tail.work.data)
        patience_s = max(PATIENCE_SHARE * (tail.predicted_s + self._queue.backlog_s(self._now_s())), LEAST_PATIENCE_S)
        left_s = None if tail.deadline_at_s is None else max(tail.deadline_at_s - self._now_s(), 0.0)
        timeout_s = patience_s if left_s is None else min(left_s, patience_s)
        return await self._back_ends[flight.place].infer(
            model.manifest, model.digest, tail.cut, tensor, timeout_s=timeout_s, budget_s=left_s
        )

    def _answered(self, flight: TailFlight, answer: Answer) -> None:
        tail, now_s = flight.tail, self._now_s()
        load = self._queue.back_ends[flight.place]
        took_s = now_s - flight.sent_at_s
        # A server that does not say how long a tail waited in it is taken to have worked as long as for one alone.
        waited_s = max(took_s - flight.own_s, 0.0) if answer.queue_wait_s is None else min(answer.queue_wait_s, took_s)
        self._queue.finished(flight, now_s)
        if answer.backlog_s is not None:
            load.told(answer.backlog_s, now_s)
        self._response.observe(took_s)
        self._outcomes[flight.place, "finished"] += 1
        output = encode(answer.output, "float32", "none")
        wait_s = flight.sent_at_s - tail.arrived_at_s + waited_s
        self._deliver(tail, TailResult(TailEnd.FINISHED, output, None, wait_s, took_s - waited_s, self.backlog_state()))

    def _cancelled(self, flight: TailFlight) -> None:
        """Nobody waits for its tail any more, its back end is lost, or this edge stops."""
        tail = flight.tail
        if not tail.is_wanted:
            self._end(flight, "cancelled")
            self._refuse(tail, TailEnd.CANCELLED, None)
        else:
            self._move(flight, BackEndError("it does not say any more that it is ready"))

    def _move(self, flight: TailFlight, failure: BackEndError) -> None:
        tail, now_s = flight.tail, self._now_s()
        self._calls.pop(tail, None)
        if self._is_giving_up:
            self._end(flight, "cancelled")
            self._refuse(tail, TailEnd.FAILED, _stopped())
            return
        load, address = self._queue.back_ends[flight.place], self._back_ends[flight.place].address
        is_refused_late = isinstance(failure.refusal, DeadlineError)
        has_other = any(each.is_ready for each in self._queue.back_ends if each is not load)
        # A call that ends with the tail's time may do so a moment early.
        is_over = tail.deadline_at_s is not None and now_s >= tail.deadline_at_s - _EARLY_S
        if is_over or (is_refused_late and not has_other):
            self._end(flight, "late")
            self._refuse(tail, TailEnd.EXPIRED, _too_late())
            return
        if failure.is_full:
            self._outcomes[flight.place, "full"] += 1
            _log.warning("back-end-full", limit_s=_REPEATED_LINE_S, limit_key=address, address=address)
            self._queue.put_back(flight, now_s)
            return
        self._outcomes[flight.place, "moved"] += 1
        if is_refused_late:
            # It has more to do than is known here.
            load.refused(flight, now_s)
        else:
            _log.warning("back-end-failed", limit_s=1.0, limit_key=address, address=address, cause=str(failure))
            self._queue.set_ready(flight.place, False, now_s)
            self._probes[flight.place].ask_now()
        if not self._queue.move(flight, now_s):
            self._refuse(tail, TailEnd.FAILED, failure.refusal or InternalError(INTERNAL_TEXT))

    def _end(self, flight: TailFlight, outcome: str) -> None:
        self._outcomes[flight.place, outcome] += 1
        self._queue.failed(flight, self._now_s())

    def _refuse(self, tail: EdgeTail, end: TailEnd, error: TwinsplitError | None) -> None:
        wait_s = self._now_s() - tail.arrived_at_s
        self._deliver(tail, TailResult(end, None, error, wait_s, 0.0, self.backlog_state()))

    def _deliver(self, tail: EdgeTail, result: TailResult) -> None:
        self._calls.pop(tail, None)
        self._ends[result.end] += 1
        tail.work.deliver(tail, result)


def _stopped() -> StoppingError:
    return StoppingError("this edge has stopped; finish the task on the device or at another edge")


def _too_late() -> DeadlineError:
    return DeadlineError("the time left ran out before the answer was there; finish the task on the device")
