"""The tasks that ended last, with what is needed to tell why they ended there, and totals. Sans-IO and bounded.

It is told of every task report. What a decision was worth is reckoned later and only for tasks that somebody looks at
(:mod:`twin_service.console.payoffs`): here only references are kept.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from twin_service.device_twin import DeviceTwin, StandingPlan
from twin_service.edge_twin import EdgeTwin
from twin_service.messages import TaskReport
from twinsplit.model.manifest import Manifest
from twinsplit.plan import Observation
from twinsplit.reckoning import predicted_backlog_s
from twinsplit.types import TaskRecord

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

KEPT_TASKS = 1000
KEPT_THUMBNAILS = 256
"""Of at most 4 kB each."""
KEPT_LATENCIES = 1000
_KEPT_PLANS = 1024
"""Plans that a task which ends may still have obeyed."""
_KEPT_DEVICES = 20_000
_MOST_SOURCES = 16


@dataclass(frozen=True, slots=True)
class Reckoned:
    """The plan that decided, and what it was looked up by."""

    standing: StandingPlan
    backlog_s: float
    """As the device believed it where it decided."""
    queue_length: int
    age_s: float
    """Of the task, generation to decision."""


@dataclass(slots=True, eq=False)
class Ended:
    """One ended task."""

    device_id: str
    task: TaskRecord
    manifest: Manifest | None
    decided: Reckoned | None
    """``None``: no plan decided, or it is not kept any more."""
    payoffs: object = None
    """What was reckoned of it; ``None``: nothing yet. Belongs to :mod:`twin_service.console.payoffs`."""


@dataclass(slots=True)
class Totals:
    """What all tasks since the start add up to. Dropped and failed tasks count with an accuracy of 0."""

    since_s: float
    """Start on the twin's clock."""
    outcomes: Counter[str] = field(default_factory=Counter)
    right: float = 0.0
    """Sum of the calibrated probabilities that answers are right."""
    judged: int = 0
    """Tasks in that sum."""
    latency_s: float = 0.0
    """Sum over answered tasks."""
    answered: int = 0
    energy_joules: float = 0.0
    measured: int = 0
    """Tasks whose energy is known."""
    energy_sources: set[str] = field(default_factory=set)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    """Of the newest answered tasks."""

    @property
    def tasks(self) -> int:
        """Tasks that ended."""
        return self.outcomes.total()

    @property
    def energy_source(self) -> str | None:
        """Where energies come from; ``None``: unknown."""
        if len(self.energy_sources) > 1:
            return "mixed"
        return next(iter(self.energy_sources), None)

    def latency_p95_s(self) -> float | None:
        """Of the newest answered tasks; ``None``: there is none."""
        return float(np.percentile(self.latencies_s, 95)) if self.latencies_s else None

    def add(self, task: TaskRecord) -> None:
        """One more task."""
        self.outcomes[task.outcome.value] += 1
        if task.outcome.is_answered:
            self.answered += 1
            self.latency_s += task.latency_s
            self.latencies_s.append(task.latency_s)
        if not task.outcome.is_answered or task.confidence is not None:
            self.judged += 1
            self.right += task.confidence or 0.0
        if task.energy_joules is not None:
            self.measured += 1
            self.energy_joules += task.energy_joules
            if task.energy_source and len(self.energy_sources) < _MOST_SOURCES:
                self.energy_sources.add(task.energy_source)


class TaskFeed:
    """Ended tasks, newest first, and their totals."""

    def __init__(self, now_s: float) -> None:
        self.totals = Totals(now_s)
        self._tasks: deque[Ended] = deque(maxlen=KEPT_TASKS)
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._plans: OrderedDict[int, StandingPlan] = OrderedDict()
        self._in_flight: OrderedDict[str, _InFlight] = OrderedDict()

    def take(self, device: DeviceTwin, edge: EdgeTwin | None, report: TaskReport) -> None:
        """A device tells of ended tasks; ``edge``: the one that its standing plan names."""
        if device.standing is not None:
            _remember(self._plans, device.standing.plan.plan_id, device.standing, _KEPT_PLANS)
        in_flight = self._in_flight.pop(device.device_id, None) or _InFlight()
        in_flight.take(report)
        _remember(self._in_flight, device.device_id, in_flight, _KEPT_DEVICES)
        for task in report.ended:
            self.totals.add(task)
            self._tasks.appendleft(
                Ended(device.device_id, task, device.status.manifest, self._reckoned(device, edge, task))
            )
            if task.thumbnail_jpeg is not None and not device.status.hello.is_tensors_only:
                _remember(self._thumbnails, (device.device_id, task.task_id), task.thumbnail_jpeg, KEPT_THUMBNAILS)

    def newest(self, count: int, device_id: str | None = None) -> Iterator[Ended]:
        """At most ``count`` tasks, newest first, perhaps of one device only."""
        return islice((e for e in self._tasks if device_id is None or e.device_id == device_id), count)

    def thumbnail(self, device_id: str, task_id: int) -> bytes | None:
        """JPEG of a task's frame; ``None``: there is none, or not any more."""
        return self._thumbnails.get((device_id, task_id))

    def in_flight(self, device_id: str) -> int | None:
        """Offloads under way as of the device's last task report; ``None``: unknown."""
        found = self._in_flight.get(device_id)
        return None if found is None else found.count

    def _reckoned(self, device: DeviceTwin, edge: EdgeTwin | None, task: TaskRecord) -> Reckoned | None:
        standing = None if task.plan_id is None else self._plans.get(task.plan_id)
        if standing is None or task.stop_epoch is None or not task.epoch_times_s:
            return None
        looks_once = standing.plan.observation is Observation.SERVICE_START
        decided_at_s = task.epoch_times_s[0 if looks_once else min(task.stop_epoch, len(task.epoch_times_s) - 1)]
        held = standing.held
        if held is None or held.at_s > decided_at_s:
            held = None if edge is None else edge.reading_at(decided_at_s)
        return Reckoned(
            standing,
            0.0 if held is None else predicted_backlog_s(held, decided_at_s),
            task.queue_length,
            max(0.0, decided_at_s - task.arrived_at_s),
        )


class _InFlight:
    """Offloads of one device that are under way, from what it counts and what it has told the end of.

    Tasks that entered, less those that ended, wait, or are in service, are on their way; how many were so when we first
    heard of the device shows as the least that this ever was.
    """

    __slots__ = ("_ended", "_entered", "_least", "count")

    def __init__(self) -> None:
        self.count: int | None = None
        self._entered = 0
        self._ended = 0
        self._least = 0

    def take(self, report: TaskReport) -> None:
        entered = report.state.entered
        is_new = entered < self._entered or self.count is None  # the device has started anew, or is new to us
        self._entered = entered
        self._ended = len(report.ended) + (0 if is_new else self._ended)
        open_now = entered - self._ended - report.queue_length - (report.started is not None)
        self._least = open_now if is_new else min(self._least, open_now)
        self.count = open_now - self._least


def _remember(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
