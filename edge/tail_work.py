"""What an edge knows of one tail beside its place in the queue: what is to be run, for whom, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.tail_queue import Tail, TailEnd
from twinsplit.errors import TwinsplitError
from twinsplit.reckoning import BacklogState
from twinsplit.tensor import EncodedTensor, TensorHeader


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
