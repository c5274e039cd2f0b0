"""The device's pipeline: a bounded queue, one task in service, offloads in flight. Sans-IO (design sections 4 and 8).

Events come in with a clock reading and give back instructions. At most one *step* (segment, exit, encoding, question
to the twin) is out at any time. After an OFFLOAD the next task starts at once; the offloaded task keeps its boundary
tensor until its answer is in, so that it can resume at its cut, at the head of the queue, when the edge refuses, is
lost or is too late. Before that it is sent on to the next edge of the twin's list, where the plan holds that worth it.
A resumed task never leaves the device again. Every task that entered gets exactly one outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device.energy import EnergyBooks
from device.offloads import Offloads, OffloadSettings, offload_of
from device.outcomes import Outcomes
from device.plan_keeping import Choice, Observed, PlanKeeper
from device.reporting import Condition, Reporter
from device.task import AskTwin, CancelUpload, Encode, Finish, Instruction, RunExit, RunSegment, Task
from device.task_queue import TaskQueue
from device.tracking import Tracker
from twinsplit.edge_list import ListedEdge
from twinsplit.model.manifest import Manifest
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, DropPolicy, Outcome, Reason, TaskRecord

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
        self.outcomes = Outcomes(manifest, energy)
        self.offloads = Offloads(manifest, self.settings.offloads, plans, tracker)
        tracker.edge_address = plans.edge_address or ""
        self.decisions: Counter[tuple[int, Decision, Reason]] = Counter()
        """Decisions taken, by (epoch, decision, reason)."""
        self.best_exit = max(
            (e for e in manifest.exits if e.after_segment <= manifest.held_segments),
            key=lambda e: e.accuracy,
            default=None,
        )
        """Most accurate exit that the device holds; ``None``: it holds none."""
        self._segment_count = manifest.segment_count
        self._held = manifest.held_segments
        self._exit_after = manifest.exit_after
        self._queue = TaskQueue(self.settings.queue_capacity, self.settings.drop_policy)
        self._in_service: Task | None = None
        self._is_closing = False

    # What can be seen from outside.

    @property
    def in_service(self) -> Task | None:
        """The task that the device works on."""
        return self._in_service

    @property
    def queue_length(self) -> int:
        """Tasks waiting."""
        return len(self._queue)

    @property
    def kept_tensors(self) -> int:
        """Boundary tensors kept, of offloads in flight and of those that came back."""
        in_service = self._in_service
        is_kept = in_service is not None and in_service.has_resumed
        return len(self.offloads) + len(self._queue.resumed) + is_kept

    def keepers(self) -> Iterator[Task]:
        """The tasks whose boundary tensors are kept."""
        yield from self.offloads
        yield from self._queue.resumed
        if self._in_service is not None and self._in_service.has_resumed:
            yield self._in_service

    @property
    def is_empty(self) -> bool:
        """Whether every task that entered has its outcome."""
        return self.outcomes.open == 0

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
        out: list[Instruction] = []
        task = self.outcomes.enter(now_s, frame, cargo, arrived_at_s)
        task.thumbnail_jpeg = thumbnail_jpeg
        if self._is_closing:
            self._lose(now_s, task, Outcome.DROPPED, Reason.SHUTDOWN, out)
            return self._reported(now_s, out)
        loser = self._queue.put(task)
        if loser is not None:
            self._lose(now_s, loser[0], Outcome.DROPPED, loser[1], out)
        self._start_next(now_s, out)
        return self._reported(now_s, out)

    def frame_refused(
        self, now_s: float, frame: str, cargo: object = None, *, arrived_at_s: float | None = None
    ) -> list[Instruction]:
        """A frame entered that cannot be decoded or does not fit."""
        out: list[Instruction] = []
        task = self.outcomes.enter(now_s, frame, cargo, arrived_at_s)
        self._lose(now_s, task, Outcome.FAILED, Reason.BAD_FRAME, out)
        return self._reported(now_s, out)

    # Steps of the task in service.

    def segment_done(self, now_s: float, answer: Answer | None = None) -> list[Instruction]:
        """The segment that was asked for is done; ``answer``: the network's, after its last segment."""
        out: list[Instruction] = []
        task = self._in_service
        if task is None:
            return out
        seconds = now_s - task.step_began_s
        task.compute_s += seconds
        self.tracker.segment_done(task.epoch, seconds)
        task.epoch += 1
        exit_index = self._exit_after.get(task.epoch)
        if task.epoch == self._segment_count:
            self._mark_epoch(now_s, task)
            self._answer_by_network(now_s, task, Outcome.DEVICE, answer, out)
        elif exit_index is not None and self.plans.exits_run(now_s)[exit_index]:
            task.step_began_s = now_s
            out.append(RunExit(task, exit_index))
        else:
            self._reach_epoch(now_s, task, out)
        return self._reported(now_s, out)

    def exit_done(self, now_s: float, exit_index: int, answer: ExitAnswer) -> list[Instruction]:
        """The exit that was asked for is done."""
        out: list[Instruction] = []
        task = self._in_service
        if task is None:
            return out
        seconds = now_s - task.step_began_s
        task.compute_s += seconds
        self.tracker.exit_done(exit_index, seconds)
        task.exit_answers[exit_index] = answer
        task.last_exit = exit_index
        task.evidence = answer.evidence
        if task.is_last_resort:
            self._answer_by_exit(now_s, task, exit_index, Reason.HEAD_ONLY, out)
        else:
            self._reach_epoch(now_s, task, out)
        return self._reported(now_s, out)

    def polled(self, now_s: float, decision: Decision | None) -> list[Instruction]:
        """The twin's answer of polled mode; ``None``: none in time, so the standing plan decides."""
        out: list[Instruction] = []
        task = self._in_service
        if task is None:
            return out
        # Waiting for the twin is waiting.
        task.queue_s += now_s - task.step_began_s
        choice = None if decision is None else self.plans.polled(decision, task.epoch, task.evidence)
        self._obey(now_s, task, self._standing_choice(now_s, task) if choice is None else choice, out)
        return self._reported(now_s, out)

    def encoded(self, now_s: float, wire_bytes: int) -> list[Instruction]:
        """The payload is in its representation: it goes, and the next task starts."""
        out: list[Instruction] = []
        task = self._in_service
        if task is None:
            return out
        offload = offload_of(task)
        task.encode_s = now_s - task.step_began_s
        self.tracker.encode_done(offload.cut, offload.representation_index, task.encode_s)
        out.append(self.offloads.send(now_s, task, wire_bytes))
        self._end_service(task)
        self._start_next(now_s, out)
        return self._reported(now_s, out)

    def step_failed(self, now_s: float) -> list[Instruction]:
        """The step that was asked for could not be done."""
        out: list[Instruction] = []
        task = self._in_service
        if task is None:
            return out
        task.compute_s += now_s - task.step_began_s
        self._lose(now_s, task, Outcome.FAILED, Reason.COMPUTE_ERROR, out)
        self._start_next(now_s, out)
        return self._reported(now_s, out)

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
            self._answer_by_network(now_s, task, Outcome.EDGE, answer, out)
        return self._reported(now_s, out)

    def upload_failed(
        self, now_s: float, task_id: int, reason: Reason, edge_address: str | None = None
    ) -> list[Instruction]:
        """The edge refused (EDGE_REFUSED), is lost (EDGE_LOST) or is too late (EDGE_TOO_LATE); which edge, as above."""
        out: list[Instruction] = []
        self._fail(now_s, task_id, reason, out, edge_address)
        return self._reported(now_s, out)

    def edge_connected(self, now_s: float, address: str) -> list[Instruction]:
        """The edge at ``address`` is connected and answers."""
        self.offloads.breaker(address).connected(now_s)
        return self._reported(now_s, [])

    def edge_disconnected(self, now_s: float, address: str) -> list[Instruction]:
        """The connection to the edge is gone, and everything in flight there with it."""
        out: list[Instruction] = []
        self.offloads.breaker(address).disconnected(now_s)
        for task in self.offloads.at(address):
            self._fail(now_s, task.task_id, Reason.EDGE_LOST, out)
        return self._reported(now_s, out)

    # The twin.

    def twin_attached(self, now_s: float, heartbeat_s: float) -> list[Instruction]:
        """The twin has welcomed the device and knows nothing of its task yet."""
        self.reporter.heartbeat_s = heartbeat_s
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
            self._fail(now_s, task.task_id, Reason.EDGE_TOO_LATE, out)
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
            self._lose(now_s, task, Outcome.FAILED, Reason.SHUTDOWN, out)
        while (waiting := self._queue.take()) is not None:
            outcome = Outcome.DROPPED if waiting.started_at_s is None else Outcome.FAILED
            self._lose(now_s, waiting, outcome, Reason.SHUTDOWN, out)
        if self._in_service is not None:
            self._in_service.compute_s += now_s - self._in_service.step_began_s
            self._lose(now_s, self._in_service, Outcome.FAILED, Reason.SHUTDOWN, out)
        return self._reported(now_s, out)

    # Service.

    def _start_next(self, now_s: float, out: list[Instruction]) -> None:
        task = self._queue.take() if self._in_service is None else None
        if task is None:
            return
        self._in_service = task
        task.queue_s += now_s - task.waiting_since_s
        if task.started_at_s is None:
            task.started_at_s = now_s
            task.observed_at_start = self._observed(now_s, task)
        self.reporter.service_started(task.task_id, now_s, task.epoch)
        self._reach_epoch(now_s, task, out)

    def _end_service(self, task: Task) -> None:
        task.queue_length = len(self._queue)
        self._in_service = None
        self.reporter.service_ended()

    def _mark_epoch(self, now_s: float, task: Task) -> None:
        if task.epoch == len(task.epoch_times_s):
            task.epoch_times_s.append(now_s)
        self.reporter.epoch_reached(task.epoch, now_s)

    def _reach_epoch(self, now_s: float, task: Task, out: list[Instruction]) -> None:
        self._mark_epoch(now_s, task)
        if self.settings.is_polled and not task.has_resumed:
            task.step_began_s = now_s
            out.append(AskTwin(task, task.epoch, task.evidence, len(self._queue), now_s - task.arrived_at_s))
        else:
            self._obey(now_s, task, self._standing_choice(now_s, task), out)

    def _standing_choice(self, now_s: float, task: Task, hindrance: Reason | None = None) -> Choice:
        plans = self.plans
        if task.observed_at_start is not None and not plans.observes_each_epoch:
            observed = task.observed_at_start
        else:
            observed = self._observed(now_s, task)
        does_answer = self.offloads.does_edge_answer(now_s)
        return plans.choose(now_s, task.epoch, task.evidence, observed, hindrance, does_edge_answer=does_answer)

    def _observed(self, now_s: float, task: Task) -> Observed:
        return Observed(len(self._queue), self.offloads.backlog_s(now_s, task.epoch), now_s - task.arrived_at_s)

    def _obey(self, now_s: float, task: Task, choice: Choice, out: list[Instruction]) -> None:
        if choice.decision.is_offload:
            hindrance = self.offloads.hindrance(now_s, task, self.kept_tensors)
            if hindrance is not None:
                task.hindrance = task.hindrance or hindrance
                choice = self._standing_choice(now_s, task, hindrance)
        task.choice = choice
        self.decisions[task.epoch, choice.decision, choice.reason] += 1
        task.step_began_s = now_s
        if choice.decision.is_offload:
            out.append(Encode(task, self.offloads.prepare(now_s, task, choice.decision)))
        elif choice.decision is Decision.EXIT and task.last_exit is not None:
            self._answer_by_exit(now_s, task, task.last_exit, task.hindrance or choice.reason, out)
        elif task.epoch < self._held:
            out.append(RunSegment(task, task.epoch))
        else:
            self._answer_by_best_exit(now_s, task, out)

    def _fail(
        self, now_s: float, task_id: int, reason: Reason, out: list[Instruction], address: str | None = None
    ) -> None:
        """An edge has failed a task: it goes on to the next one, or resumes here."""
        task = self.offloads.failed(now_s, task_id, address)
        if task is None:
            return
        next_address = self.offloads.next_edge(now_s, task)
        if next_address is not None and self._is_worth_sending_on(now_s, task, next_address):
            out.append(self.offloads.send_on(now_s, task, next_address, reason))
            return
        self.offloads.come_back(task, reason)
        task.waiting_since_s = now_s
        self._queue.put_back(task)
        self._start_next(now_s, out)

    def _is_worth_sending_on(self, now_s: float, task: Task, address: str) -> bool:
        """Whether the plan would offload the task from where it stands, were its edge as good as this one."""
        backlog_s = self.offloads.backlog_for_s(now_s, task, address)
        observed = Observed(len(self._queue), backlog_s, now_s - task.arrived_at_s)
        return self.plans.choose(now_s, task.epoch, task.evidence, observed, does_edge_answer=True).decision.is_offload

    # Outcomes.

    def _answer_by_exit(
        self, now_s: float, task: Task, exit_index: int, reason: Reason, out: list[Instruction]
    ) -> None:
        self._end_service(task)
        self._finish(task, self.outcomes.by_exit(now_s, task, exit_index, reason), out)
        self._start_next(now_s, out)

    def _answer_by_best_exit(self, now_s: float, task: Task, out: list[Instruction]) -> None:
        """Nothing is left to do on a device that holds only the head."""
        best = self.best_exit
        if best is None:
            self._lose(now_s, task, Outcome.FAILED, task.hindrance or Reason.HEAD_ONLY, out)
            self._start_next(now_s, out)
        elif best.index in task.exit_answers:
            self._answer_by_exit(now_s, task, best.index, Reason.HEAD_ONLY, out)
        else:
            task.is_last_resort = True
            out.append(RunExit(task, best.index))

    def _answer_by_network(
        self, now_s: float, task: Task, outcome: Outcome, answer: Answer | None, out: list[Instruction]
    ) -> None:
        assert task.choice is not None, "no segment runs and nothing is sent without a decision"
        reason = task.choice.reason
        if outcome is Outcome.DEVICE:
            reason = task.hindrance or reason
            self._end_service(task)
        self._finish(task, self.outcomes.by_network(now_s, task, outcome, reason, answer), out)
        self._start_next(now_s, out)

    def _lose(self, now_s: float, task: Task, outcome: Outcome, reason: Reason, out: list[Instruction]) -> None:
        if task is self._in_service:
            self._end_service(task)
        elif task.started_at_s is None:
            task.queue_s = now_s - task.arrived_at_s
            task.queue_length = len(self._queue)
        self._finish(task, self.outcomes.unanswered(now_s, task, outcome, reason), out)

    def _finish(self, task: Task, record: TaskRecord, out: list[Instruction]) -> None:
        self.reporter.task_ended(record)
        out.append(Finish(task, record))

    def _reported(self, now_s: float, out: list[Instruction]) -> list[Instruction]:
        """``out`` with the report that is due, if one is."""
        if self.reporter.is_due(now_s):
            out.append(self.reporter.due(now_s, self.condition(now_s)))
        return out

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
