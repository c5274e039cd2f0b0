"""What is decided at an epoch: the standing plan's word, what keeps an offload from being one, and how often which
decision was taken. Sans-IO."""

from __future__ import annotations

from collections import Counter

from device.offloads import Offloads
from device.plan_keeping import Choice, Observed, PlanKeeper
from device.task import Task
from device.task_queue import TaskQueue
from twinsplit.types import Decision, Reason


class Decisions:
    """Looks decisions up in the plan with what the device sees now. Asks and waits for nobody."""

    def __init__(self, plans: PlanKeeper, queue: TaskQueue, offloads: Offloads) -> None:
        self.taken: Counter[tuple[int, Decision, Reason]] = Counter()
        """Decisions taken, by (epoch, decision, reason)."""
        self._plans = plans
        self._queue = queue
        self._offloads = offloads

    def observed(self, now_s: float, task: Task) -> Observed:
        """What the plan is looked up with for ``task``, as it is now."""
        offloads = self._offloads
        return Observed(
            len(self._queue),
            offloads.backlog_s(now_s, task.epoch),
            now_s - task.arrived_at_s,
            offloads.uplink_busy_s(now_s),
        )

    def standing(self, now_s: float, task: Task, hindrance: Reason | None = None) -> Choice:
        """What the plan says for ``task`` where it stands; ``hindrance``: why it cannot be offloaded."""
        if task.observed_at_start is not None and not self._plans.observes_each_epoch:
            observed = task.observed_at_start
        else:
            observed = self.observed(now_s, task)
        does_answer = self._offloads.does_edge_answer(now_s)
        return self._plans.choose(now_s, task.epoch, task.evidence, observed, hindrance, does_edge_answer=does_answer)

    def polled(self, now_s: float, task: Task, decision: Decision | None) -> Choice:
        """What the twin answered for ``task``; the standing plan's word where it did not, or cannot be obeyed."""
        choice = None if decision is None else self._plans.polled(decision, task.epoch, task.evidence)
        return self.standing(now_s, task) if choice is None else choice

    def take(self, now_s: float, task: Task, choice: Choice) -> Choice:
        """The decision that is taken for the task in service: ``choice``, or what is left where that is an offload and
        something hinders it."""
        if choice.decision.is_offload:
            hindrance = self._offloads.hindrance(now_s, task, len(self._offloads) + len(self._queue.resumed))
            if hindrance is not None:
                task.hindrance = task.hindrance or hindrance
                choice = self.standing(now_s, task, hindrance)
        task.choice = choice
        self.taken[task.epoch, choice.decision, choice.reason] += 1
        return choice

    def is_worth_sending_on(self, now_s: float, task: Task, address: str) -> bool:
        """Whether the plan would offload the task from where it stands, were its edge as the one at ``address``."""
        backlog_s = self._offloads.backlog_for_s(now_s, task, address)
        observed = Observed(len(self._queue), backlog_s, now_s - task.arrived_at_s)
        choice = self._plans.choose(now_s, task.epoch, task.evidence, observed, does_edge_answer=True)
        return choice.decision.is_offload
