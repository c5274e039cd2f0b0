"""Offloads in flight: what may go, until when its answer counts, and the breakers of the ways to the edges. Sans-IO.

At most ``kept_tensors`` boundary tensors are kept; while that many are, nothing is offloaded (reason ``uplink-full``):
a task already sent is never given up for one that could be.

Where the plan's edge cannot be used, the next one of the twin's list stands in for it. A task that an edge has lost or
refused may be sent on, to every edge once at most and all within the time that its first upload had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from device.breaker import BreakerSettings, BreakerState, CircuitBreaker
from device.edge_list import EdgeList
from device.plan_keeping import PlanKeeper
from device.task import Offload, Task, Upload
from device.tracking import Tracker
from twinsplit.edge_list import EdgeLink, ListedEdge
from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION
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

    def __init__(self, manifest: Manifest, settings: OffloadSettings, plans: PlanKeeper, tracker: Tracker) -> None:
        self.breakers: dict[str, CircuitBreaker] = {}
        """By the edge's address."""
        self.edges = EdgeList(tracker)
        """What the twin has listed; empty: there is the plan's edge only."""
        self.sent = 0
        """Payloads handed to the uplink."""
        self.came_back: Counter[Reason] = Counter()
        """Offloads without an answer that resumed on the device, by reason."""
        self.sent_on: Counter[Reason] = Counter()
        """Offloads without an answer that went on to the next edge, by reason."""
        self._manifest = manifest
        self._settings = settings
        self._plans = plans
        self._tracker = tracker
        self._in_flight: dict[int, Task] = {}
        self._uplink_free_at_s = float("-inf")

    def __len__(self) -> int:
        return len(self._in_flight)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._in_flight.values())

    @property
    def next_deadline_s(self) -> float:
        """Instant at which the next answer is too late; infinity: none is in flight."""
        return min((offload_of(task).deadline_s for task in self._in_flight.values()), default=float("inf"))

    def does_edge_answer(self, now_s: float) -> bool:
        """Whether the edge that is used now is known to answer."""
        address = self.target(now_s)
        return address is not None and self.breaker(address).has_answered

    def target(self, now_s: float) -> str | None:
        """Where an offload goes now: to the plan's edge, or, while nothing may go there, to the first of the list that
        is connected; ``None``: there is no edge."""
        address = self._plans.edge_address
        if address is None or not self.edges or self.breaker(address).allows(now_s):
            return address
        return self._stand_in(now_s, (address,)) or address

    def _stand_in(self, now_s: float, without: tuple[str, ...]) -> str | None:
        for edge in self.edges:
            if edge.address not in without:
                breaker = self.breaker(edge.address)
                if breaker.is_connected and breaker.allows(now_s):
                    return edge.address
        return None

    def backlog_s(self, now_s: float, epoch: int) -> float:
        """Backlog to look the plan up with at ``epoch``: that of the plan's edge, or what the edge that stands in for
        it amounts to."""
        address, plan_address = self.target(now_s), self._plans.edge_address
        if address is None or plan_address is None or address == plan_address:
            return self._plans.backlog_s(now_s)
        return self.edges.as_plan_backlog_s(address, plan_address, self._payloads(epoch), now_s)

    def uplink_busy_s(self, now_s: float) -> float:
        """Time until everything handed over so far is expected to have left, seconds. One uplink leads to all edges."""
        return max(self._uplink_free_at_s - now_s, 0.0)

    def _takes_uplink(self, now_s: float, offload: Offload) -> None:
        expected_s = self._transmission_s(offload)
        self._uplink_free_at_s = max(self._uplink_free_at_s, now_s) + expected_s

    def _transmission_s(self, offload: Offload) -> float:
        return self._tracker.expected_transmission_s(offload.wire_bytes, offload.edge_address) or 0.0

    def _payloads(self, epoch: int) -> list[tuple[int, float]]:
        """(Cut, bytes) of what the plan may send at ``epoch``."""
        chosen = ((epoch, Decision.OFFLOAD_TENSOR), (0, Decision.OFFLOAD_INPUT))
        return [
            (cut, self._manifest.cuts[cut].representations[position].mean_bytes)
            for cut, decision in chosen
            if (position := self._plans.representation(epoch, decision)) != NO_REPRESENTATION
        ]

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
        address = self.target(now_s)
        if address is None:
            return Reason.NO_EDGE_HOLDS_MODEL
        if not self.breaker(address).allows(now_s):
            return Reason.BREAKER_OPEN
        return Reason.UPLINK_FULL if kept_tensors >= self._settings.kept_tensors else None

    def prepare(self, now_s: float, task: Task, decision: Decision) -> Offload:
        """What ``task`` sends; only for a task that nothing hinders."""
        address = self.target(now_s)
        assert address is not None, "an offload without an edge is hindered"
        is_tensor = decision is Decision.OFFLOAD_TENSOR
        task.offload = Offload(
            payload=Payload.TENSOR if is_tensor else Payload.INPUT,
            cut=task.epoch if is_tensor else 0,
            representation_index=self._plans.representation(task.epoch, decision),
            edge_address=address,
            edge_id=self._name(address),
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
        self._takes_uplink(now_s, offload)
        return Upload(task, offload, budget_s)

    def answered(
        self, now_s: float, task_id: int, edge_queue_s: float, edge_compute_s: float, address: str | None = None
    ) -> Task | None:
        """The task whose answer is in; ``None``: nobody waits for one any more, or not for one of the edge at
        ``address`` (``None``: from where does not matter)."""
        task = self.task(task_id, address)
        if task is None:
            return None
        del self._in_flight[task_id]
        offload = offload_of(task)
        edge_s = edge_queue_s + edge_compute_s
        transmitted_s = self._tracker.upload_done(
            offload.sent_at_s, now_s, edge_s, offload.wire_bytes, offload.edge_address
        )
        upload_s = max(0.0, now_s - offload.sent_at_s - edge_s)
        task.upload_s = (task.upload_s or 0.0) + upload_s
        task.transmit_s += min(transmitted_s, upload_s)
        task.edge_queue_s, task.edge_compute_s = edge_queue_s, edge_compute_s
        self.breaker(offload.edge_address).succeeded()
        # What was handed over before it has left, too.
        later = (offload_of(other) for other in self if offload_of(other).sent_at_s >= offload.sent_at_s)
        self._uplink_free_at_s = min(self._uplink_free_at_s, now_s + sum(map(self._transmission_s, later)))
        return task

    def failed(self, now_s: float, task_id: int, address: str | None = None) -> Task | None:
        """The task whose edge has failed it, waiting and energy so far charged to it. It is in flight until it is sent
        on or comes back; ``None``: it is not, or not to the edge at ``address``."""
        task = self.task(task_id, address)
        if task is None:
            return None
        offload = offload_of(task)
        self.breaker(offload.edge_address).failed(now_s)
        upload_s = now_s - offload.sent_at_s
        expected_s = self._tracker.expected_transmission_s(offload.wire_bytes, offload.edge_address)
        task.upload_s = (task.upload_s or 0.0) + upload_s
        task.transmit_s += upload_s if expected_s is None else min(expected_s, upload_s)
        task.lost_at = (*task.lost_at, offload.edge_address)
        return task

    def next_edge(self, now_s: float, task: Task) -> str | None:
        """The edge that a task which was failed may go on to: the first that is connected, has not failed it yet and
        is expected to answer in time; ``None``: there is none."""
        plan_address, offload = self._plans.edge_address, offload_of(task)
        if plan_address is None or not self.edges:
            return None
        left_s = offload.deadline_s - now_s
        without = task.lost_at
        while (address := self._stand_in(now_s, without)) is not None:
            if self.edges.finish_s(address, offload.cut, offload.wire_bytes, now_s) <= left_s:
                return address
            without = (*without, address)
        return None

    def backlog_for_s(self, now_s: float, task: Task, address: str) -> float:
        """Backlog with which to look up whether it pays to send ``task`` on to the edge at ``address``."""
        offload, plan_address = offload_of(task), self._plans.edge_address
        assert plan_address is not None, "without a plan's edge nothing is sent on"
        return self.edges.as_plan_backlog_s(address, plan_address, [(offload.cut, offload.wire_bytes)], now_s)

    def send_on(self, now_s: float, task: Task, address: str, reason: Reason) -> Upload:
        """The same payload goes to the edge at ``address``, in the time that is left."""
        before = offload_of(task)
        task.offload = replace(before, edge_address=address, edge_id=self._name(address), sent_at_s=now_s)
        self.breaker(address).attempted(now_s)
        self.sent += 1
        self.sent_on[reason] += 1
        self._takes_uplink(now_s, task.offload)
        return Upload(task, task.offload, before.deadline_s - now_s)

    def come_back(self, task: Task, reason: Reason) -> None:
        """A task that was failed resumes on the device."""
        del self._in_flight[task.task_id]
        task.hindrance = task.hindrance or reason
        task.has_resumed = True
        self.came_back[reason] += 1

    def task(self, task_id: int, address: str | None = None) -> Task | None:
        """The task of that number, if it is in flight, and to the edge at ``address`` (``None``: to any)."""
        task = self._in_flight.get(task_id)
        if task is None or (address is not None and offload_of(task).edge_address != address):
            return None
        return task

    # The list.

    def edges_listed(self, edges: tuple[ListedEdge, ...]) -> None:
        """The twin lists the edges that there are."""
        self.edges.replaced(edges)
        self._forget_others()

    def addresses(self) -> frozenset[str]:
        """Edges to be connected to: the plan's, those listed, and those at which something is in flight."""
        used = {offload_of(task).edge_address for task in self._in_flight.values()}
        plan_address = self._plans.edge_address
        return self.edges.addresses | used | ({plan_address} if plan_address is not None else set())

    def links(self, now_s: float) -> tuple[EdgeLink, ...]:
        """The ways to the edges of the list."""
        return tuple(
            EdgeLink(
                edge.edge_id,
                self._tracker.link(edge.address).goodput_bytes_per_s,
                self._tracker.link(edge.address).round_trip_s,
                self.breaker(edge.address).state(now_s) is not BreakerState.OPEN,
            )
            for edge in self.edges
        )

    def _forget_others(self) -> None:
        """An edge that is gone for good leaves nothing behind."""
        addresses = self.addresses()
        for gone in self.breakers.keys() - addresses:
            del self.breakers[gone]
        self._tracker.keep_links(addresses)

    def _name(self, address: str) -> str | None:
        edge, plan = self.edges.find(address), self._plans.plan
        if edge is not None:
            return edge.edge_id
        return plan.edge_id if plan is not None and plan.edge_address == address else None

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
