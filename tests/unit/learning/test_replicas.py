"""Of several replicas one learns; the others serve what it publishes. Learner and election without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_up_tasks import DIGEST, MANIFEST, made_up_tasks
from test_learner import BETTER_NET, GOOD, NET, SETTINGS, costly_task, promoted, results

from twin_service.learning import election as election_module
from twin_service.learning.election import Election
from twin_service.learning.learner import Learner, Result, WeightsState
from twin_service.learning.lesson import Report
from twin_service.memory import VolatileMemory, WeightsRow
from twin_service.workload.replayed import Replayed
from twinsplit.errors import StorageError, TrainingError

BETTER = replace(GOOD, candidate=BETTER_NET)


class SharedMemory(VolatileMemory):
    """Of which others write parts."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__()
        self.is_elected = False
        self.elections = 0
        self.published: dict[str, list[WeightsRow]] = {}
        self.others: list[Replayed] = []
        self.moved: list[tuple[str, int]] = []
        self.is_lost = False
        self.told: Callable[[], None] = lambda: None

    def on_news(self, told: Callable[[], None]) -> None:
        self.told = told

    def take_published(self) -> dict[str, list[WeightsRow]]:
        published, self.published = self.published, {}
        return published

    def take_others(self, limit: int) -> list[Replayed]:
        taken, self.others = self.others[:limit], self.others[limit:]
        return taken

    def take_moved(self) -> list[tuple[str, int]]:
        moved, self.moved = self.moved, []
        return moved

    def known_models(self) -> list[str]:
        return [DIGEST]

    def replay(self, model_digest: str, limit: int) -> list[Replayed]:
        if self.is_lost:
            raise StorageError("the database is gone")
        return super().replay(model_digest, limit)


class Told:
    """What an exchange is told."""

    def __init__(self) -> None:
        self.core = SimpleNamespace(manifests={DIGEST: MANIFEST})
        self.moved: list[tuple[str, int]] = []
        self.changes = self.asked = 0

    async def learn_of_documents(self) -> None:
        self.asked += 1

    def device_moved(self, device_id: str, epoch: int) -> None:
        self.moved.append((device_id, epoch))

    def learner_changed(self) -> None:
        self.changes += 1


def row(version: int, state: WeightsState, data: bytes | None = None) -> WeightsRow:
    return WeightsRow(DIGEST, version, state.value, 1e9, "{}", NET.to_bytes() if data is None else data)


def elected(memory: SharedMemory, tasks: int = 20) -> Learner:
    learner = Learner(memory, SETTINGS)
    learner.elected(made_up_tasks(tasks))
    return learner


def rolled_back(learner: Learner) -> None:
    for number in range(10):
        learner.task_replayed(costly_task(number), MANIFEST)
    assert results(learner)[-1] is Result.ROLLED_BACK


def served(learner: Learner) -> bytes | None:
    net = learner.net(DIGEST)
    return None if net is None else net.to_bytes()


def test_who_is_not_elected_neither_learns_nor_reads_what_would_wait_for_a_network() -> None:
    memory = SharedMemory()
    memory.is_lost = True
    learner = Learner(memory, SETTINGS)
    for task in made_up_tasks(40):
        learner.task_replayed(task, MANIFEST)
    assert learner.next_lesson() is None
    assert learner.net(DIGEST) is None
    assert results(learner) == []


def test_who_is_elected_learns_from_the_tasks_of_all() -> None:
    learner = elected(SharedMemory())
    assignment = learner.next_lesson()
    assert assignment is not None
    assert len(assignment.tasks) == 20
    learner.learnt(assignment, GOOD, 1e9)
    assert learner.serving_version(DIGEST) == 1


def test_what_another_replica_publishes_serves_and_its_roll_back_too() -> None:
    learner = Learner(SharedMemory(), SETTINGS)
    assert learner.net(DIGEST) is None
    learner.published(DIGEST, [row(1, WeightsState.REPLACED), row(2, WeightsState.SERVING)])
    assert learner.serving_version(DIGEST) == 2
    learner.published(DIGEST, [row(1, WeightsState.SERVING), row(2, WeightsState.ROLLED_BACK)])
    assert learner.serving_version(DIGEST) == 1
    learner.published(DIGEST, [row(1, WeightsState.ROLLED_BACK), row(2, WeightsState.ROLLED_BACK)])
    assert (learner.serving_version(DIGEST), learner.net(DIGEST)) == (0, None)
    assert results(learner) == [Result.ADOPTED] * 3
    assert all(event.changes_weights for event in learner.events)
    learner.published(DIGEST, [row(2, WeightsState.ROLLED_BACK)])
    assert len(learner.events) == 3


def test_published_weights_that_are_damaged_leave_those_in_force_and_are_not_written_about() -> None:
    memory = SharedMemory()
    learner = Learner(memory, SETTINGS)
    learner.net(DIGEST)
    learner.published(DIGEST, [row(1, WeightsState.SERVING)])
    learner.published(DIGEST, [row(1, WeightsState.REPLACED), row(2, WeightsState.SERVING, b"damaged")])
    assert learner.serving_version(DIGEST) == 1
    assert results(learner) == [Result.ADOPTED, Result.UNREADABLE]
    learner.save()
    assert memory.weights() == []


def test_who_is_deposed_forgets_what_it_did_not_publish_and_serves_what_it_did() -> None:
    memory = SharedMemory()
    learner = elected(memory)
    promoted(learner)
    learner.deposed()
    assert (learner.serving_version(DIGEST), learner.net(DIGEST)) == (0, None)
    assert results(learner) == [Result.PROMOTED, Result.ADOPTED]
    learner.save()
    assert memory.weights() == []


def test_who_is_deposed_serves_again_what_it_took_back_without_publishing_that() -> None:
    memory = SharedMemory()
    learner = elected(memory)
    promoted(learner)
    promoted(learner, BETTER)
    learner.save()
    published = memory.weights()
    rolled_back(learner)
    assert learner.serving_version(DIGEST) == 1
    learner.deposed()
    assert learner.serving_version(DIGEST) == 2
    learner.save()
    assert memory.weights() == published


def test_other_weights_under_the_version_of_those_that_were_lost_on_their_way_serve() -> None:
    memory = SharedMemory()
    learner = elected(memory)
    promoted(learner)
    learner.save()
    learner.deposed()
    learner.events.clear()
    learner.published(DIGEST, [row(1, WeightsState.SERVING, BETTER_NET.to_bytes())])
    assert served(learner) == BETTER_NET.to_bytes()
    assert results(learner) == [Result.ADOPTED]


def test_weights_that_were_never_published_do_not_serve_after_a_roll_back_of_others() -> None:
    memory = SharedMemory()
    learner = elected(memory)
    promoted(learner)
    promoted(learner, BETTER)
    learner.deposed()
    memory.keep_weights(row(1, WeightsState.SERVING, BETTER_NET.to_bytes()))
    learner.published(DIGEST, memory.weights())
    learner.elected(made_up_tasks(20))
    rolled_back(learner)
    assert learner.net(DIGEST) is None
    learner.save()
    assert memory.weights() == [row(1, WeightsState.ROLLED_BACK, BETTER_NET.to_bytes())]


@pytest.mark.parametrize("is_learnt", [True, False])
def test_a_lesson_that_ends_after_its_replica_was_deposed_changes_nothing(is_learnt: bool) -> None:
    learner = elected(SharedMemory())
    assignment = learner.next_lesson()
    assert assignment is not None
    learner.deposed()
    if is_learnt:
        learner.learnt(assignment, GOOD, 1e9)
    else:
        learner.failed(assignment, TrainingError("given up"))
    assert (learner.serving_version(DIGEST), results(learner)) == (0, [])


def test_a_new_learner_goes_on_from_what_was_published_with_a_higher_version() -> None:
    memory = SharedMemory()
    learner = Learner(memory, SETTINGS)
    learner.net(DIGEST)
    learner.published(DIGEST, [row(6, WeightsState.REFUSED), row(5, WeightsState.SERVING)])
    learner.elected(made_up_tasks(20))
    assignment = learner.next_lesson()
    assert assignment is not None
    assert assignment.version == 7
    assert assignment.serving is learner.net(DIGEST)
    learner.published(DIGEST, [])  # an echo from before the election
    assert learner.serving_version(DIGEST) == 5
    learner.learnt(assignment, Report(300, 0.02, GOOD.scores, None, BETTER_NET), 1e9)
    learner.save()
    assert {each.version: each.state for each in memory.weights()} == {5: "replaced", 7: "serving"}


def election(memory: SharedMemory) -> tuple[Election, Learner, Told]:
    learner, told = Learner(memory, SETTINGS), Told()
    return Election(memory, told, learner, None), learner, told


async def test_a_replica_that_is_elected_reads_the_newest_tasks_and_then_hears_of_others() -> None:
    memory = SharedMemory()
    tasks = made_up_tasks(25)
    memory.keep_replay(tasks[:20])
    follower, learner, told = election(memory)
    await follower.take()
    assert not learner.is_elected
    memory.is_elected, memory.others = True, tasks[20:]
    await follower.take()
    assert learner.is_elected
    assignment = learner.next_lesson()
    assert assignment is not None
    assert [task.task_id for task in assignment.tasks] == [task.task_id for task in tasks]
    memory.is_elected = False
    await follower.take()
    assert not learner.is_elected
    assert told.changes == 3


async def test_a_term_that_another_one_followed_is_over_even_if_nobody_looked_in_between() -> None:
    memory = SharedMemory()
    memory.is_elected, memory.elections = True, 1
    follower, learner, _ = election(memory)
    await follower.take()
    for task in made_up_tasks(20):
        learner.task_replayed(task, MANIFEST)
    assignment = learner.next_lesson()
    assert assignment is not None
    learner.learnt(assignment, GOOD, 1e9)
    assert learner.serving_version(DIGEST) == 1
    memory.elections, memory.published = 2, {DIGEST: [row(4, WeightsState.SERVING)]}
    await follower.take()
    assert learner.is_elected
    assert learner.serving_version(DIGEST) == 4
    learner.save()
    assert memory.weights() == []


async def test_a_replica_whose_tasks_cannot_be_read_learns_from_new_ones() -> None:
    memory = SharedMemory()
    memory.is_elected = memory.is_lost = True
    follower, learner, _ = election(memory)
    await follower.take()
    assert learner.is_elected
    assert learner.next_lesson() is None


async def test_news_are_taken_as_they_come() -> None:
    memory = SharedMemory()
    follower, learner, told = election(memory)
    learner.net(DIGEST)
    following = asyncio.ensure_future(follower.follow())
    await asyncio.sleep(0)
    memory.published = {DIGEST: [row(3, WeightsState.SERVING)]}
    memory.moved = [("cam", 4)]
    await asyncio.to_thread(memory.told)
    for _ in range(100):
        await asyncio.sleep(0)
        if told.moved:
            break
    following.cancel()
    assert learner.serving_version(DIGEST) == 3
    assert told.moved == [("cam", 4)]
    assert replace(learner.events[-1], cause="").result is Result.ADOPTED


async def test_what_could_not_be_asked_is_asked_again_without_any_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election_module, "_AGAIN_S", 0.0)
    follower, _, told = election(SharedMemory())
    following = asyncio.ensure_future(follower.follow())
    for _ in range(100):
        await asyncio.sleep(0)
    following.cancel()
    assert told.asked > 1
