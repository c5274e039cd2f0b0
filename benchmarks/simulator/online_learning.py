"""A twin that learns while it serves, in simulated time: its core with the workload twin that replays ended tasks and
the learner with its gate and its watch, over messages as in :mod:`benchmarks.simulator.by_plans`.

Replaying takes no simulated time, a lesson as long as is stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.signalling import Signalling
from benchmarks.streams import stream_seed
from twin_service.core import TwinCore
from twin_service.core_settings import CoreSettings
from twin_service.decision.rules import rule_named
from twin_service.learning.learner import Assignment, Learner, LearnerSettings
from twin_service.learning.lesson import Report, learn
from twin_service.memory import VolatileMemory
from twin_service.workload.twin import WorkloadSettings, WorkloadTwin
from twinsplit.errors import TwinsplitError

if TYPE_CHECKING:
    from benchmarks.simulator.world import World

LESSON_S = 15.0
"""What a lesson takes a core of which the twin service uses a quarter to learn."""
_CHORES_S = 0.5
"""Time between two looks for tasks to replay and for lessons."""


@dataclass(frozen=True, slots=True)
class WeightsEvent:
    """Something that became of a version of weights."""

    at_s: float
    result: str
    version: int
    cause: str


class LearningByPlans(ByPlans):
    """The product's default rule with all that makes it learn. For one run."""

    learner: Learner
    workload: WorkloadTwin

    def __init__(
        self,
        signalling: Signalling | None = None,
        name: str = "learned-online",
        *,
        settings: LearnerSettings | None = None,
        lesson_s: float = LESSON_S,
        learns_until_s: float = float("inf"),
    ) -> None:
        """
        Args:
            learns_until_s: from then on the weights in force stay, whatever they bring.
        """
        rule = rule_named("multi-step", net_of=lambda manifest: self.core.kept.net_of(manifest))
        super().__init__(rule, signalling, name)
        self.events: list[WeightsEvent] = []
        self._settings = settings
        self._lesson_s = lesson_s
        self._learns_until_s = learns_until_s

    def made_core(self, world: World) -> TwinCore:
        memory = VolatileMemory()
        self.learner = Learner(memory, self._settings)
        self.workload = WorkloadTwin(
            memory, WorkloadSettings(is_traced=False), seed=stream_seed(world.scenario.seed, "replay")
        )
        return TwinCore(
            self._rule,
            world.scenario.weights,
            memory,
            CoreSettings(planner=self.signalling.planner),
            workload=self.workload,
            learner=self.learner,
        )

    def begin(self, world: World) -> None:
        super().begin(world)
        self.events = []
        world.schedule(_CHORES_S, self._do_chores, None)

    def _do_chores(self, _: None) -> None:
        now_s = self._world.now_s
        if now_s >= self._learns_until_s:
            return
        while self.workload.next_due_s() <= now_s:
            self.workload.replay_next(now_s)
        self._take_events()
        assignment = self.learner.next_lesson()
        if assignment is not None:
            self._world.schedule(now_s + self._lesson_s, self._lesson_ended, (assignment, self._learnt(assignment)))
        self._world.schedule(now_s + _CHORES_S, self._do_chores, None)

    def _learnt(self, assignment: Assignment) -> Report | TwinsplitError:
        manifest = self.core.manifests.get(assignment.model_digest)
        assert manifest is not None, "devices upload it when they attach"
        try:
            _, report = learn(
                assignment.tasks,
                manifest,
                seed=stream_seed(self._world.scenario.seed, "lesson", assignment.version),
                options=assignment.options,
                serving=assignment.serving,
            )
        except TwinsplitError as error:
            return error
        return report

    def _lesson_ended(self, ended: tuple[Assignment, Report | TwinsplitError]) -> None:
        assignment, result = ended
        if isinstance(result, TwinsplitError):
            self.learner.failed(assignment, result)
        elif self._world.now_s < self._learns_until_s:
            self.learner.learnt(assignment, result, self._world.now_s)
        self._take_events()

    def _take_events(self) -> None:
        now_s, learner = self._world.now_s, self.learner
        while learner.events:
            event = learner.events.popleft()
            self.events.append(WeightsEvent(now_s, event.result.value, event.version, event.cause))
            if event.changes_weights:
                self.core.weights_changed(event.model_digest)
        self._tick()
