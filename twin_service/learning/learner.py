"""The learner: which weights serve for which model, when the next lesson is due, what became of it. Sans-IO.

It is told every replayed task; whoever runs it takes a lesson when one is due, has it learnt somewhere, and hands back
how it went. Whatever fails there, the weights in force stay, and without any the rule is open-loop.

Of several replicas that share a memory one is elected. It alone learns, watches and takes back; the others serve what
it publishes, and are told of it with :meth:`Learner.published`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from twin_service.decision.value_net import ValueNet
from twin_service.learning.lesson import Report
from twin_service.learning.options import LearningOptions
from twin_service.learning.promotion import LiveWatch, live_gain_s
from twin_service.manifests import MAX_HELD
from twin_service.memory import Memory, WeightsRow, keep_version
from twin_service.workload.replayed import Replayed
from twinsplit.errors import StorageError, WeightsError
from twinsplit.model.manifest import Manifest

OPEN_LOOP_VERSION = 0
"""Stands for no weights."""


class WeightsState(str, Enum):
    """What became of a version."""

    SERVING = "serving"
    REFUSED = "refused"
    """By the gate; its scores say why."""
    REPLACED = "replaced"
    """By a better one."""
    ROLLED_BACK = "rolled-back"
    """It cost more than it promised."""
    DAMAGED = "damaged"


class Result(str, Enum):
    """How a lesson, or a probation, ended."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    UNREADABLE = "unreadable"
    ADOPTED = "adopted"
    """Another replica has published what serves here from now on."""


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """When is learnt."""

    options: LearningOptions = field(default_factory=LearningOptions)
    most_tasks: int = 5000
    """Newest tasks of a model that are learnt from."""
    most_tasks_of_all: int = 20_000
    """Tasks of all models in memory, some 4 kB each."""
    restored_tasks: int = 1500
    """Newest tasks read again after a restart: more would keep a device that attaches waiting."""
    least_tasks: int = 300
    """Tasks before the first lesson."""
    new_tasks: int = 200
    """New tasks before the next one, at least."""
    new_share: float = 0.1
    """Likewise as a share of the tasks there are."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A lesson to be learnt."""

    model_digest: str
    version: int
    """That the candidate will have; the lesson's seed, too."""
    tasks: Sequence[Replayed]
    serving: ValueNet | None
    options: LearningOptions = field(default_factory=LearningOptions)


@dataclass(frozen=True, slots=True)
class LearnerEvent:
    """Something that somebody wants to know of."""

    result: Result
    model_digest: str
    version: int
    cause: str
    """Why, in a word or a sentence; empty where the result says it all."""

    @property
    def changes_weights(self) -> bool:
        """Whether other weights serve from now on."""
        return self.result in (Result.PROMOTED, Result.ROLLED_BACK, Result.ADOPTED)


class _Served(NamedTuple):
    """Weights in force; ``None``: open-loop."""

    row: WeightsRow | None = None
    net: ValueNet | None = None

    @property
    def version(self) -> int:
        return OPEN_LOOP_VERSION if self.row is None else self.row.version


_OPEN_LOOP = _Served()


@dataclass(slots=True)
class _Model:
    """What is known of one model."""

    tasks: deque[Replayed]
    watch: LiveWatch
    newest: int = OPEN_LOOP_VERSION
    """Version; all but the following are in the memory alone."""
    serving: _Served = _OPEN_LOOP
    before: _Served = _OPEN_LOOP
    """What served before, to go back to."""
    new_tasks: int = 0
    is_learning: bool = False


class Learner:
    """Weights of all models."""

    def __init__(self, memory: Memory, settings: LearnerSettings | None = None) -> None:
        self.settings = settings or LearnerSettings()
        self.events: deque[LearnerEvent] = deque(maxlen=256)
        """What happened, until somebody takes it out."""
        self.results: Counter[Result] = Counter()
        self.lessons = 0
        """Lessons taken so far."""
        self.last_report: Report | None = None
        """Of the newest lesson that ended."""
        self.is_elected = not memory.is_shared
        """Whether it may learn."""
        self._memory = memory
        self._models: dict[str, _Model] = {}
        self._unsaved: defaultdict[str, dict[int, WeightsRow]] = defaultdict(dict)

    # Weights.

    def net(self, model_digest: str) -> ValueNet | None:
        """Weights in force for a model; ``None``: none, so open-loop."""
        return self._model(model_digest).serving.net

    def serving_version(self, model_digest: str) -> int:
        """Their version; 0: open-loop."""
        return self._model(model_digest).serving.version

    @property
    def serving_versions(self) -> dict[str, int]:
        """Version in force by model."""
        return {model_digest: model.serving.version for model_digest, model in self._models.items()}

    # Learning.

    def task_replayed(self, task: Replayed, manifest: Manifest | None) -> None:
        """One more task to learn from; it also tells how the weights in force do, if its ``manifest`` is known."""
        if not self.is_elected:
            return
        model = self._model(task.model_digest)
        model.tasks.append(task)
        model.new_tasks += 1
        self._bound()
        gain_s = None if manifest is None else live_gain_s(task, manifest)
        if gain_s is not None and model.watch.ended(gain_s):
            self._roll_back(task.model_digest, model)

    def next_lesson(self) -> Assignment | None:
        """A lesson that is due; ``None``: none is. The model's next one waits for :meth:`learnt` or :meth:`failed`."""
        if not self.is_elected:
            return None
        for model_digest, model in self._models.items():
            needed = max(self.settings.new_tasks, int(self.settings.new_share * len(model.tasks)))
            is_due = len(model.tasks) >= self.settings.least_tasks and model.new_tasks >= needed
            if is_due and not model.is_learning:
                model.is_learning = True
                model.new_tasks = 0
                self.lessons += 1
                version, serving = model.newest + 1, model.serving.net
                return Assignment(model_digest, version, tuple(model.tasks), serving, self.settings.options)
        return None

    def learnt(self, assignment: Assignment, report: Report, now_unix_s: float) -> None:
        """A lesson has ended with ``report``."""
        model = self._model(assignment.model_digest)
        model.is_learning = False
        if not self.is_elected:
            return  # another replica publishes by now
        self.last_report = report
        if report.candidate is None:
            self._tell(Result.REFUSED, assignment.model_digest, assignment.version, report.refused_because or "")
            return
        # Weights may have been rolled back meanwhile: what was better than those need not be better than none.
        refused = report.refused_because
        if refused is None and model.serving.net is not assignment.serving:
            refused = "other-weights-serve-by-now"
        row = WeightsRow(
            assignment.model_digest,
            assignment.version,
            (WeightsState.SERVING if refused is None else WeightsState.REFUSED).value,
            now_unix_s,
            json.dumps({**report.as_document(), "refused_because": refused}),
            report.candidate.to_bytes(),
        )
        self._keep(row)
        model.newest = row.version
        if refused is not None:
            self._tell(Result.REFUSED, assignment.model_digest, assignment.version, refused)
            return
        self._state(model.serving.row, WeightsState.REPLACED)
        model.before, model.serving = model.serving, _Served(row, report.candidate)
        model.watch.promoted()
        self._tell(Result.PROMOTED, assignment.model_digest, assignment.version, "")

    def failed(self, assignment: Assignment, error: Exception) -> None:
        """A lesson could not be learnt; the weights in force stay."""
        self._model(assignment.model_digest).is_learning = False
        if not self.is_elected:
            return
        self._tell(Result.FAILED, assignment.model_digest, assignment.version, str(error))

    # Among replicas.

    def elected(self, tasks: Sequence[Replayed]) -> None:
        """From now on this replica learns; ``tasks`` are the newest of all replicas, oldest first."""
        self.is_elected = True
        for model in self._models.values():
            if model.serving.row is not None:
                model.watch.promoted()
        for task in tasks:
            model = self._model(task.model_digest)
            model.tasks.append(task)
            model.new_tasks += 1
            self._bound()

    def deposed(self) -> None:
        """Another replica may learn by now; what was not published is forgotten, and what was serves."""
        self.is_elected = False
        self._unsaved.clear()
        for model_digest, model in self._models.items():
            model.tasks.clear()
            model.new_tasks = 0
            self.published(model_digest, self._memory.weights(model_digest))
            model.watch.rolled_back()

    def published(self, model_digest: str, rows: Sequence[WeightsRow]) -> None:
        """All versions of a model as the replica that learns has published them."""
        model = self._models.get(model_digest)
        if model is None or self.is_elected:
            return
        before = model.serving
        self._serve_kept(model_digest, model, rows)
        if model.serving is not before:
            self._tell(Result.ADOPTED, model_digest, model.serving.version, f"in place of version {before.version}")

    def save(self) -> None:
        """Keep new versions and what became of older ones.

        Raises:
            StorageError: they cannot be kept; they stay due.
        """
        for versions in self._unsaved.values():
            for version in sorted(versions):
                self._memory.keep_weights(versions[version])
                del versions[version]

    # How it is done.

    def _model(self, model_digest: str) -> _Model:
        model = self._models.get(model_digest)
        if model is None:
            watch = LiveWatch(self.settings.options.gate)
            model = self._models[model_digest] = _Model(deque(maxlen=self.settings.most_tasks), watch)
            self._restore(model_digest, model)
            if len(self._models) > MAX_HELD:
                del self._models[next(iter(self._models))]  # memory still has it
        return model

    def _bound(self) -> None:
        if sum(len(model.tasks) for model in self._models.values()) > self.settings.most_tasks_of_all:
            max(self._models.values(), key=lambda model: len(model.tasks)).tasks.popleft()

    def _restore(self, model_digest: str, model: _Model) -> None:
        rows: Sequence[WeightsRow] = ()
        try:
            rows = self._memory.weights(model_digest)
            if not self._memory.is_shared:
                model.tasks.extend(self._memory.replay(model_digest, self.settings.restored_tasks))
        except StorageError as error:
            self._tell(Result.UNREADABLE, model_digest, OPEN_LOOP_VERSION, str(error))
        model.new_tasks = len(model.tasks)
        self._serve_kept(model_digest, model, rows)

    def _serve_kept(self, model_digest: str, model: _Model, rows: Sequence[WeightsRow]) -> None:
        """Serve the version that is kept as serving among all versions of the model."""
        model.newest = max((row.version for row in rows), default=OPEN_LOOP_VERSION)
        serving = [row for row in rows if row.state == WeightsState.SERVING.value]
        if not serving:
            model.serving = model.before = _OPEN_LOOP
            return
        row, here = serving[-1], model.serving.row
        # Another replica may have published other weights under a version that was not published from here.
        if here is not None and (row.version, row.data) == (here.version, here.data):
            return
        try:
            model.serving, model.before = _Served(row, ValueNet.from_bytes(row.data)), _OPEN_LOOP
            model.watch.promoted()  # on probation again: what it brought before the restart is not known
        except WeightsError as error:
            self._state(row, WeightsState.DAMAGED)
            self._tell(Result.UNREADABLE, model_digest, row.version, str(error))

    def _roll_back(self, model_digest: str, model: _Model) -> None:
        version = model.serving.version
        self._state(model.serving.row, WeightsState.ROLLED_BACK)
        model.serving, model.before = model.before, _OPEN_LOOP
        self._state(model.serving.row, WeightsState.SERVING)
        model.watch.rolled_back()
        if model.serving.row is not None:
            model.watch.promoted()
        self._tell(Result.ROLLED_BACK, model_digest, version, f"version {model.serving.version} serves again")

    def _state(self, row: WeightsRow | None, state: WeightsState) -> None:
        """Keep what became of a version."""
        if row is not None:
            self._keep(replace(row, state=state.value))

    def _keep(self, row: WeightsRow) -> None:
        if self.is_elected:
            keep_version(self._unsaved[row.model_digest], row)

    def _tell(self, result: Result, model_digest: str, version: int, cause: str) -> None:
        self.results[result] += 1
        self.events.append(LearnerEvent(result, model_digest, version, cause))
