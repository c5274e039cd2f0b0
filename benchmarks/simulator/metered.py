"""The twin core with a clock on everything that it is asked: what a fleet costs its twin (for one run)."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twin_service import messages
from twin_service.core import TwinCore
from twin_service.decision.evaluation import Evaluation, Rule
from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable
from twin_service.messages import Send


class Meter:
    """Calls and seconds of this process' processor time by what was done; a kind within another one counts in both."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.calls: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.longest_s: defaultdict[str, float] = defaultdict(float)
        self._clock = clock

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """What is done within is one call of ``kind``."""
        began_s = self._clock()
        try:
            yield
        finally:
            self.took(kind, self._clock() - began_s)

    def took(self, kind: str, seconds: float, calls: int = 1) -> None:
        """``calls`` of ``kind`` took ``seconds`` together."""
        self.calls[kind] += calls
        self.seconds[kind] += seconds
        self.longest_s[kind] = max(self.longest_s[kind], seconds)

    def clear(self) -> None:
        """Forget what was counted so far."""
        for counted in (self.calls, self.seconds, self.longest_s):
            counted.clear()

    def described(self) -> dict[str, dict[str, float]]:
        """``calls``, ``seconds`` and ``longest_s`` by kind."""
        return {
            kind: {"calls": self.calls[kind], "seconds": self.seconds[kind], "longest_s": self.longest_s[kind]}
            for kind in sorted(self.calls)
        }


class MeteredRule:
    """A rule whose evaluations are timed: one call per device evaluated."""

    def __init__(self, rule: Rule, meter: Meter) -> None:
        self._rule = rule
        self._meter = meter

    @property
    def name(self) -> str:
        """Of the rule."""
        return self._rule.name

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        """As the rule does."""
        began_s = time.process_time()
        found = self._rule.evaluate(situations)
        self._meter.took("rule", time.process_time() - began_s, len(situations))
        return found

    def table(self, situation: Situation) -> PlanTable:
        """As the rule does."""
        return self.evaluate([situation])[0].plan_table


class MeteredCore(TwinCore):
    """The core whose calls are timed, by kind: ``attach``, what devices and edges say, ticks with plans and without,
    savings."""

    def __init__(self, meter: Meter, *args: Any, **kwargs: Any) -> None:
        """``args``: of :class:`TwinCore`."""
        self.meter = meter
        super().__init__(*args, **kwargs)

    def attach_device(self, hello: messages.DeviceHello, now_s: float) -> tuple[int, list[Send]]:
        with self.meter.timed("attach"):
            return super().attach_device(hello, now_s)

    def device_said(self, device_id: str, stream: int, event: messages.DeviceEvent, now_s: float) -> list[Send]:
        with self.meter.timed(f"device {_KINDS.get(type(event), 'other')}"):
            return super().device_said(device_id, stream, event, now_s)

    def edge_said(
        self, edge_id: str, stream: int, report: messages.BacklogReport, now_s: float
    ) -> messages.BacklogInterest | None:
        with self.meter.timed("edge report"):
            return super().edge_said(edge_id, stream, report, now_s)

    def tick(self, now_s: float) -> list[Send]:
        weighed = self.planner.weighed
        began_s = time.process_time()
        sends = super().tick(now_s)
        kind = "tick that plans" if self.planner.weighed > weighed else "tick that looks"
        self.meter.took(kind, time.process_time() - began_s)
        return sends

    def save(self, limit: int | None = None) -> bool:
        with self.meter.timed("save"):
            return super().save(limit)


_KINDS: dict[type, str] = {
    messages.TaskReport: "task",
    messages.StartReport: "start",
    messages.ProgressReport: "progress",
    messages.DeviceHeartbeat: "heartbeat",
    messages.ManifestUpload: "manifest",
}
