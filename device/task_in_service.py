"""The task in service: its segments and exits one by one, obeying a decision at every epoch, until the device is done
with it. Sans-IO.

At most one *step* (segment, exit, encoding, question to the twin) is out at any time. What is returned begins with what
came of the step and ends with the next one, which may be that of the next task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from device.decisions import Decisions
from device.offloads import Offloads, offload_of
from device.outcomes import Outcomes
from device.plan_keeping import Choice, PlanKeeper
from device.reporting import Reporter
from device.task import AskTwin, Encode, Instruction, RunExit, RunSegment, Task
from device.task_queue import TaskQueue
from device.tracking import Tracker
from twinsplit.model.manifest import Manifest
from twinsplit.types import Decision, Outcome, Reason

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer, ExitAnswer


class TaskInService:
    """Works on one task of the queue at a time. The result of a step that comes after :meth:`lose` is of no use."""

    def __init__(
        self,
        manifest: Manifest,
        queue: TaskQueue,
        plans: PlanKeeper,
        decisions: Decisions,
        offloads: Offloads,
        outcomes: Outcomes,
        tracker: Tracker,
        reporter: Reporter,
        *,
        is_polled: bool,
    ) -> None:
        """
        Args:
            is_polled: the twin is asked at every epoch.
        """
        self.task: Task | None = None
        """``None``: the device is idle."""
        self.best_exit = max(
            (e for e in manifest.exits if e.after_segment <= manifest.held_segments),
            key=lambda e: e.accuracy,
            default=None,
        )
        """Most accurate exit that the device holds; ``None``: it holds none."""
        self._segment_count = manifest.segment_count
        self._held = manifest.held_segments
        self._exit_after = manifest.exit_after
        self._queue = queue
        self._plans = plans
        self._decisions = decisions
        self._offloads = offloads
        self._outcomes = outcomes
        self._tracker = tracker
        self._reporter = reporter
        self._is_polled = is_polled

    def start_next(self, now_s: float) -> list[Instruction]:
        """An idle device takes the task whose turn it is, if one waits."""
        task = self._queue.take() if self.task is None else None
        if task is None:
            return []
        self.task = task
        task.queue_s += now_s - task.waiting_since_s
        if task.started_at_s is None:
            task.started_at_s = now_s
            task.observed_at_start = self._decisions.observed(now_s, task)
        self._reporter.service_started(task.task_id, now_s, task.epoch)
        return self._reach_epoch(now_s, task)

    # Results of the step that is out.

    def segment_done(self, now_s: float, answer: Answer | None) -> list[Instruction]:
        """A segment is done; ``answer``: the network's, after its last segment."""
        task = self.task
        if task is None:
            return []
        seconds = now_s - task.step_began_s
        task.compute_s += seconds
        self._tracker.segment_done(task.epoch, seconds)
        task.epoch += 1
        if task.epoch == self._segment_count:
            self._mark_epoch(now_s, task)
            return self._answer_by_network(now_s, task, answer)
        exit_index = self._exit_after.get(task.epoch)
        if exit_index is not None and self._plans.exits_run(now_s)[exit_index]:
            task.step_began_s = now_s
            return [RunExit(task, exit_index)]
        return self._reach_epoch(now_s, task)

    def exit_done(self, now_s: float, exit_index: int, answer: ExitAnswer | None) -> list[Instruction]:
        """An exit is done; ``None``: it gave no answer, which is no evidence."""
        task = self.task
        if task is None:
            return []
        if answer is None and task.is_last_resort:
            return self.step_failed(now_s)
        seconds = now_s - task.step_began_s
        task.compute_s += seconds
        self._tracker.exit_done(exit_index, seconds)
        if answer is not None:
            task.exit_answers[exit_index] = answer
            task.last_exit = exit_index
            task.evidence = answer.evidence
        if task.is_last_resort:
            return self._answer_by_exit(now_s, task, exit_index, Reason.HEAD_ONLY)
        return self._reach_epoch(now_s, task)

    def polled(self, now_s: float, decision: Decision | None) -> list[Instruction]:
        """The twin's answer is in; ``None``: there was none in time."""
        task = self.task
        if task is None:
            return []
        # Waiting for the twin is waiting.
        task.queue_s += now_s - task.step_began_s
        return self._obey(now_s, task, self._decisions.polled(now_s, task, decision))

    def encoded(self, now_s: float, wire_bytes: int) -> list[Instruction]:
        """The payload is in its representation: it goes, and the next task starts."""
        task = self.task
        if task is None:
            return []
        offload = offload_of(task)
        task.encode_s = now_s - task.step_began_s
        self._tracker.encode_done(offload.cut, offload.representation_index, task.encode_s)
        upload = self._offloads.send(now_s, task, wire_bytes)
        self._end()
        return [upload, *self.start_next(now_s)]

    def step_failed(self, now_s: float) -> list[Instruction]:
        """The step could not be done."""
        return [*self.lose(now_s, Reason.COMPUTE_ERROR), *self.start_next(now_s)]

    def lose(self, now_s: float, reason: Reason) -> list[Instruction]:
        """Give the task up in the middle of its step; no other is started."""
        task = self.task
        if task is None:
            return []
        task.compute_s += now_s - task.step_began_s
        self._end()
        return [self._outcomes.unanswered(now_s, task, Outcome.FAILED, reason)]

    # Epochs.

    def _mark_epoch(self, now_s: float, task: Task) -> None:
        if task.epoch == len(task.epoch_times_s):
            task.epoch_times_s.append(now_s)
        self._reporter.epoch_reached(task.epoch, now_s)

    def _reach_epoch(self, now_s: float, task: Task) -> list[Instruction]:
        self._mark_epoch(now_s, task)
        if self._is_polled and not task.has_resumed:
            task.step_began_s = now_s
            seen = self._decisions.observed(now_s, task)
            return [AskTwin(task, task.epoch, task.evidence, seen.queue_length, seen.age_s, seen.uplink_busy_s)]
        return self._obey(now_s, task, self._decisions.standing(now_s, task))

    def _obey(self, now_s: float, task: Task, choice: Choice) -> list[Instruction]:
        choice = self._decisions.take(now_s, task, choice)
        task.step_began_s = now_s
        if choice.decision.is_offload:
            offload = self._offloads.prepare(now_s, task, choice.decision)
            encoder = (offload.cut, offload.representation_index)
            self._reporter.service_lasts(self._tracker.encode_s.get(encoder, 0.0))
            return [Encode(task, offload)]
        self._reporter.service_lasts(float("inf"))
        if choice.decision is Decision.EXIT and task.last_exit is not None:
            return self._answer_by_exit(now_s, task, task.last_exit, task.hindrance or choice.reason)
        if task.epoch < self._held:
            return [RunSegment(task, task.epoch)]
        return self._answer_by_best_exit(now_s, task)

    # The end of its service.

    def _end(self) -> None:
        assert self.task is not None, "only a task that was in service leaves it"
        self.task.queue_length = len(self._queue)
        self.task = None
        self._reporter.service_ended()

    def _answer_by_exit(self, now_s: float, task: Task, exit_index: int, reason: Reason) -> list[Instruction]:
        self._end()
        return [self._outcomes.by_exit(now_s, task, exit_index, reason), *self.start_next(now_s)]

    def _answer_by_best_exit(self, now_s: float, task: Task) -> list[Instruction]:
        """Nothing is left to do on a device that holds only the head."""
        best = self.best_exit
        if best is None:
            self._end()
            reason = task.hindrance or Reason.HEAD_ONLY
            return [self._outcomes.unanswered(now_s, task, Outcome.FAILED, reason), *self.start_next(now_s)]
        if best.index in task.exit_answers:
            return self._answer_by_exit(now_s, task, best.index, Reason.HEAD_ONLY)
        task.is_last_resort = True
        return [RunExit(task, best.index)]

    def _answer_by_network(self, now_s: float, task: Task, answer: Answer | None) -> list[Instruction]:
        assert task.choice is not None, "no segment runs without a decision"
        self._end()
        reason = task.hindrance or task.choice.reason
        return [self._outcomes.by_network(now_s, task, Outcome.DEVICE, reason, answer), *self.start_next(now_s)]
