from __future__ import annotations

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_tasks import DIGEST, MANIFEST, made_up_task, made_up_tasks
from test_lessons import constant

from tests.unit.workload.test_conditions import CONDITIONS
from twin_service.learning.learner import Learner, LearnerSettings, Result
from twin_service.learning.lesson import Report
from twin_service.learning.options import GateOptions, LearningOptions
from twin_service.learning.promotion import Gain, Scores, live_gain_s
from twin_service.memory import MAX_REFUSED, VolatileMemory, WeightsRow
from twinsplit.errors import StorageError, TrainingError
from twinsplit.types import Decision

SETTINGS = LearnerSettings(
    LearningOptions(gate=GateOptions(least_watched_tasks=10, watched_tasks=30)),
    most_tasks=50,
    least_tasks=20,
    new_tasks=10,
)
SCORES = Scores(60, 0.03, 0.04, 0.04, Gain(0.01, 0.001), Gain(0.01, 0.001), Gain(0.01, 0.001), Gain(0.01, 0.001))
NET, BETTER_NET = constant(0.0, -0.1), constant(0.0, -0.2)
GOOD = Report(300, 0.02, SCORES, None, NET)
BAD = Report(300, 0.02, SCORES, "no-better-than-zero", NET)


def learner_with(memory: VolatileMemory | None = None, tasks: int = 20) -> Learner:
    learner = Learner(memory or VolatileMemory(), SETTINGS)
    for task in made_up_tasks(tasks):
        learner.task_replayed(task, MANIFEST)
    return learner


def promoted(learner: Learner, report: Report = GOOD) -> int:
    """The version that serves after a lesson that went well."""
    while (assignment := learner.next_lesson()) is None:
        learner.task_replayed(made_up_task(99, np.random.default_rng(0)), MANIFEST)
    learner.learnt(assignment, report, 1e9)
    return assignment.version


def results(learner: Learner) -> list[Result]:
    return [event.result for event in learner.events]


def test_a_lesson_is_due_when_there_are_tasks_enough_and_then_when_enough_are_new() -> None:
    learner = learner_with(tasks=19)
    assert learner.next_lesson() is None
    learner.task_replayed(made_up_tasks(20)[-1], MANIFEST)
    assignment = learner.next_lesson()
    assert (assignment.model_digest, assignment.version, len(assignment.tasks)) == (DIGEST, 1, 20)
    for task in made_up_tasks(10):
        learner.task_replayed(task, MANIFEST)
    assert learner.next_lesson() is None  # the first is still under way
    learner.failed(assignment, TrainingError("no"))
    assert learner.next_lesson() is not None


def test_only_the_newest_tasks_are_learnt_from() -> None:
    assignment = learner_with(tasks=90).next_lesson()
    assert [task.task_id for task in assignment.tasks] == list(range(41, 91))


def test_tasks_of_all_models_together_are_bounded() -> None:
    learner = Learner(VolatileMemory(), replace(SETTINGS, most_tasks_of_all=30))
    for task in made_up_tasks(25):
        learner.task_replayed(task, MANIFEST)
    for task in made_up_tasks(25, model_digest="b" * 64):
        learner.task_replayed(task, MANIFEST)
    kept = [len(learner._model(digest).tasks) for digest in (DIGEST, "b" * 64)]
    assert sum(kept) == 30
    assert min(kept) >= 10


def test_weights_that_pass_the_gate_serve() -> None:
    learner = learner_with()
    assert learner.net(DIGEST) is None
    version = promoted(learner)
    assert learner.net(DIGEST) is NET
    assert learner.serving_versions == {DIGEST: version}
    (event,) = learner.events
    assert (event.result, event.version, event.changes_weights) == (Result.PROMOTED, version, True)


def test_refused_weights_are_kept_with_their_scores_and_do_not_serve() -> None:
    memory = VolatileMemory()
    learner = learner_with(memory)
    promoted(learner, BAD)
    assert learner.net(DIGEST) is None
    assert results(learner) == [Result.REFUSED]
    learner.save()
    (row,) = memory.weights(DIGEST)
    assert (row.version, row.state) == (1, "refused")
    assert json.loads(row.scores_json)["refused_because"] == "no-better-than-zero"


def test_a_lesson_that_fails_leaves_the_weights_in_force() -> None:
    learner = learner_with()
    promoted(learner)
    for task in made_up_tasks(10):
        learner.task_replayed(task, MANIFEST)
    learner.failed(learner.next_lesson(), TrainingError("training diverged"))
    assert learner.net(DIGEST) is NET
    assert learner.events[-1].cause == "training diverged"


def test_versions_count_on_and_states_tell_what_became_of_them() -> None:
    memory = VolatileMemory()
    learner = learner_with(memory)
    promoted(learner)
    promoted(learner, replace(GOOD, candidate=BETTER_NET))
    promoted(learner, BAD)
    learner.save()
    assert [(row.version, row.state) for row in memory.weights()] == [(1, "replaced"), (2, "serving"), (3, "refused")]
    assert learner.net(DIGEST) is BETTER_NET


def test_a_learner_holds_no_version_but_those_that_may_serve() -> None:
    class OnDisk(VolatileMemory):
        def keep_weights(self, row):
            pass

    def rows() -> int:
        gc.collect()
        return sum(type(each) is WeightsRow for each in gc.get_objects())

    learner, rows_before = learner_with(OnDisk()), rows()
    for report in (GOOD, GOOD, GOOD, *[BAD] * 20):
        version = promoted(learner, report)
        learner.save()
    assert version == 23
    assert rows() - rows_before == 2


def test_of_refused_versions_that_cannot_be_kept_the_newest_wait() -> None:
    learner = learner_with()
    learner.settings = replace(SETTINGS, new_tasks=1, new_share=0.0)
    for _ in range(MAX_REFUSED + 3):
        promoted(learner, BAD)
    assert [row.version for row in learner._unsaved[DIGEST].values()] == list(range(4, MAX_REFUSED + 4))


def costly_task(number: int):
    """Offloading was taken and brought much less than what open-loop would have done."""
    rng = np.random.default_rng(number)
    task = made_up_task(number, rng, spread_s=0.0, taken_epoch=5, taken=Decision.CONTINUE)
    return replace(task, finish_s=-3.0 + rng.normal(0.0, 0.01), base_tensor=task.base_tensor + 1.0)


def test_weights_that_cost_more_than_open_loop_are_rolled_back_to_those_before() -> None:
    memory = VolatileMemory()
    learner = learner_with(memory)
    promoted(learner)
    promoted(learner, replace(GOOD, candidate=BETTER_NET))
    learner.events.clear()
    for number in range(10):
        learner.task_replayed(costly_task(number), MANIFEST)
    assert learner.net(DIGEST) is NET
    assert results(learner) == [Result.ROLLED_BACK]
    assert learner.events[0].changes_weights
    learner.save()
    assert [row.state for row in memory.weights(DIGEST)] == ["serving", "rolled-back"]
    for number in range(10):
        learner.task_replayed(costly_task(number), MANIFEST)
    assert learner.net(DIGEST) is None


def test_tasks_with_a_deadline_are_learnt_from_but_say_nothing_of_the_weights_in_force() -> None:
    learner = learner_with()
    promoted(learner)
    for number in range(20):
        learner.task_replayed(replace(costly_task(number), conditions=replace(CONDITIONS, deadline_s=0.1)), MANIFEST)
    assert learner.net(DIGEST) is NET
    assert len(learner.next_lesson().tasks) == 40


def test_what_was_judged_against_weights_that_no_longer_serve_does_not_serve() -> None:
    learner = learner_with()
    promoted(learner)
    for task in made_up_tasks(10):
        learner.task_replayed(task, MANIFEST)
    assignment = learner.next_lesson()
    for number in range(10):
        learner.task_replayed(costly_task(number), MANIFEST)
    assert learner.net(DIGEST) is None
    learner.learnt(assignment, GOOD, 1e9)
    assert learner.net(DIGEST) is None
    assert learner.events[-1].cause == "other-weights-serve-by-now"


def test_weights_and_tasks_survive_a_restart() -> None:
    memory = VolatileMemory()
    memory.keep_replay(made_up_tasks(30))
    learner = learner_with(memory)
    version = promoted(learner)
    learner.save()
    again = Learner(memory, SETTINGS)
    assert np.array_equal(again.net(DIGEST).layers[-1][1], NET.layers[-1][1])
    assert again.serving_version(DIGEST) == version
    assignment = again.next_lesson()
    assert assignment.version == version + 1
    assert [task.task_id for task in assignment.tasks] == list(range(1, 31))


def test_damaged_weights_are_named_and_open_loop_goes_on() -> None:
    memory = VolatileMemory()
    learner = learner_with(memory)
    promoted(learner)
    learner.save()
    (row,) = memory.weights(DIGEST)
    memory.keep_weights(replace(row, data=row.data[:-9]))
    again = Learner(memory, SETTINGS)
    assert again.net(DIGEST) is None
    assert results(again) == [Result.UNREADABLE]
    assert "damaged" in again.events[0].cause
    again.save()
    assert [row.state for row in memory.weights(DIGEST)] == ["damaged"]


def test_a_memory_that_cannot_be_read_is_named_and_open_loop_goes_on() -> None:
    class Broken(VolatileMemory):
        def weights(self, model_digest=None):
            raise StorageError("the disk is gone")

    learner = Learner(Broken(), SETTINGS)
    assert learner.net(DIGEST) is None
    assert learner.events[0].cause == "the disk is gone"


def test_going_on_gained_nothing_by_a_sample_that_showed_itself_to_be_easy() -> None:
    """Open loop would have sent the input at once; an exit told what one has to expect of the network."""
    rng = np.random.default_rng(0)
    plain = made_up_task(1, rng, taken_epoch=1, taken=Decision.EXIT)
    plain.base_tensor[0], plain.base_going_on[0] = 2.0, 1.0
    easy = replace(plain, evidence=np.array([0, 4, 4, 4, 4, 4], np.int16))
    rose_s = plain.alpha_s * (MANIFEST.p_whole_right(4) - MANIFEST.p_whole_right(0))
    gains_s = [live_gain_s(task, MANIFEST) for task in (plain, easy)]
    assert rose_s > 0.01
    assert gains_s[1] == pytest.approx(gains_s[0] - rose_s)
    assert live_gain_s(replace(plain, evidence=np.full(6, 99, np.int16)), MANIFEST) is None, "of another model"


@pytest.mark.parametrize("seed", range(5))
def test_a_task_that_did_what_open_loop_would_have_done_gained_nothing(seed) -> None:
    task = made_up_task(1, np.random.default_rng(seed), taken_epoch=0)
    better = Decision.OFFLOAD_TENSOR if task.base_tensor[0] >= task.base_input[0] else Decision.OFFLOAD_INPUT
    if max(task.base_tensor[0], task.base_input[0]) > task.base_going_on[0]:
        assert live_gain_s(replace(task, taken=better), MANIFEST) == pytest.approx(0.0)
    else:
        assert live_gain_s(replace(task, taken=better), MANIFEST) != 0.0
