"""The feed of ended tasks: what is kept, what it adds up to, why a task stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import MANIFEST, StepRule, World, ended_task, state
from twin_service import messages
from twin_service.console.feed import KEPT_TASKS, KEPT_THUMBNAILS, TaskFeed
from twin_service.console.payoffs import Compared, PayoffBook
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.utility import NEVER
from twin_service.decision.values import OpenLoopValues
from twinsplit.plan import BusyUplink
from twinsplit.types import Decision, Outcome, Reason

JPEG = b"\xff\xd8\xff rest"


def fed(world: World) -> TaskFeed:
    feed = TaskFeed(world.now_s)
    world.core.ended_tasks.told.append(feed.take)
    return feed


def report(world: World, *tasks: object, queue_length: int = 0, entered: int = 0, device_id: str = "cam") -> None:
    world.say(messages.TaskReport(tasks, None, queue_length, state(entered)), device_id)


def planned(rule: object = None) -> World:
    world = World(rule or StepRule())
    world.attach_edge()
    world.attach_device()
    world.wait(1.0)
    return world


def plan_id(world: World) -> int:
    standing = world.core.devices["cam"].standing
    assert standing is not None
    return standing.plan.plan_id


def test_tasks_come_newest_first_and_the_oldest_go() -> None:
    world = planned()
    feed = fed(world)
    world.attach_device("other")
    for task_id in range(1, KEPT_TASKS + 11):
        report(world, ended_task(task_id, world.now_s - 0.31), device_id="other" if task_id % 10 == 0 else "cam")
    newest = [(e.device_id, e.task.task_id) for e in feed.newest(3)]
    assert newest == [("other", 1010), ("cam", 1009), ("cam", 1008)]
    assert [e.task.task_id for e in feed.newest(2, "other")] == [1010, 1000]
    assert len(list(feed.newest(10_000))) == KEPT_TASKS
    assert feed.totals.tasks == KEPT_TASKS + 10


def test_totals_count_lost_tasks_as_wrong() -> None:
    world = planned()
    feed = fed(world)
    answered = replace(ended_task(1, world.now_s - 0.31), confidence=0.8, energy_joules=0.5, energy_source="model")
    unknown = replace(ended_task(2, world.now_s - 0.31), confidence=None, energy_joules=None)
    lost = replace(
        ended_task(3, world.now_s - 0.31),
        outcome=Outcome.DROPPED,
        reason=Reason.QUEUE_FULL,
        confidence=None,
        energy_joules=0.1,
        energy_source="model",
    )
    report(world, answered, unknown, lost)
    totals = feed.totals
    assert dict(totals.outcomes) == {"device": 2, "dropped": 1}
    assert (totals.right, totals.judged) == (0.8, 2)
    assert (totals.answered, totals.measured) == (2, 2)
    assert totals.latency_s == pytest.approx(2 * 0.31)
    assert totals.latency_p95_s() == pytest.approx(0.31)
    assert totals.energy_joules == pytest.approx(0.6)
    assert totals.energy_source == "model"
    report(world, replace(answered, energy_source="rapl"))
    assert totals.energy_source == "mixed"


def test_thumbnails_are_kept_as_long_as_there_is_room() -> None:
    world = planned()
    feed = fed(world)
    for task_id in range(1, KEPT_THUMBNAILS + 3):
        report(world, replace(ended_task(task_id, world.now_s - 0.31), thumbnail_jpeg=JPEG))
    assert feed.thumbnail("cam", 2) is None
    assert feed.thumbnail("cam", 3) == JPEG
    assert feed.thumbnail("other", 3) is None


def test_a_picture_of_a_device_whose_frames_must_stay_is_not_kept() -> None:
    world = World()
    world.attach_device(is_tensors_only=True)
    feed = fed(world)
    report(world, replace(ended_task(1, world.now_s - 0.31), thumbnail_jpeg=JPEG))
    assert [e.task.task_id for e in feed.newest(5)] == [1]
    assert feed.thumbnail("cam", 1) is None


def test_offloads_under_way_are_what_entered_and_is_nowhere_else() -> None:
    world = planned()
    feed = fed(world)
    assert feed.in_flight("cam") is None
    report(world, ended_task(7, world.now_s - 0.31), entered=7)
    assert feed.in_flight("cam") == 0
    report(world, ended_task(8, world.now_s - 0.31), entered=12, queue_length=2)
    assert feed.in_flight("cam") == 2
    report(world, ended_task(9, world.now_s - 0.31), ended_task(10, world.now_s - 0.31), entered=12, queue_length=2)
    assert feed.in_flight("cam") == 0
    report(world, ended_task(1, world.now_s - 0.31), entered=1)  # the device has started anew
    assert feed.in_flight("cam") == 0


def test_payoffs_are_those_that_the_plan_compared() -> None:
    world = planned(OPEN_LOOP)
    feed = fed(world)
    world.edge_reports(0.4)
    standing = world.core.devices["cam"].standing
    assert standing is not None
    for outcome, epochs in ((Outcome.EDGE, 1), (Outcome.EXIT, 1), (Outcome.DEVICE, 3)):
        task = ended_task(1, world.now_s - 0.31, outcome=outcome, epochs=epochs, ended_at_s=world.now_s)
        report(world, replace(task, plan_id=standing.plan.plan_id, queue_length=1), queue_length=1)
        (ended,) = feed.newest(1)
        compared = PayoffBook().compared(ended)
        assert isinstance(compared, Compared)
        assert compared.queue_length == 1
        exact = OpenLoopValues(standing.weighed, standing.plan.exits_run).at(
            epochs, task.evidence, 1.0, compared.backlog_s, standing.weighed.uplink_busy_s
        )
        assert compared.continue_s == pytest.approx(exact.going_on, abs=0.01)
        assert compared.exit_s == pytest.approx(exact.exit)
        assert (compared.offload_s is None) == (exact.best_offload < NEVER / 2)
        if compared.offload_s is not None:
            assert compared.offload_s == pytest.approx(exact.best_offload, abs=0.01)
        best = max(
            (compared.continue_s, compared.exit_s, compared.offload_s), key=lambda s: s if s is not None else -1e9
        )
        cell = standing.plan.decision(epochs, task.evidence, 1, compared.backlog_s)
        if cell is Decision.EXIT:
            assert best == compared.exit_s
        elif cell.is_offload:
            assert best == compared.offload_s


def test_where_a_busy_uplink_decided_its_payoffs_are_shown() -> None:
    world = planned(OPEN_LOOP)
    feed = fed(world)
    standing = world.core.devices["cam"].standing
    assert standing is not None
    slow = replace(standing.weighed, goodput_bytes_per_s=20_000.0, uplink_busy_share=0.2)
    evaluation = OPEN_LOOP.evaluate([slow])[0]
    assert evaluation.busy is not None
    # One table stays where the other offloads, so that what a task did tells which of them it was.
    goes = np.full((*standing.plan.table.shape[:3], 1), Decision.OFFLOAD_TENSOR, dtype=np.uint8)
    stays = np.full_like(goes, Decision.CONTINUE)
    plan = replace(standing.plan, table=goes, band_edges_s=(), busy_uplink=BusyUplink(0.03, (), stays))
    standing.plan, standing.evaluation, standing.table = plan, evaluation, evaluation.plan_table
    shown = {}
    for outcome in (Outcome.EDGE, Outcome.DEVICE):
        task = ended_task(1, world.now_s - 0.31, outcome=outcome, epochs=2, ended_at_s=world.now_s)
        report(world, replace(task, plan_id=plan.plan_id, stop_epoch=2))
        (ended,) = feed.newest(1)
        compared = PayoffBook().compared(ended)
        assert isinstance(compared, Compared)
        shown[outcome] = compared.offload_s or 0.0
    waited_s = shown[Outcome.EDGE] - shown[Outcome.DEVICE]
    assert waited_s == pytest.approx(3.0 * evaluation.plan_table.busy_uplink.from_s, rel=0.05)


def test_payoffs_with_a_deadline_are_those_of_the_tasks_age() -> None:
    world = World(OPEN_LOOP)
    world.core.planner.weights = replace(world.core.planner.weights, deadline_s=0.3)
    world.attach_edge()
    world.attach_device()
    feed = fed(world)
    task = replace(ended_task(1, world.now_s - 0.11, outcome=Outcome.EXIT, epochs=1), plan_id=plan_id(world))
    report(world, task, replace(task, arrived_at_s=task.arrived_at_s - 10.0))
    late, in_time = (PayoffBook().compared(e) for e in feed.newest(2))
    assert in_time is not None
    assert late is not None
    assert in_time.exit_s == pytest.approx(2.5 * MANIFEST.p_exit_right(2))
    assert late.exit_s == pytest.approx(0.0)


def test_a_rule_that_compares_nothing_has_no_payoffs() -> None:
    world = planned(StepRule())
    feed = fed(world)
    report(world, replace(ended_task(1, world.now_s - 0.31), plan_id=plan_id(world)))
    (ended,) = feed.newest(1)
    assert ended.decided is not None
    assert PayoffBook().compared(ended) is None


@pytest.mark.parametrize("which", [None, 10_000], ids=["no plan", "a plan that is not kept"])
def test_a_task_that_no_known_plan_decided_has_no_payoffs(which: int | None) -> None:
    world = planned(OPEN_LOOP)
    feed = fed(world)
    report(world, replace(ended_task(1, world.now_s - 0.31), plan_id=which))
    (ended,) = feed.newest(1)
    assert PayoffBook().compared(ended) is None


def test_one_evaluation_serves_all_tasks_of_a_plan() -> None:
    world = planned(OPEN_LOOP)
    feed = fed(world)
    book = PayoffBook()
    for task_id in range(1, 9):
        report(world, replace(ended_task(task_id, world.now_s - 0.31), plan_id=plan_id(world)))
    first, *others = feed.newest(8)
    assert not book.is_cheap(first)
    assert all(book.compared(e) is not None for e in (first, *others))
    assert book.grids == 1
    assert book.is_cheap(first)
