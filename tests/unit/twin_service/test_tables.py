from dataclasses import replace

import numpy as np

from tests.unit.twin_service.made_up_twins import World, ended_task, state
from twin_service.messages import StartReport, TaskReport
from twin_service.tables import REASON_TEXTS, device_text, listing_table, plan_text, table
from twinsplit.plan import BusyUplink
from twinsplit.types import Decision, Outcome, Reason


def told_world() -> World:
    world = World()
    world.attach_edge()
    world.attach_device()
    for k in range(1, 4):
        started_at_s = world.now_s
        world.say(StartReport(k, started_at_s))
        world.wait(0.31)
        outcome = Outcome.EXIT if k == 3 else Outcome.DEVICE
        world.say(
            TaskReport((ended_task(k, started_at_s, outcome=outcome, epochs=1 if k == 3 else 3),), state=state(k))
        )
        world.core.archive.note_message("cam", "task")
    return world


def test_columns_are_aligned() -> None:
    assert table(("a", "long head"), [("xyz", "1")]) == "a    long head\n---  ---------\nxyz  1"


def test_a_device_shows_which_plan_stands_and_why_tasks_ended() -> None:
    world = told_world()
    text = device_text(world.core.device_view("cam", world.now_s), is_live=False)
    assert "device cam: attached" in text
    assert "by step: edge edge at 127.0.0.1:7100; exits run: 0; lease 10 s" in text
    assert "3 tasks ended: device 67%, exit 33%" in text
    assert "not-worth-it    2      66.7%  the edge was not worth it" in text
    assert "plans sent: 1 for attached" in text
    assert "1.00 messages per task" in text


def test_a_plan_is_shown_as_decisions_by_epoch_evidence_queue_and_backlog() -> None:
    world = told_world()
    plan = world.core.device_view("cam", world.now_s).plan
    assert plan is not None
    lines = plan_text(plan).splitlines()
    assert any(line.startswith("0      none") and "go on" in line for line in lines)
    assert any(line.startswith("1      exit 0 bin 0") and "tensor W<200, go on" in line for line in lines)
    assert any(line.startswith("1      exit 0 bin 1") and "exit" in line.split("bin 1")[1] for line in lines)
    assert not any(line.startswith("0      exit") for line in lines), "what goes on in every cell is left out"


def test_a_plan_with_a_deadline_is_shown_by_age() -> None:
    world = told_world()
    plan = world.core.device_view("cam", world.now_s).plan
    assert plan is not None
    table = np.repeat(plan.table[..., None], 3, axis=-1)
    table[1, 1, ..., 2] = Decision.EXIT
    text = plan_text(replace(plan, table=table, age_edges_s=(0.1, 0.25)))
    rows = [line.split() for line in text.splitlines() if line.startswith("1      exit 0 bin 0")]
    assert [row[5] for row in rows] == ["<250", "above"], "the first two ages decide alike"
    assert rows[1][6] == "exit"
    assert any(line.split()[:3] == ["0", "none", "any"] for line in text.splitlines())
    assert "younger than 80 ms" in text
    assert "younger" not in plan_text(plan)


def test_a_plan_that_tells_a_busy_uplink_apart_shows_both() -> None:
    plan = told_world().core.device_view("cam", 0.0).plan
    assert plan is not None
    assert "uplink" not in plan_text(plan)
    stays = np.full((4, 3, 4, 1), Decision.CONTINUE, dtype=np.uint8)
    text = plan_text(replace(plan, busy_uplink=BusyUplink(0.034, (), stays)))
    free, busy = text.split("while earlier payloads keep the uplink busy for 34 ms or longer:\n")
    assert "tensor W<200" in free
    assert "tensor W<" not in busy.partition('"tensor W<40')[0]
    assert "go on" in busy


def test_a_device_of_which_nothing_is_known_yet_is_shown_too() -> None:
    world = World()
    world.core.archive.opened("new").announce("ab" * 32, "")
    text = device_text(world.core.device_view("new", world.now_s), is_live=True)
    assert "detached" in text
    assert "no plan stands" in text
    assert "no task has ended yet" in text
    assert "no messages yet" in text


def test_all_twins_are_listed_a_line_each() -> None:
    world = told_world()
    text = listing_table(world.core.listing(world.now_s))
    assert "rule step" in text
    assert any(line.startswith("cam     attached") for line in text.splitlines())
    assert any(line.startswith("edge  attached  127.0.0.1:7100") for line in text.splitlines())
    empty = World().core
    assert "no devices" in listing_table(empty.listing(0.0))
    assert "no edges" in listing_table(empty.listing(0.0))


def test_every_reason_has_its_meaning_in_words() -> None:
    assert set(REASON_TEXTS) == {reason.value for reason in Reason}
