"""Messages between devices, edges and the twin: how they are sent, delayed, lost, and counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from benchmarks.streams import stream_seed
from twin_service.planner import PlannerSettings


class Scheme(str, Enum):
    """Who says what when."""

    PLANS = "plans"
    """The product: standing plans, backlog updates bought by their value, reports beyond a threshold."""
    POLLED = "polled"
    """The device asks at every epoch and waits for the answer."""
    PERIODIC = "periodic"
    """Devices and edges tell their state every so often, and every device is told its edge's backlog as often."""


@dataclass(frozen=True, slots=True)
class Signalling:
    """How a mirrored world signals. Times in seconds."""

    scheme: Scheme = Scheme.PLANS
    period_s: float = 1.0
    """Of the periodic scheme."""
    delay_s: float = 0.002
    """One way between the twin and anybody."""
    delay_jitter_s: float = 0.0
    """Mean of an exponential delay on top."""
    loss_share: float = 0.0
    """Share of messages that never arrive; those of the attachment all do."""
    is_ordered: bool = True
    """Whether messages on one way arrive in the order in which they were sent, as on a stream."""
    report_threshold_s: float = 0.01
    """Of devices."""
    backlog_threshold_s: float = 0.1
    """Of edges."""
    backlog_patience_s: float = 0.02
    heartbeat_s: float = 5.0
    poll_timeout_s: float = 0.1
    planner: PlannerSettings = field(default_factory=PlannerSettings)


class Courier:
    """Carries messages, each way a stream of its own."""

    def __init__(
        self, signalling: Signalling, seed: int, schedule: Callable[[float, Callable[[Any], None], Any], None]
    ) -> None:
        """
        Args:
            schedule: (instant, act, argument), as :meth:`World.schedule`.
        """
        self.messages: Counter[str] = Counter()
        """Sent so far, by sender and kind; lost ones count, too."""
        self.bytes: Counter[str] = Counter()
        self.lost = 0
        self._signalling = signalling
        self._schedule = schedule
        self._rng = random.Random(stream_seed(seed, "signalling"))
        self._delivered_at_s: dict[Hashable, float] = {}

    def count(self, kind: str, size_bytes: int) -> None:
        """A message that needs no carrying."""
        self.messages[kind] += 1
        self.bytes[kind] += size_bytes

    def send(
        self, way: Hashable, kind: str, size_bytes: int, now_s: float, act: Callable[[Any], None], argument: Any
    ) -> None:
        """Send a message: ``act(argument)`` is called where it arrives, if it does."""
        self.count(kind, size_bytes)
        signalling = self._signalling
        if signalling.loss_share > 0.0 and self._rng.random() < signalling.loss_share:
            self.lost += 1
            return
        at_s = now_s + signalling.delay_s
        if signalling.delay_jitter_s > 0.0:
            at_s += self._rng.expovariate(1.0 / signalling.delay_jitter_s)
        if signalling.is_ordered:
            at_s = self._delivered_at_s[way] = max(at_s, self._delivered_at_s.get(way, at_s))
        self._schedule(at_s, act, argument)
