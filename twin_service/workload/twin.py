"""The workload twin: keeps the time lines, and replays every ended task as soon as they reach beyond it. Sans-IO.

A replay looks at what happened at the edge and on the device until the task could have ended at the latest. Edges and
devices tell that with messages which come later anyway, so a task waits here until both lines are complete, and a
bounded time at most. Whoever runs this object says what replaying cost; tasks are sampled when it would take more than
its share of a core.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

import numpy as np

from twin_service.decision.situation import Situation
from twin_service.decision.values import values_of
from twin_service.memory import Memory
from twin_service.messages import BacklogReport
from twin_service.workload.device_time_line import DeviceTimeLine
from twin_service.workload.edge_time_line import EdgeTimeLine
from twin_service.workload.replay import Origin, horizon_s, replay, unfit_because
from twin_service.workload.replayed import Replayed
from twin_service.workload.traces import TraceLog
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import DecayingRate
from twinsplit.types import Outcome, TaskRecord

_MOST_UNSAVED = 10_000
_SAVED_TASKS = 50
_SAVED_RECORDS = 1000
"""Kept in one go: so much takes a few milliseconds, in which nobody else is served."""
_MOST_DEVICES = 20_000
"""Time lines of devices kept; beyond it the one made first is forgotten, and made again if it is still needed."""
_COST_WEIGHT = 1.0 / 16.0
_HEARD_LATE_S = 0.25
"""What a device had not told this long before its heartbeat came, it had told: longer than any message takes."""


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """Bounds of replaying."""

    most_share: float = 0.3
    """Share of one core; 0: nothing is replayed."""
    patience_s: float = 12.0
    """A task whose time lines are not complete by then is replayed on what is known."""
    most_waiting: int = 4096
    """Tasks that may wait for that."""
    is_traced: bool = True
    """Whether tasks and arrivals are recorded for export."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended task with what the twin knew when it was told."""

    device_id: str
    task: TaskRecord
    model_digest: str
    edge_id: str | None
    """Edge of the device's plan."""
    situation: Situation
    planned: Situation
    """The one that its plan was last weighed in: open-loop payoffs hold for it, and it changes less often than tasks
    end, so that few evaluations do for many of them."""
    exits_run: tuple[bool, ...]


@dataclass(slots=True, eq=False)
class _Waiting:
    ended: Ended
    overdue_at_s: float
    device_until_s: float
    """Both lines must be complete until there."""
    edge_until_s: float
    is_ready: bool = False


@dataclass(slots=True)
class _Line:
    """Those who wait for one time line, by the instant until which it must be complete."""

    waiting: list[tuple[float, int, _Waiting]] = field(default_factory=list)

    def put(self, until_s: float, number: int, waiting: _Waiting) -> None:
        """One more; those at the front that have become overdue are let go, or a line that is told nothing would hold
        them for ever."""
        while self.waiting and self.waiting[0][2].is_ready:
            heapq.heappop(self.waiting)
        heapq.heappush(self.waiting, (until_s, number, waiting))

    def up_to(self, complete_until_s: float) -> list[_Waiting]:
        """Those who need wait no longer."""
        found = []
        while self.waiting and self.waiting[0][0] <= complete_until_s:
            found.append(heapq.heappop(self.waiting)[2])
        return found


class WorkloadTwin:
    """Time lines of all edges and devices, and what is to be replayed. Instants are on the twin's monotonic clock."""

    def __init__(
        self,
        memory: Memory,
        settings: WorkloadSettings | None = None,
        *,
        now_s: float = 0.0,
        clock_offset_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            memory: where replayed tasks and traces are kept.
            now_s: the clock now.
            clock_offset_s: Unix time less the clock.
            seed: of sampling and of evidence that was never seen.
        """
        self.settings = settings or WorkloadSettings()
        self.told: list[Callable[[Replayed, Manifest], None]] = []
        """Called with every replayed task and its model (the learner)."""
        self.replayed = 0
        self.left_out: Counter[str] = Counter()
        """Tasks that were not replayed, by reason."""
        self.traces = TraceLog(clock_offset_s)
        self._memory = memory
        self._clock_offset_s = clock_offset_s
        self._rng = np.random.default_rng(seed)
        self._edges: dict[str, EdgeTimeLine] = {}
        self._devices: dict[str, DeviceTimeLine] = {}
        self._by_edge: dict[str, _Line] = {}
        self._by_device: dict[str, _Line] = {}
        self._in_order: deque[_Waiting] = deque()
        self._ready: deque[_Waiting] = deque()
        self._waiting = 0
        self._number = 0
        self._unsaved: deque[Replayed] = deque(maxlen=_MOST_UNSAVED)
        self._ended_rate = DecayingRate(now_s)
        self._spent = DecayingRate(now_s)
        self._mean_cost_s = 0.0

    # What happens.

    def edge_reported(self, edge_id: str, report: BacklogReport) -> None:
        """An edge reports; one that does not tell its arrivals tells nothing of use here."""
        if not report.is_logging:
            return
        line = self._edges.get(edge_id)
        if line is None:
            line = self._edges[edge_id] = EdgeTimeLine()
        for tail in report.arrivals:
            line.add(tail)
        line.observed(report.backlog.backlog_s, report.backlog.at_s)
        if self.settings.is_traced:
            self.traces.arrived(edge_id, report.arrivals)
        if edge_id in self._by_edge:
            for waiting in self._by_edge[edge_id].up_to(line.complete_until_s):
                self._edge_is_complete(waiting)

    def task_ended(self, ended: Ended, now_s: float) -> None:
        """A device tells of an ended task."""
        self._device(ended.device_id).ended(ended.task, ended.situation.overhead_s)
        if self.settings.is_traced:
            self.traces.ended(ended.device_id, ended.model_digest, ended.task, ended.situation)
        self._ended_rate.add(1.0, now_s)
        reason = unfit_because(ended.task) or self._surplus_because(now_s)
        if reason is not None:
            self.left_out[reason] += 1
            return
        self._wait(ended, now_s)

    def device_reported(self, device_id: str, entered: int, at_s: float) -> None:
        """By ``at_s``, as the device knows it, ``entered`` tasks had entered there."""
        line = self._device(device_id)
        line.reported(entered, at_s)
        if device_id in self._by_device:
            for waiting in self._by_device[device_id].up_to(line.complete_until_s):
                self._make_ready(waiting)

    def device_heard(self, device_id: str, entered: int, now_s: float) -> None:
        """A sign of life that has no instant of its own, received at ``now_s``."""
        self.device_reported(device_id, entered, now_s - _HEARD_LATE_S)

    def forget_edge(self, edge_id: str) -> None:
        """An edge is gone for good."""
        self._edges.pop(edge_id, None)
        self._by_edge.pop(edge_id, None)

    # Replaying.

    @property
    def waiting(self) -> int:
        """Tasks that wait for their replay."""
        return self._waiting

    def next_due_s(self) -> float:
        """Instant at which :meth:`replay_next` has something to do; ``-inf``: now; ``inf``: nothing waits."""
        if self._ready:
            return -math.inf
        return self._in_order[0].overdue_at_s if self._in_order else math.inf

    def replay_next(self, now_s: float) -> Replayed | None:
        """Replay one task; ``None``: none can be replayed now, or it is left out."""
        while self._in_order and (self._in_order[0].is_ready or self._in_order[0].overdue_at_s <= now_s):
            self._make_ready(self._in_order.popleft())
        if not self._ready:
            return None
        self._waiting -= 1
        return self._replay(self._ready.popleft().ended)

    def cost(self, seconds: float, now_s: float) -> None:
        """Replaying one task took ``seconds``."""
        self._spent.add(seconds, now_s)
        known_s = self._mean_cost_s
        self._mean_cost_s = seconds if known_s == 0.0 else known_s + _COST_WEIGHT * (seconds - known_s)

    def share(self, now_s: float) -> float:
        """Share of one core that replaying takes."""
        return self._spent.per_second(now_s)

    def save(self, limit: int | None = None) -> bool:
        """Keep what was replayed and traced, a small part of it where there is a ``limit``; whether more is due.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        batch = list(islice(self._unsaved, None if limit is None else min(limit, _SAVED_TASKS)))
        if batch:
            self._memory.keep_replay(batch)
            for _ in batch:
                self._unsaved.popleft()
        most = None if limit is None else _SAVED_RECORDS
        lines = self.traces.packed(most)
        if lines is not None:
            self._memory.keep_trace(lines)
            self.traces.forget(most)
        return bool(self._unsaved or self.traces.count)

    # How it is done.

    def _device(self, device_id: str) -> DeviceTimeLine:
        line = self._devices.get(device_id)
        if line is None:
            line = self._devices[device_id] = DeviceTimeLine()
            if len(self._devices) > _MOST_DEVICES:
                gone = next(iter(self._devices))
                del self._devices[gone]
                self._by_device.pop(gone, None)
        return line

    def _surplus_because(self, now_s: float) -> str | None:
        needed = self._ended_rate.per_second(now_s) * self._mean_cost_s
        most_share = self.settings.most_share
        if most_share <= 0.0 or (needed > most_share and self._rng.random() * needed > most_share):
            return "sampled"
        return "too-many" if self._waiting >= self.settings.most_waiting else None

    def _wait(self, ended: Ended, now_s: float) -> None:
        situation = ended.situation
        device_until_s = horizon_s(ended.task, situation, ended.exits_run)
        longest_s = _largest_payload_bytes(situation.manifest) / situation.goodput_bytes_per_s
        edge_until_s = device_until_s + longest_s + situation.overhead_s
        waiting = _Waiting(ended, now_s + self.settings.patience_s, device_until_s, edge_until_s)
        self._waiting += 1
        self._in_order.append(waiting)
        line = None if ended.edge_id is None else self._edges.get(ended.edge_id)
        if ended.edge_id is None or (line is not None and line.complete_until_s >= edge_until_s):
            self._edge_is_complete(waiting)
        else:
            self._put(self._by_edge, ended.edge_id, edge_until_s, waiting)

    def _edge_is_complete(self, waiting: _Waiting) -> None:
        device_id = waiting.ended.device_id
        if self._device(device_id).complete_until_s >= waiting.device_until_s:
            self._make_ready(waiting)
        else:
            self._put(self._by_device, device_id, waiting.device_until_s, waiting)

    def _put(self, lines: dict[str, _Line], name: str, until_s: float, waiting: _Waiting) -> None:
        self._number += 1
        lines.setdefault(name, _Line()).put(until_s, self._number, waiting)

    def _make_ready(self, waiting: _Waiting) -> None:
        if not waiting.is_ready:
            waiting.is_ready = True
            self._ready.append(waiting)

    def _replay(self, ended: Ended) -> Replayed | None:
        edge = self._edges.get(ended.edge_id or "")
        if edge is None:
            if ended.edge_id is not None:
                self.left_out["edge-does-not-tell"] += 1
                return None
            edge = EdgeTimeLine()
        if ended.task.outcome is Outcome.EDGE and (ended.device_id, ended.task.task_id) not in edge:
            self.left_out["own-tail-unknown"] += 1
            return None
        task = replay(
            ended.task,
            ended.situation,
            ended.exits_run,
            edge,
            self._device(ended.device_id),
            self._rng,
            values=values_of(ended.planned, ended.exits_run),
            origin=Origin(ended.device_id, ended.model_digest, self._clock_offset_s),
        )
        self.replayed += 1
        self._unsaved.append(task)
        for tell in self.told:
            tell(task, ended.situation.manifest)
        return task


@lru_cache(maxsize=64)
def _largest_payload_bytes(manifest: Manifest) -> float:
    return max((r.mean_bytes for cut in manifest.cuts for r in cut.representations), default=0.0)
