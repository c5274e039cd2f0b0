"""The device's pipeline: a bounded queue, one task in service, offloads in flight. Sans-IO (design sections 4 and 8).

Events come in with a clock reading and give back instructions, last of them the report that is due. Each is handed to
the part that it concerns:

    task_queue        what waits, and what gives way where the queue is full
    task_in_service   segments, exits and epochs of the task that the device works on
    decisions         what is decided at an epoch
    offloads          what was sent and until when its answer counts
    failover          what becomes of a task that its edge has failed
    outcomes          how every task ended
    plan_keeping      plan, lease and backlog
    reporting         what the twin is told, and when

After an OFFLOAD the next task starts at once; the offloaded task keeps its boundary tensor until its answer is in, so
that it can resume at its cut, at the head of the queue. A resumed task never leaves the device again. Every task that
entered gets exactly one outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device.decisions import Decisions
from device.energy import EnergyBooks
from device.failover import Failover
from device.offloads import Offloads, OffloadSettings, offload_of
from device.outcomes import Outcomes
from device.plan_keeping import PlanKeeper
from device.reporting import Condition, Reporter
from device.task import CancelUpload, Finish, Instruction, Task
from device.task_in_service import TaskInService
from device.task_queue import TaskQueue
from device.tracking import Tracker
from twinsplit.edge_list import ListedEdge
from twinsplit.model.manifest import Exit, Manifest
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, DropPolicy, Outcome, Reason

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer, ExitAnswer


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Bounds and policies of a pipeline."""

    queue_capacity: int = 64
    """Tasks waiting at most, at least 1 (resumed tasks come on top, bounded by the tensors kept)."""
    drop_policy: DropPolicy = DropPolicy.OLDEST_STAYS
    """What a full queue does: the longest waiting task gives way to the new one, or the new one is dropped."""
    is_polled: bool = False
    """The twin is asked at every epoch (the baseline of signalling)."""
    offloads: OffloadSettings = field(default_factory=OffloadSettings)


class Pipeline:
    """State of all tasks of one device. Not thread-safe: the shell holds a lock around every event."""

    def __init__(
        self,
        manifest: Manifest,
        plans: PlanKeeper,
        tracker: Tracker,
        reporter: Reporter,
        energy: EnergyBooks,
        settings: PipelineSettings | None = None,
    ) -> None:
        self.plans = plans
        self.tracker = tracker
        self.reporter = reporter
        self.settings = settings or PipelineSettings()
        self.outcomes = Outcomes(manifest, energy, reporter)
        self.offloads = Offloads(manifest, self.settings.offloads, plans, tracker)
        tracker.edge_address = plans.edge_address or ""
        self._queue = TaskQueue(self.settings.queue_capacity, self.settings.drop_policy)
        self.decisions = Decisions(plans, self._queue, self.offloads)
        self._failover = Failover(self._queue, self.offloads, self.decisions)
        self._service = TaskInService(
            manifest,
            self._queue,
            plans,
            self.decisions,
            self.offloads,
            self.outcomes,
            tracker,
            reporter,
            is_polled=self.settings.is_polled,
        )
        self._is_closing = False

    # What can be seen from outside.

    @property
    def in_service(self) -> Task | None:
        """The task that the device works on."""
        return self._service.task

    @property
    def queue_length(self) -> int:
        """Tasks waiting."""
        return len(self._queue)

    @property
    def best_exit(self) -> Exit | None:
        """Most accurate exit that the device holds; ``None``: it holds none."""
        return self._service.best_exit

    def keepers(self) -> Iterator[Task]:
        """The tasks whose boundary tensors are kept: offloads in flight, and those that came back."""
        yield from self.offloads
        yield from self._queue.resumed
        task = self._service.task
        if task is not None and task.has_resumed:
            yield task

    @property
    def kept_tensors(self) -> int:
        """Boundary tensors kept."""
        return sum(1 for _ in self.keepers())

    @property
    def is_empty(self) -> bool:
        """Whether every task that entered has its outcome."""
        return self.outcomes.open == 0

    def condition(self, now_s: float) -> Condition:
        """How the device stands, for reports and status."""
        return Condition(
            queue_length=len(self._queue),
            is_edge_reachable=self.offloads.is_edge_reachable(now_s),
            is_degraded=self.plans.is_degraded(now_s),
            entered=self.outcomes.entered,
            lost=self.outcomes.lost,
            links=self.offloads.links(now_s),
        )

    # Frames.

    def frame_arrived(
        self,
        now_s: float,
        frame: str,
        cargo: object = None,
        *,
        arrived_at_s: float | None = None,
        thumbnail_jpeg: bytes | None = None,
    ) -> list[Instruction]:
        """A frame entered; ``arrived_at_s``: its generation, if that was before now."""
        task = self.outcomes.enter(now_s, frame, cargo, arrived_at_s)
        task.thumbnail_jpeg = thumbnail_jpeg
        if self._is_closing:
            return self._reported(now_s, [self._not_started(now_s, task, Outcome.DROPPED, Reason.SHUTDOWN)])
        loser = self._queue.put(task)
        out: list[Instruction] = []
        if loser is not None:
            out.append(self._not_started(now_s, loser[0], Outcome.DROPPED, loser[1]))
        out += self._service.start_next(now_s)
        return self._reported(now_s, out)

    def frame_refused(
        self, now_s: float, frame: str, cargo: object = None, *, arrived_at_s: float | None = None
    ) -> list[Instruction]:
        """A frame entered that cannot be decoded or does not fit."""
        task = self.outcomes.enter(now_s, frame, cargo, arrived_at_s)
        return self._reported(now_s, [self._not_started(now_s, task, Outcome.FAILED, Reason.BAD_FRAME)])

    # Steps of the task in service.

    def segment_done(self, now_s: float, answer: Answer | None = None) -> list[Instruction]:
        """The segment that was asked for is done; ``answer``: the network's, after its last segment."""
        return self._reported(now_s, self._service.segment_done(now_s, answer))

    def exit_done(self, now_s: float, exit_index: int, answer: ExitAnswer | None) -> list[Instruction]:
        """The exit that was asked for is done; ``answer`` ``None``: its output is not finite."""
        return self._reported(now_s, self._service.exit_done(now_s, exit_index, answer))

    def polled(self, now_s: float, decision: Decision | None) -> list[Instruction]:
        """The twin's answer of polled mode; ``None``: none in time, so the standing plan decides."""
        return self._reported(now_s, self._service.polled(now_s, decision))

    def encoded(self, now_s: float, wire_bytes: int) -> list[Instruction]:
        """The payload is in its representation: it goes, and the next task starts."""
        return self._reported(now_s, self._service.encoded(now_s, wire_bytes))

    def step_failed(self, now_s: float) -> list[Instruction]:
        """The step that was asked for could not be done."""
        return self._reported(now_s, self._service.step_failed(now_s))

    # Offloads.

    def answer_received(
        self,
        now_s: float,
        task_id: int,
        answer: Answer | None,
        *,
        edge_queue_s: float,
        edge_compute_s: float,
        edge_address: str | None = None,
    ) -> list[Instruction]:
        """The edge at ``edge_address`` answered (``None``: whichever has the task). An answer that nobody waits for any
        more changes nothing, nor does one of an edge that the task has left for another."""
        out: list[Instruction] = []
        task = self.offloads.answered(now_s, task_id, edge_queue_s, edge_compute_s, edge_address)
        if task is not None:
            assert task.choice is not None, "nothing is sent without a decision"
            out.append(self.outcomes.by_network(now_s, task, Outcome.EDGE, task.choice.reason, answer))
        return self._reported(now_s, out)

    def upload_failed(
        self, now_s: float, task_id: int, reason: Reason, edge_address: str | None = None
    ) -> list[Instruction]:
        """The edge refused (EDGE_REFUSED), is lost (EDGE_LOST) or is too late (EDGE_TOO_LATE); which edge, as above."""
        return self._reported(now_s, self._without_edge(now_s, task_id, reason, edge_address))

    def edge_connected(self, now_s: float, address: str) -> list[Instruction]:
        """The edge at ``address`` is connected and answers."""
        self.offloads.breaker(address).connected(now_s)
        return self._reported(now_s, [])

    def edge_disconnected(self, now_s: float, address: str) -> list[Instruction]:
        """The connection to the edge is gone, and everything in flight there with it."""
        out: list[Instruction] = []
        self.offloads.breaker(address).disconnected(now_s)
        for task in self.offloads.at(address):
            out += self._without_edge(now_s, task.task_id, Reason.EDGE_LOST)
        return self._reported(now_s, out)

    # The twin.

    def twin_attached(self, now_s: float, heartbeat_s: float) -> list[Instruction]:
        """The twin has welcomed the device and knows nothing of its task yet; 0: it names no period."""
        self.reporter.heartbeat_s = heartbeat_s or self.reporter.heartbeat_s
        self.reporter.forgotten()
        return self._reported(now_s, [])

    def plan_received(self, now_s: float, plan: Plan, backlog: BacklogState | None) -> list[Instruction]:
        """A plan has arrived; it counts from the next epoch on.

        Raises:
            RefusedError: this device cannot obey it (see :meth:`PlanKeeper.plan_received`).
        """
        if self.plans.plan_received(plan, backlog, now_s):
            self.reporter.plan_stands(plan.exits_run, now_s)
            self.tracker.edge_address = self.plans.edge_address or ""
        return self._reported(now_s, [])

    def edges_listed(self, now_s: float, edges: tuple[ListedEdge, ...]) -> list[Instruction]:
        """The twin lists the edges that hold the model."""
        self.offloads.edges_listed(edges)
        return self._reported(now_s, [])

    def lease_renewed(self, now_s: float, lease_s: float) -> list[Instruction]:
        """A message of the twin has arrived."""
        self.plans.lease_renewed(lease_s, now_s)
        return self._reported(now_s, [])

    def backlog_seen(self, now_s: float, state: BacklogState, edge_address: str | None = None) -> list[Instruction]:
        """A backlog reading from an answer of the edge at ``edge_address``, or from the twin (``None``)."""
        self.plans.backlog_seen(state, edge_address)
        if edge_address is not None:
            self.offloads.edges.backlog_seen(state, edge_address)
        return self._reported(now_s, [])

    # Time and the end.

    def tick(self, now_s: float) -> list[Instruction]:
        """Time has passed: overdue offloads come back, silence is filled."""
        out: list[Instruction] = []
        for task in self.offloads.overdue(now_s):
            out.append(CancelUpload(task, offload_of(task)))
            out += self._without_edge(now_s, task.task_id, Reason.EDGE_TOO_LATE)
        return self._reported(now_s, out)

    def close(self) -> list[Instruction]:
        """From now on every frame is dropped; what has entered goes on."""
        self._is_closing = True
        return []

    def abort(self, now_s: float) -> list[Instruction]:
        """Give every task that is left its outcome now; a step that is still out is of no use any more."""
        self._is_closing = True
        out: list[Instruction] = []
        for task in self.offloads.give_up():
            out.append(CancelUpload(task, offload_of(task)))
            out.append(self.outcomes.unanswered(now_s, task, Outcome.FAILED, Reason.SHUTDOWN))
        while (waiting := self._queue.take()) is not None:
            if waiting.started_at_s is None:
                out.append(self._not_started(now_s, waiting, Outcome.DROPPED, Reason.SHUTDOWN))
            else:
                out.append(self.outcomes.unanswered(now_s, waiting, Outcome.FAILED, Reason.SHUTDOWN))
        out += self._service.lose(now_s, Reason.SHUTDOWN)
        return self._reported(now_s, out)

    # What several events share.

    def _not_started(self, now_s: float, task: Task, outcome: Outcome, reason: Reason) -> Finish:
        """The end of a task that never came into service."""
        task.queue_s = now_s - task.arrived_at_s
        task.queue_length = len(self._queue)
        return self.outcomes.unanswered(now_s, task, outcome, reason)

    def _without_edge(
        self, now_s: float, task_id: int, reason: Reason, edge_address: str | None = None
    ) -> list[Instruction]:
        """An edge has failed a task, which goes on elsewhere; an idle device takes it up at once."""
        return [
            *self._failover.failed(now_s, task_id, reason, edge_address),
            *self._service.start_next(now_s),
        ]

    def _reported(self, now_s: float, out: list[Instruction]) -> list[Instruction]:
        """``out`` with the report that is due, if one is."""
        if self.reporter.is_due(now_s):
            out.append(self.reporter.due(now_s, self.condition(now_s)))
        return out
