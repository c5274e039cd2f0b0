"""What an edge that has nothing to do finds out about its own speed.

Models are measured at start, when the whole machine may be starting. An edge that takes itself for slow is sent
nothing, or refuses what it is sent as too late, and so has no tail to learn better from. While it is idle it therefore
runs a network for itself now and then. Only being much faster than believed counts: that it is slower, tails tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle

from edge.computing import CHECK_RUNS
from edge.models import HeldModel
from twinsplit.errors import ComputeError, RefusedError
from twinsplit.telemetry.logs import EventLog

_log = EventLog("edge.idle_check")

IDLE_S = 10.0
"""An edge without work for so long looks, and while none comes again after twice the time."""
LONGEST_S = 600.0
_MOST_SHARE = 0.01
"""Of one core, at most."""


class IdleCheck:
    """Has one model at a time run, through all of its segments.

    Args:
        models: By digest. An emulated speed is what it was set to, so those with a slowdown are left out.
        quickest_s: See :meth:`edge.computing.Computing.quickest_s`.
        idle_s: See :data:`IDLE_S`.
    """

    def __init__(
        self,
        models: Mapping[str, HeldModel],
        quickest_s: Callable[[HeldModel, Callable[[], bool]], float | None],
        idle_s: float = IDLE_S,
    ) -> None:
        self._models = [model for model in models.values() if model.slowdown <= 1.0]
        self._next = cycle(self._models)
        self._quickest_s = quickest_s
        self._idle_s = self._pause_s = idle_s

    def tails_were_served(self) -> None:
        """What the next check finds may be news again."""
        self._pause_s = self._idle_s

    @property
    def pause_s(self) -> float | None:
        """Time without work until the next check, seconds; ``None``: there is nothing to check."""
        return self._pause_s if self._models else None

    def measured(self, is_idle: Callable[[], bool]) -> tuple[float, float] | None:
        """Run the next model.

        Args:
            is_idle: Asked before every segment; work that has arrived goes first.

        Returns:
            Time of its segments as profiled and as it is now, seconds; ``None``: work arrived, or it failed.
        """
        model = next(self._next)
        try:
            least_s = self._quickest_s(model, is_idle)
        except (ComputeError, RefusedError) as failure:
            _log.warning("idle-check-failed", model=model.digest, cause=str(failure))
            self._wait_longer(0.0)
            return None
        if least_s is None:
            return None
        self._wait_longer(CHECK_RUNS * least_s)
        return sum(model.segment_s), least_s

    def _wait_longer(self, took_s: float) -> None:
        self._pause_s = max(min(2.0 * self._pause_s, LONGEST_S), took_s / _MOST_SHARE)
