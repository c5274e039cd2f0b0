"""The computing process: loads and measures the models, then runs what it is sent until the edge hangs up."""

from __future__ import annotations

import mmap
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from edge.computing import LocalComputing
from edge.computing_process.messages import (
    FLAGS,
    Ended,
    Kind,
    Measured,
    Order,
    OrderedTail,
    Start,
    Step,
    ended_to_bytes,
    order_from_bytes,
)
from edge.models import HeldModel, load_models
from edge.tail_queue import Tail
from edge.tail_work import TailWork
from twinsplit.clock import SystemClock
from twinsplit.errors import RefusedError, TwinsplitError
from twinsplit.model.profile import load_profile
from twinsplit.telemetry.logs import EventLog, configure_logging
from twinsplit.transport.allocation import keep_freed_memory
from twinsplit.transport.status import INTERNAL_TEXT, InternalError

_log = EventLog("edge.computing_process")
_clock = SystemClock()
_MEASURED = ("segment_s", "decode_s", "batches_from")


@dataclass(slots=True, eq=False)
class FlaggedTail(Tail[TailWork]):
    """A tail that is wanted until the edge sets its flag."""

    flag: Sequence[int] = (0,)

    def is_wanted_at(self, now_s: float) -> bool:
        """Whether anybody waits for the answer at ``now_s``."""
        return not self.flag[0] and (self.deadline_at_s is None or now_s < self.deadline_at_s)


def main(socket: int, flags: int) -> None:
    """Talk over file descriptor ``socket``; ``flags`` is the shared memory."""
    # The edge is told to stop, and has what it accepted run before it hangs up.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    connection: Connection[Any, Any] = Connection(socket)
    try:
        start = Start.model_validate_json(connection.recv_bytes())
        configure_logging(start.log_level, "json" if start.is_log_json else "text")
        models = _loaded(start, connection)
        if models is not None:
            _serve(connection, models, memoryview(mmap.mmap(flags, FLAGS)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _loaded(start: Start, connection: Connection[Any, Any]) -> dict[str, HeldModel] | None:
    """Models by digest, of which the edge has been told; ``None``: they cannot be loaded, which it was told, too."""

    def say(step: Step) -> None:
        connection.send_bytes(step.model_dump_json().encode())

    try:
        models = load_models(
            start.models,
            provider=start.provider,
            threads=start.threads,
            slowdown=start.slowdown,
            known=None if start.profile is None else load_profile(start.profile),
            clock=_clock,
            progress=lambda text: say(Step(progress=text)),
        )
    except TwinsplitError as failure:
        say(Step(error=type(failure).__name__, text=str(failure)))
        return None
    measured = (Measured(digest=digest, **{n: getattr(m, n) for n in _MEASURED}) for digest, m in models.items())
    say(Step(models=tuple(measured)))
    return models


def _serve(connection: Connection[Any, Any], models: Mapping[str, HeldModel], flags: memoryview) -> None:
    computing = LocalComputing(models, _clock)
    while True:
        order = order_from_bytes(connection.recv_bytes())
        connection.send_bytes(ended_to_bytes(_ended(order, computing, models, flags), order.kind))


def _ended(order: Order, computing: LocalComputing, models: Mapping[str, HeldModel], flags: memoryview) -> Ended:
    now_s = _clock.monotonic_s()
    try:
        if order.kind is Kind.CHECK:
            quickest_s = computing.quickest_s(models[order.digest], lambda: not flags[order.first_flag])
            return Ended(order.number, now_s, _clock.monotonic_s(), quickest_s=quickest_s)
        if order.problem is not None:
            raise order.problem
        first = order.first_flag
        tails = [_tail(tail, flags[first + place : first + place + 1]) for place, tail in enumerate(order.tails)]
        computed = computing.run(tails)
    except Exception as failure:  # noqa: BLE001 - whatever fails concerns this order alone; its cause stays in this log
        if not isinstance(failure, RefusedError):
            _log.exception("tail-failed", failure, models=sorted({tail.model for tail in order.tails}))
        error = failure if isinstance(failure, RefusedError) else InternalError(INTERNAL_TEXT)
        return Ended(order.number, now_s, _clock.monotonic_s(), error=error)
    return Ended(order.number, computed.began_s, computed.ended_s, computed.outputs)


def _tail(tail: OrderedTail, flag: Sequence[int]) -> FlaggedTail:
    work = TailWork(tail.tensor.header, tail.tensor.data, lambda _tail, _result: None)
    return FlaggedTail(tail.model, tail.cut, None, work, 0.0, tail.deadline_at_s, flag=flag)
