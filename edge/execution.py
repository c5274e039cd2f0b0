"""The compute thread: takes tails from the queue, one by one or as a batch, has them run and answers them.

The only place that locks: streams submit and cancel from the event loop, the compute thread finishes one tail and
starts the next without going through the loop, so that a busy edge has no gap between tails. Very short tails that meet
an idle edge are run by the thread that submits them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from edge.computing import Computed, Computing, LocalComputing
from edge.core import go_first
from edge.idle_check import IdleCheck
from edge.models import HeldModel
from edge.tail_queue import EdgeReading, TailEnd, TailQueue, Turn
from edge.tail_work import EdgeTail, TailResult, TailWork
from twinsplit.clock import Clock
from twinsplit.errors import DeadlineError, RefusedError, StoppingError, TwinsplitError
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.status import INTERNAL_TEXT, InternalError

_log = EventLog("edge.execution")

INLINE_S = 0.001
"""A tail predicted to take at most this long runs where it arrives: two changes of thread cost 0.1 to 0.5 ms, the more
the busier the machine is, and nobody else is made to wait longer than for the tail itself."""
LAST_SEGMENT_S = 2.0
"""A stopping edge waits this long for the segment that runs."""
INLINE_BUSY_SHARE = 0.25
"""Above this busy share nothing runs inline: work that waits for the event loop would be missing in the backlog."""


class _Ended(NamedTuple):
    """How one tail ended."""

    tail: EdgeTail
    end: TailEnd
    output: EncodedTensor | None
    error: TwinsplitError | None


class _Run(NamedTuple):
    """What was run at once."""

    began_s: float
    ended_s: float
    ended: list[_Ended]


class TailExecutor:
    """Has the tails of one queue run by one thread.

    Args:
        queue: The queue; only this object touches it from now on.
        models: By digest, as the queue's predicted times.
        clock: The queue's clock.
        computing: What runs them; ``None``: that thread itself.
        inline_s: Longest predicted service that may run in the submitting thread; 0: none.
        idle_check: What the thread does when it has had nothing to do for a while.
    """

    def __init__(
        self,
        queue: TailQueue[TailWork],
        models: Mapping[str, HeldModel],
        clock: Clock,
        *,
        computing: Computing | None = None,
        inline_s: float = INLINE_S,
        idle_check: IdleCheck | None = None,
    ) -> None:
        self._queue = queue
        self._now_s = clock.monotonic_s
        self._computing = computing or LocalComputing(models, clock)
        self._inline_s = inline_s
        self._idle_check = idle_check or IdleCheck(models, self._computing.quickest_s)
        self._work_arrives = threading.Condition(threading.Lock())
        self._is_closing = False
        self._is_abandoning = False
        self._thread = threading.Thread(target=self._run, name="edge-compute", daemon=True)
        self._ends: Counter[TailEnd] = Counter()
        self._served = self._batches = self._batched_tails = 0

    def start(self) -> None:
        """Start the compute thread."""
        self._computing.start(self._wake)
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
                    self._computing.look_again()
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
            self._computing.look_again()

    def cancel_owner(self, owner: Hashable) -> None:
        """Nobody waits for the tails of ``owner`` any more."""
        with self._work_arrives:
            for _ in self._queue.cancel_owner(owner, self._now_s()):
                self._ends[TailEnd.CANCELLED] += 1
            self._computing.look_again()

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
        return self._computing.lack if self._thread.is_alive() else "the compute thread has ended; the log says why"

    @property
    def is_stopping(self) -> bool:
        """Whether new tails are refused."""
        return self._queue.is_stopping

    def samples(self) -> Iterator[Sample]:
        """Those of what runs the tails."""
        return self._computing.samples()

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
            self._computing.look_again()
        self._thread.join(grace_s)
        with self._work_arrives:
            self._is_abandoning = True
            abandoned = self._queue.drain(self._now_s())
            self._computing.look_again()
        for tail in abandoned:
            self._refuse(tail, TailEnd.FAILED, _stopped())
        self._thread.join(LAST_SEGMENT_S)
        self._computing.close()

    def _wake(self) -> None:
        with self._work_arrives:
            self._work_arrives.notify()

    def _run(self) -> None:
        try:
            go_first()
            while True:
                with self._work_arrives:
                    turn, is_idle = self._next_turn(), False
                    while turn is None and not is_idle:
                        if self._is_closing:
                            return
                        if self._computing.lack is not None:
                            break
                        served = self._served
                        has_work = self._work_arrives.wait(self._idle_check.pause_s)
                        turn, is_idle = self._next_turn(), not has_work and served == self._served
                if turn is None and self._computing.lack is not None:
                    self._computing.restore()
                elif turn is None:
                    self._check()
                while turn is not None:
                    turn = self._carry_out(turn, takes_next=True)
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
        # The event loop is running a very short one, or nothing can be run.
        if self._queue.in_service is not None or self._computing.lack is not None:
            return None
        turn = self._queue.start_next(self._now_s())
        return None if turn.tail is None and not turn.expired else turn

    def _carry_out(self, turn: Turn[TailWork], *, takes_next: bool = False) -> Turn[TailWork] | None:
        """Do what the queue says. ``takes_next``: put the next tail into service as soon as these have ended, before
        they are answered: a computing process has begun with it by then. Its turn, if there is one."""
        for tail in turn.expired:
            tail.is_wanted = False
            self._refuse(tail, TailEnd.EXPIRED, _too_late())
        return None if turn.tail is None else self._serve([turn.tail, *turn.others], takes_next=takes_next)

    def _serve(self, tails: list[EdgeTail], *, takes_next: bool) -> Turn[TailWork] | None:
        with self._work_arrives:
            following = self._queue.following
        together = self._run_together(tails) if len(tails) > 1 else None
        runs = [self._run_alone(tail, following) for tail in tails] if together is None else [together]
        began_s, ended_s = runs[0].began_s, runs[-1].ended_s
        ended = [each for run in runs for each in run.ended]
        is_whole = all(each.end is TailEnd.FINISHED for each in ended)
        with self._work_arrives:
            self._queue.finish(ended_s, ended_s - began_s if is_whole else None)
            self._served += len(tails)
            self._idle_check.tails_were_served()
            self._ends.update(each.end for each in ended)
            backlog = self._queue.backlog_state(ended_s)
            following_turn = self._next_turn() if takes_next else None
        for tail, end, output, error in ended:
            result = TailResult(end, output, error, began_s - tail.arrived_at_s, ended_s - began_s, backlog)
            tail.work.deliver(tail, result)
        return following_turn

    def _run_alone(self, tail: EdgeTail, following: EdgeTail | None) -> _Run:
        began_s = self._now_s()
        try:
            return self._run_of([tail], self._computing.run([tail], following))
        except RefusedError as refusal:
            error: TwinsplitError = refusal
        except Exception as failure:  # noqa: BLE001 - one broken tail must not end the thread that serves all others
            error = failure if isinstance(failure, TwinsplitError) else InternalError(INTERNAL_TEXT)
            _log.exception("tail-failed", failure, model=tail.model, cut=tail.cut)
        return _Run(began_s, self._now_s(), [_Ended(tail, TailEnd.FAILED, None, error)])

    def _run_together(self, tails: list[EdgeTail]) -> _Run | None:
        """Several tails run at once; ``None``: they cannot be run so, and are to be run one by one."""
        try:
            computed = self._computing.run(tails)
        except Exception as failure:  # noqa: BLE001 - what a batch cannot do, each tail may by itself
            if isinstance(failure, RefusedError) and not isinstance(failure, InternalError):
                return None
            if self._computing.lack is None:
                _log.exception("batch-failed", failure, model=tails[0].model, cut=tails[0].cut)
                with self._work_arrives:
                    self._queue.batches.forbid(tails[0].model)
            return None
        self._batches += 1
        self._batched_tails += len(tails)
        return self._run_of(tails, computed)

    def _run_of(self, tails: list[EdgeTail], computed: Computed) -> _Run:
        ended = [self._end_of(tail, output) for tail, output in zip(tails, computed.outputs, strict=True)]
        return _Run(computed.began_s, computed.ended_s, ended)

    def _end_of(self, tail: EdgeTail, output: EncodedTensor | None) -> _Ended:
        """How a tail ends that has this output; ``None``: it was left off, since nobody waited for it."""
        if output is not None:
            return _Ended(tail, TailEnd.FINISHED, output, None)
        if tail.is_wanted:
            return _Ended(tail, TailEnd.EXPIRED, None, _too_late())
        if self._is_abandoning:
            return _Ended(tail, TailEnd.FAILED, None, _stopped())
        return _Ended(tail, TailEnd.CANCELLED, None, None)

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
