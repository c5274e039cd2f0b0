"""What an edge needs of whatever runs its tails."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Protocol

from edge.tail_queue import EdgeReading, TailEnd
from edge.tail_work import EdgeTail
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import Sample


class TailEngine(Protocol):
    """Queue and run tails; every tail that was submitted gets exactly one result, unless it is cancelled waiting.

    All but :meth:`close` are called in the event loop.
    """

    def start(self) -> None:
        """Begin to run what is submitted."""
        ...

    def submit(self, tail: EdgeTail) -> None:
        """Put a tail into the queue.

        Raises:
            StoppingError, EdgeFullError, DeadlineError: it is refused, and nothing has changed.
        """
        ...

    def cancel(self, tail: EdgeTail) -> None:
        """Nobody waits for ``tail`` any more; while it waits it leaves without a result."""
        ...

    def cancel_owner(self, owner: Hashable) -> None:
        """Nobody waits for the tails of ``owner`` any more."""
        ...

    def reading(self) -> EdgeReading:
        """The queue now."""
        ...

    def backlog_state(self) -> BacklogState:
        """The backlog now, with what carries it forward."""
        ...

    def backlog_s(self) -> float:
        """The backlog now, seconds of service."""
        ...

    def ends(self) -> dict[TailEnd, int]:
        """Tails that entered the queue and have left it, by how they left."""
        ...

    @property
    def batches(self) -> tuple[int, int]:
        """Batches run so far, and the tails in them."""
        ...

    @property
    def unready_reason(self) -> str | None:
        """Why no tail would be run now; ``None``: one would."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether new tails are refused."""
        ...

    def samples(self) -> Iterator[Sample]:
        """Metrics that only this kind of engine has."""
        ...

    def stop_admitting(self) -> None:
        """Refuse new tails from now on with ``STOPPING``."""
        ...

    def close(self, grace_s: float) -> None:
        """Finish what was submitted for at most ``grace_s`` seconds, refuse the rest with ``STOPPING``, end.

        Blocks; call it from a thread other than the event loop's.
        """
        ...
