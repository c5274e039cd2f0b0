"""Offloads in flight: what may go, until when its answer counts, and the breakers of the ways to the edges. Sans-IO.

At most ``kept_tensors`` boundary tensors are kept; while that many are, nothing is offloaded (reason ``uplink-full``):
a task already sent is never given up for one that could be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from device.breaker import BreakerSettings, BreakerState, CircuitBreaker
from device.plan_keeping import PlanKeeper
from device.task import Offload, Task, Upload
from device.tracking import Tracker
from twinsplit.types import Decision, Payload, Reason


@dataclass(frozen=True, slots=True)
class OffloadSettings:
    """Bounds of what is sent."""

    kept_tensors: int = 8
    """Boundary tensors kept at most for tasks whose answer is not in."""
    answer_timeout_s: float = 2.0
    """An offload without an answer for so long resumes on the device."""
    deadline_s: float | None = None
    """Age at which an answer is of no use; an offload then resumes early enough to finish on the device."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class Offloads:
    """Tasks whose answer is not in, by number, in the order in which they were sent."""

    def __init__(self, settings: OffloadSettings, plans: PlanKeeper, tracker: Tracker) -> None:
        self.breakers: dict[str, CircuitBreaker] = {}
        """By the edge's address."""
        self.sent = 0
        """Payloads handed to the uplink."""
        self.came_back: Counter[Reason] = Counter()
        """Offloads without an answer, by reason."""
        self._settings = settings
        self._plans = plans
        self._tracker = tracker
        self._in_flight: dict[int, Task] = {}

    def __len__(self) -> int:
        return len(self._in_flight)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._in_flight.values())

    @property
    def next_deadline_s(self) -> float:
        """Instant at which the next answer is too late; infinity: none is in flight."""
        return min((offload_of(task).deadline_s for task in self._in_flight.values()), default=float("inf"))

    @property
    def does_edge_answer(self) -> bool:
        """Whether the plan's edge is known to answer."""
        address = self._plans.edge_address
        return address is not None and self.breaker(address).has_answered

    def is_edge_reachable(self, now_s: float) -> bool:
        """False: the breaker of the way to the plan's edge is open."""
        address = self._plans.edge_address
        return address is None or self.breaker(address).state(now_s) is not BreakerState.OPEN

    def breaker(self, address: str) -> CircuitBreaker:
        """Breaker of the way to the edge at ``address``."""
        breaker = self.breakers.get(address)
        if breaker is None:
            breaker = self.breakers[address] = CircuitBreaker(self._settings.breaker)
        return breaker

    def hindrance(self, now_s: float, task: Task, kept_tensors: int) -> Reason | None:
        """Why ``task`` cannot be offloaded now, with so many tensors kept; ``None``: it can."""
        if task.has_resumed:
            return task.hindrance
        address = self._plans.edge_address
        if address is None:
            return Reason.NO_EDGE_HOLDS_MODEL
        if not self.breaker(address).allows(now_s):
            return Reason.BREAKER_OPEN
        return Reason.UPLINK_FULL if kept_tensors >= self._settings.kept_tensors else None

    def prepare(self, task: Task, decision: Decision) -> Offload:
        """What ``task`` sends; only for a task that nothing hinders."""
        address = self._plans.edge_address
        assert address is not None, "an offload without an edge is hindered"
        is_tensor = decision is Decision.OFFLOAD_TENSOR
        task.offload = Offload(
            payload=Payload.TENSOR if is_tensor else Payload.INPUT,
            cut=task.epoch if is_tensor else 0,
            representation_index=self._plans.representation(task.epoch, decision),
            edge_address=address,
        )
        return task.offload

    def send(self, now_s: float, task: Task, wire_bytes: int) -> Upload:
        """The payload is ready and goes."""
        offload = offload_of(task)
        budget_s = self._budget_s(now_s, task)
        offload.wire_bytes = wire_bytes
        offload.sent_at_s = now_s
        offload.deadline_s = now_s + budget_s
        self.breaker(offload.edge_address).attempted(now_s)
        self.sent += 1
        self._in_flight[task.task_id] = task
        return Upload(task, offload, budget_s)

    def answered(self, now_s: float, task_id: int, edge_queue_s: float, edge_compute_s: float) -> Task | None:
        """The task whose answer is in; ``None``: nobody waits for it any more."""
        task = self._in_flight.pop(task_id, None)
        if task is None:
            return None
        offload = offload_of(task)
        edge_s = edge_queue_s + edge_compute_s
        transmitted_s = self._tracker.upload_done(offload.sent_at_s, now_s, edge_s, offload.wire_bytes)
        task.upload_s = max(0.0, now_s - offload.sent_at_s - edge_s)
        task.transmit_s = min(transmitted_s, task.upload_s)
        task.edge_queue_s, task.edge_compute_s = edge_queue_s, edge_compute_s
        self.breaker(offload.edge_address).succeeded()
        return task

    def failed(self, now_s: float, task_id: int, reason: Reason) -> Task | None:
        """The task that comes back, its waiting and energy so far charged to it; ``None``: it is not in flight."""
        task = self._in_flight.pop(task_id, None)
        if task is None:
            return None
        offload = offload_of(task)
        self.breaker(offload.edge_address).failed(now_s)
        task.upload_s = now_s - offload.sent_at_s
        expected_s = self._tracker.expected_transmission_s(offload.wire_bytes)
        task.transmit_s = task.upload_s if expected_s is None else min(expected_s, task.upload_s)
        task.hindrance = task.hindrance or reason
        task.has_resumed = True
        self.came_back[reason] += 1
        return task

    def task(self, task_id: int) -> Task | None:
        """The task of that number, if it is in flight."""
        return self._in_flight.get(task_id)

    def at(self, address: str) -> list[Task]:
        """Tasks in flight to the edge at ``address``."""
        return [task for task in self._in_flight.values() if offload_of(task).edge_address == address]

    def overdue(self, now_s: float) -> list[Task]:
        """Tasks whose answer is too late."""
        return [task for task in self._in_flight.values() if now_s >= offload_of(task).deadline_s]

    def give_up(self) -> list[Task]:
        """All tasks in flight, which are in flight no more."""
        tasks = list(self._in_flight.values())
        self._in_flight.clear()
        return tasks

    def _budget_s(self, now_s: float, task: Task) -> float:
        budget_s = self._settings.answer_timeout_s
        if self._settings.deadline_s is None:
            return budget_s
        left_s = task.arrived_at_s + self._settings.deadline_s - now_s
        if left_s <= 0.0:
            return budget_s
        rest_s = sum(self._tracker.segment_s[task.epoch :])
        # Where the device could not finish in time either, the edge may have all the time there is.
        return min(budget_s, left_s - rest_s if left_s > rest_s else left_s)


def offload_of(task: Task) -> Offload:
    """What ``task`` sends or sent."""
    assert task.offload is not None, "the task was never offloaded"
    return task.offload
