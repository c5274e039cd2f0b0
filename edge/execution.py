"""The compute thread: takes tails from the queue, one by one or as a batch, decodes, runs and answers them.

The only place that locks: streams submit and cancel from the event loop, the compute thread finishes one tail and
starts the next without going through the loop, so that a busy edge has no gap between tails. Very short tails that meet
an idle edge are run by the thread that submits them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core import go_first
from edge.idle_check import IdleCheck
from edge.models import HeldModel
from edge.tail_queue import EdgeReading, Tail, TailEnd, TailQueue, Turn
from twinsplit.clock import Clock
from twinsplit.errors import ComputeError, DeadlineError, RefusedError, StoppingError, TwinsplitError
from twinsplit.model.payload import decode_payload
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import EncodedTensor, TensorHeader, encode
from twinsplit.transport.status import INTERNAL_TEXT, InternalError

_log = EventLog("edge.execution")

INLINE_S = 0.001
"""A tail predicted to take at most this long runs where it arrives: two changes of thread cost 0.1 to 0.5 ms, the more
the busier the machine is, and nobody else is made to wait longer than for the tail itself."""
LAST_SEGMENT_S = 2.0
"""A stopping edge waits this long for the segment that runs."""
INLINE_BUSY_SHARE = 0.25
"""Above this busy share nothing runs inline: work that waits for the event loop would be missing in the backlog."""


@dataclass(frozen=True, slots=True)
class TailResult:
    """How one admitted tail ended. Exactly one is delivered for every tail, unless it was cancelled while it waited."""

    end: TailEnd
    output: EncodedTensor | None
    """The network's output; ``None`` unless finished."""
    error: TwinsplitError | None
    """Why there is no output; ``None`` if finished or cancelled."""
    queue_wait_s: float
    service_s: float
    """Decoding and running, seconds; 0 where it never came to that."""
    backlog: BacklogState
    """At the end of this tail."""


@dataclass(slots=True)
class TailWork:
    """What is needed to run one tail and to answer it."""

    header: TensorHeader
    data: bytes | memoryview
    deliver: Callable[[EdgeTail, TailResult], None]
    """Called with the tail itself, from the compute thread or within ``submit``; must not block, nor hold the tail: two
    that hold each other keep the payload until garbage is collected."""


EdgeTail = Tail[TailWork]


class TailExecutor:
    """Runs the tails of one queue in one thread.

    Args:
        queue: The queue; only this object touches it from now on.
        models: By digest, as the queue's predicted times.
        clock: The queue's clock.
        sleep: For the emulated slowdown.
        inline_s: Longest predicted service that may run in the submitting thread; 0: none.
        idle_check: What the thread does when it has had nothing to do for a while.
    """

    def __init__(
        self,
        queue: TailQueue[TailWork],
        models: Mapping[str, HeldModel],
        clock: Clock,
        *,
        sleep: Callable[[float], None] = time.sleep,
        inline_s: float = INLINE_S,
        idle_check: IdleCheck | None = None,
    ) -> None:
        self._queue = queue
        self._models = models
        self._now_s = clock.monotonic_s
        self._sleep = sleep
        self._inline_s = inline_s
        self._idle_check = idle_check or IdleCheck(models, clock)
        self._work_arrives = threading.Condition(threading.Lock())
        self._is_closing = False
        self._is_abandoning = False
        self._thread = threading.Thread(target=self._run, name="edge-compute", daemon=True)
        self._ends: Counter[TailEnd] = Counter()
        self._served = self._batches = self._batched_tails = 0

    def start(self) -> None:
        """Start the compute thread."""
        self._thread.start()

    def submit(self, tail: EdgeTail) -> None:
        """Put a tail into the queue; a very short one that meets an idle edge has been delivered on return.

        Raises:
            StoppingError, EdgeFullError, DeadlineError: see :meth:`TailQueue.admit`.
        """
        with self._work_arrives:
            now_s = self._now_s()
            queue = self._queue
            is_idle = queue.queue_length == 0
            queue.admit(tail, now_s)
            if not (is_idle and tail.predicted_s <= self._inline_s and queue.busy_share <= INLINE_BUSY_SHARE):
                if queue.in_service is None:
                    self._work_arrives.notify()
                return
            turn = queue.start_next(now_s)
        self._carry_out(turn)
        with self._work_arrives:
            if self._queue.queue_length:
                self._work_arrives.notify()

    def cancel(self, tail: EdgeTail) -> None:
        """Nobody waits for ``tail`` any more; while it waits it leaves without a result."""
        with self._work_arrives:
            if self._queue.cancel(tail, self._now_s()):
                self._ends[TailEnd.CANCELLED] += 1

    def cancel_owner(self, owner: Hashable) -> None:
        """Nobody waits for the tails of ``owner`` any more."""
        with self._work_arrives:
            for _ in self._queue.cancel_owner(owner, self._now_s()):
                self._ends[TailEnd.CANCELLED] += 1

    def reading(self) -> EdgeReading:
        """The queue now."""
        with self._work_arrives:
            return self._queue.reading(self._now_s())

    def backlog_state(self) -> BacklogState:
        """The backlog now, with what carries it forward."""
        with self._work_arrives:
            return self._queue.backlog_state(self._now_s())

    def backlog_s(self) -> float:
        """The backlog now, seconds of service."""
        with self._work_arrives:
            return self._queue.backlog_s(self._now_s())

    def ends(self) -> dict[TailEnd, int]:
        """Tails that entered the queue and have left it, by how they left."""
        with self._work_arrives:
            return dict(self._ends)

    @property
    def batches(self) -> tuple[int, int]:
        """Batches run so far, and the tails in them."""
        return self._batches, self._batched_tails

    @property
    def unready_reason(self) -> str | None:
        """Why no tail would be run now; ``None``: one would."""
        if self._queue.is_stopping:
            return "stopping"
        return None if self._thread.is_alive() else "the compute thread has ended; the log says why"

    @property
    def is_stopping(self) -> bool:
        """Whether new tails are refused."""
        return self._queue.is_stopping

    def samples(self) -> Iterator[Sample]:
        """None: what this thread has is in every edge's metrics."""
        return iter(())

    def stop_admitting(self) -> None:
        """Refuse new tails from now on with ``STOPPING``."""
        with self._work_arrives:
            self._queue.stop_admitting()

    def close(self, grace_s: float) -> None:
        """Finish what waits for at most ``grace_s`` seconds, refuse the rest with ``STOPPING``, end the thread.

        Blocks; call it from a thread other than the event loop's.
        """
        with self._work_arrives:
            self._queue.stop_admitting()
            self._is_closing = True
            self._work_arrives.notify()
        self._thread.join(grace_s)
        if self._thread.is_alive():
            with self._work_arrives:
                self._is_abandoning = True
                abandoned = self._queue.drain(self._now_s())
            for tail in abandoned:
                self._refuse(tail, TailEnd.FAILED, _stopped())
            self._thread.join(LAST_SEGMENT_S)

    def _run(self) -> None:
        try:
            go_first()
            while True:
                with self._work_arrives:
                    turn, is_idle = self._next_turn(), False
                    while turn is None and not is_idle:
                        if self._is_closing:
                            return
                        served = self._served
                        has_work = self._work_arrives.wait(self._idle_check.pause_s)
                        turn, is_idle = self._next_turn(), not has_work and served == self._served
                if turn is not None:
                    self._carry_out(turn)
                else:
                    self._check()
        except Exception as failure:  # noqa: BLE001 - a dead thread must be seen in log and health, not guessed
            _log.exception("compute-thread-ended", failure)
            self.stop_admitting()

    def _check(self) -> None:
        found = self._idle_check.measured(self._is_idle)
        if found is None:
            return
        with self._work_arrives:
            believed = self._queue.speed_factor
            self._queue.checked(*found)
            now = self._queue.speed_factor
        if now != believed:
            _log.info("faster-than-believed", speed_factor=round(now, 3), believed=round(believed, 3))

    def _is_idle(self) -> bool:
        return not self._is_closing and self._queue.queue_length == 0

    def _next_turn(self) -> Turn[TailWork] | None:
        if self._queue.in_service is not None:  # the event loop is running a very short one
            return None
        turn = self._queue.start_next(self._now_s())
        return None if turn.tail is None and not turn.expired else turn

    def _carry_out(self, turn: Turn[TailWork]) -> None:
        for tail in turn.expired:
            self._refuse(tail, TailEnd.EXPIRED, _too_late())
        if turn.tail is not None:
            self._serve([turn.tail, *turn.others])

    def _serve(self, tails: list[EdgeTail]) -> None:
        first = tails[0]
        began_s = first.started_at_s if first.started_at_s is not None else self._now_s()
        ended: list[tuple[EdgeTail, TailEnd, EncodedTensor | None, TwinsplitError | None]] = []
        if len(tails) > 1:
            outputs = self._batch_outputs(tails)
            if outputs is not None:
                self._batches += 1
                self._batched_tails += len(tails)
                ended = [(tail, *self._end_of(tail, output)) for tail, output in zip(tails, outputs, strict=True)]
        ended = ended or [(tail, *self._served_alone(tail)) for tail in tails]
        ended_s = self._now_s()
        is_whole = all(end is TailEnd.FINISHED for _, end, _, _ in ended)
        with self._work_arrives:
            self._queue.finish(ended_s, ended_s - began_s if is_whole else None)
            self._served += len(tails)
            self._idle_check.tails_were_served()
            self._ends.update(end for _, end, _, _ in ended)
            backlog = self._queue.backlog_state(ended_s)
        for tail, end, output, error in ended:
            result = TailResult(end, output, error, began_s - tail.arrived_at_s, ended_s - began_s, backlog)
            tail.work.deliver(tail, result)

    def _served_alone(self, tail: EdgeTail) -> tuple[TailEnd, EncodedTensor | None, TwinsplitError | None]:
        try:
            return self._end_of(tail, self._output(tail))
        except RefusedError as refusal:
            return TailEnd.FAILED, None, refusal
        except Exception as failure:  # noqa: BLE001 - one broken tail must not end the thread that serves all others
            error = failure if isinstance(failure, TwinsplitError) else InternalError(INTERNAL_TEXT)
            _log.exception("tail-failed", failure, model=tail.model, cut=tail.cut)
            return TailEnd.FAILED, None, error

    def _end_of(
        self, tail: EdgeTail, output: EncodedTensor | None
    ) -> tuple[TailEnd, EncodedTensor | None, TwinsplitError | None]:
        """How a tail ends that has this output; ``None``: it was left off, since nobody waited for it."""
        if output is not None:
            return TailEnd.FINISHED, output, None
        if tail.is_wanted:
            return TailEnd.EXPIRED, None, _too_late()
        if self._is_abandoning:
            return TailEnd.FAILED, None, _stopped()
        return TailEnd.CANCELLED, None, None

    def _output(self, tail: EdgeTail) -> EncodedTensor | None:
        model = self._models[tail.model]
        tensor = decode_payload(model.manifest, tail.cut, tail.work.header, tail.work.data)
        output = self._through([tail], model, tensor)
        return None if output is None else encode(output, "float32", "none")

    def _batch_outputs(self, tails: list[EdgeTail]) -> list[EncodedTensor | None] | None:
        """Outputs of several tails run at once, ``None`` for one that nobody waits for any more; ``None`` in all: they
        cannot be run so, and are to be run one by one."""
        model = self._models[tails[0].model]
        try:
            tensors = [decode_payload(model.manifest, t.cut, t.work.header, t.work.data) for t in tails]
            output = self._through(tails, model, np.concatenate(tensors))
            if output is None:
                return [None] * len(tails)
            if len(output) != len(tails):
                raise ComputeError(f"a batch of {len(tails)} gave {len(output)} outputs")
        except RefusedError:
            return None
        except Exception as failure:  # noqa: BLE001 - what a batch cannot do, each tail may by itself
            _log.exception("batch-failed", failure, model=tails[0].model, cut=tails[0].cut)
            with self._work_arrives:
                self._queue.batches.forbid(tails[0].model)
            return None
        now_s = self._now_s()
        return [
            encode(output[row : row + 1], "float32", "none") if tail.is_wanted_at(now_s) else None
            for row, tail in enumerate(tails)
        ]

    def _through(self, tails: list[EdgeTail], model: HeldModel, tensor: NDArray[Any]) -> NDArray[Any] | None:
        """The network's output from the tensor of the tails' cut; ``None`` once nobody waits for any of them."""
        for index in range(tails[0].cut, model.manifest.segment_count):
            began_s = self._now_s()
            if not any(tail.is_wanted_at(began_s) for tail in tails):
                return None
            tensor = model.runtime.run_segment(index, tensor)
            if model.slowdown > 1.0:
                took_s = model.segment_s[index] if len(tails) == 1 else self._now_s() - began_s
                left_s = began_s + model.slowdown * took_s - self._now_s()
                if left_s > 0.0:
                    self._sleep(left_s)
        return tensor

    def _refuse(self, tail: EdgeTail, end: TailEnd, error: TwinsplitError) -> None:
        now_s = self._now_s()
        with self._work_arrives:
            self._ends[end] += 1
            backlog = self._queue.backlog_state(now_s)
        tail.work.deliver(tail, TailResult(end, None, error, now_s - tail.arrived_at_s, 0.0, backlog))


def _stopped() -> StoppingError:
    return StoppingError("this edge has stopped; finish the task on the device or at another edge")


def _too_late() -> DeadlineError:
    return DeadlineError("the time left ran out before the answer was there; finish the task on the device")
