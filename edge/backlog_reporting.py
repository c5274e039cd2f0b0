"""When an edge tells the twin its backlog: only when truth leaves what the twin dead-reckons (design section 6).

Sans-IO. The edge runs the twin's own predictor (:func:`twinsplit.reckoning.predicted_backlog_s`) on the last reading
it sent, so it knows what the twin believes. A report is due when truth and belief differ by more than the report
threshold *and* have been apart long enough to matter: the area between them, seconds of backlog times seconds of time,
reaches threshold times patience. A large jump is told at once, a deviation just above the threshold after the patience.
The twin tells the edge up to which backlog the decisions of its devices depend on it; deviations above count little.
The area decides what a mirror costs; for the same area a larger threshold with less patience takes fewer messages:
small deviations mostly end by themselves. In the demo's scenario 0.1 s with 0.05 s of patience misled devices as little
as 0.05 s with 0.1 s did (0.6 ms a task), with 0.40 reports per task instead of 0.65.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from twinsplit.reckoning import BacklogState, predicted_backlog_s

_SHORTEST_LOOK_S = 0.02
_ABOVE_CEILING_SHARE = 0.125
"""What a second of deviation counts above the backlog up to which decisions depend on it: little, for it will matter
only once it has drained, but enough to keep the mirror from going astray."""


class Due(str, Enum):
    """What the edge owes the twin at one instant."""

    NOTHING = "nothing"
    REPORT = "report"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """How far the mirror may be off, and for how long.

    ``threshold_s``: deviations up to this are never reported, seconds of backlog, >= 0. ``patience_s``: how long a
    deviation of just the threshold may stand, seconds, >= 0; one k times as large may stand a k-th of it, so the
    mirror's error is bounded in area by ``threshold_s * patience_s``. 0: every deviation above the threshold is
    reported at the next look.
    """

    threshold_s: float = 0.1
    patience_s: float = 0.02

    def __post_init__(self) -> None:
        if self.threshold_s < 0.0 or self.patience_s < 0.0:
            raise ValueError(f"threshold and patience of backlog reports cannot be negative: {self}")


class BacklogReporter:
    """Decides when a backlog report or a heartbeat is due on one attached stream.

    The shell calls :meth:`look` after every event of the queue and at :meth:`next_look_at_s`, and :meth:`sent` with
    whatever reading it sent (the one in its hello included).
    """

    def __init__(self, policy: ReportPolicy, heartbeat_s: float, sent: BacklogState) -> None:
        if heartbeat_s <= 0.0:
            raise ValueError(f"a heartbeat period of {heartbeat_s} s is impossible")
        self.ceiling_s = math.inf
        """Backlog above which, as the twin says, hardly any decision depends on it, seconds."""
        self._policy = policy
        self._heartbeat_s = heartbeat_s
        self._price = policy.threshold_s * policy.patience_s
        self._area = 0.0
        self._deviation_s = 0.0
        self._looked_at_s = sent.at_s
        self._sent = sent
        self._sent_at_s = sent.at_s

    @property
    def heartbeat_s(self) -> float:
        return self._heartbeat_s

    @heartbeat_s.setter
    def heartbeat_s(self, period_s: float) -> None:
        if period_s <= 0.0:
            raise ValueError(f"a heartbeat period of {period_s} s is impossible")
        self._heartbeat_s = period_s

    def believed_s(self, now_s: float) -> float:
        """What the twin believes the backlog to be at ``now_s``, seconds."""
        return predicted_backlog_s(self._sent, now_s)

    def look(self, backlog_s: float, now_s: float) -> Due:
        """Compare the true backlog at ``now_s`` with what the twin believes."""
        self._area += self._deviation_s * max(now_s - self._looked_at_s, 0.0)
        self._deviation_s = abs(self._counted_s(backlog_s) - self._counted_s(self.believed_s(now_s)))
        self._looked_at_s = now_s
        if self._deviation_s > self._policy.threshold_s and self._area >= self._price:
            return Due.REPORT
        if now_s - self._sent_at_s >= self._heartbeat_s:
            return Due.HEARTBEAT
        return Due.NOTHING

    def _counted_s(self, backlog_s: float) -> float:
        above_s = backlog_s - self.ceiling_s
        return backlog_s if above_s <= 0.0 else self.ceiling_s + _ABOVE_CEILING_SHARE * above_s

    def sent(self, state: BacklogState, now_s: float) -> None:
        """``state`` has been sent at ``now_s``; the twin reckons from it."""
        self._sent = state
        self._sent_at_s = now_s
        self._area = 0.0
        self._deviation_s = 0.0
        self._looked_at_s = now_s

    def next_look_at_s(self, now_s: float) -> float:
        """Instant at which to look again if the queue has no event before.

        Between events truth falls at most at rate one and the belief at most at rate one, and the belief rises at most
        by its reversion to the mean, so a report cannot be due much earlier than this.
        """
        heartbeat_at_s = self._sent_at_s + self._heartbeat_s
        rate = 1.0 + max(self._sent.mean_s - self._sent.backlog_s, 0.0) / self._sent.time_constant_s
        to_threshold_s = (self._policy.threshold_s - self._deviation_s) / rate
        if to_threshold_s <= 0.0 < self._deviation_s:
            to_threshold_s = max(self._price - self._area, 0.0) / self._deviation_s
        return min(heartbeat_at_s, now_s + max(to_threshold_s, _SHORTEST_LOOK_S))
