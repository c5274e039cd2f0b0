"""The snapshot: what docs/console.md says that it holds, where a task stands, what many devices make of it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.console.asking import Console
from tests.unit.twin_service.made_up_twins import MANIFEST, StepRule, World, ended_task, state
from twin_service import messages
from twin_service.console.plan_rows import WORDS, evidence_text
from twin_service.console.snapshot import SHOWN_DEVICES, SHOWN_TASKS, finite, position
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.documents import Desired
from twinsplit.reckoning import ProgressModel
from twinsplit.types import Decision

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/console.md"


def documented(heading: str) -> Any:
    """The JSON example under a heading of the document, without its comments."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1]
    example = re.search(r"^    \{\n.*?^    \}\n", text, re.MULTILINE | re.DOTALL)
    assert example is not None
    plain = re.sub(r" +//.*", "", example[0]).replace("[...]", "[]")
    return json.loads(plain)


def assert_has(found: Any, wanted: Any, where: str = "snapshot") -> None:
    """``found`` has exactly the keys of ``wanted``, down to where either is unknown."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        counts = where.rpartition(".")[2] in ("outcomes", "reasons", "plan_revisions", "messages_per_task")
        assert counts or found.keys() == wanted.keys(), where
        for key in found.keys() & wanted.keys():
            assert_has(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list):
        for element in found if wanted else ():
            assert_has(element, wanted[0], f"{where}[]")


async def busy_console(rule: object = OPEN_LOOP) -> Console:
    world = World(rule)
    console = Console(world)
    world.attach_edge(backlog_s=0.05)
    world.attach_device()
    world.wait(0.2)
    standing = world.core.devices["cam"].standing
    task = replace(
        ended_task(7, world.now_s - 0.31),
        plan_id=None if standing is None else standing.plan.plan_id,
        thumbnail_jpeg=b"\xff\xd8\xff",
        confidence=0.9,
        label="coat",
    )
    world.say(messages.TaskReport((task,), messages.StartReport(8, world.now_s, 1), 1, state(9)))
    world.wait(0.15)
    console.clock.advance_to(world.now_s)
    return console


async def test_the_snapshot_is_what_the_document_says() -> None:
    console = await busy_console()
    snapshot = (await console.ask("/api/snapshot")).document
    assert_has(snapshot, documented("Snapshot"))
    (device,) = snapshot["devices"]
    assert device["task"]["task_id"] == 8
    assert device["task"]["epoch"] == 1
    assert device["task"]["position"] == pytest.approx(1.4)
    assert device["plan"]["queue_level"] == 1
    assert device["model"]["exits"][0]["after_segment"] == 1
    (edge,) = snapshot["edges"]
    assert edge["predicted_backlog_s"] < 0.06
    (task,) = snapshot["tasks"]
    assert task["payoffs"]["continue_s"] is not None
    assert task["reason_text"] == "the edge was not worth it"
    assert (await console.ask(task["thumbnail"])).body == b"\xff\xd8\xff"


async def test_backlogs_are_what_the_document_says() -> None:
    console = await busy_console()
    console.snapshots.remember_backlogs()
    past = json.loads(await console.snapshots.backlogs())
    assert_has(past, documented("Backlogs"), "backlogs")
    assert [len(point) for edge in past["edges"] for point in edge["points"]] == [3]


async def test_every_field_is_there_with_its_unit() -> None:
    console = await busy_console()
    console.world.core.desire("cam", Desired(alpha_s=1.0), 1)
    (device,) = (await console.ask("/api/snapshot?device=cam")).document["devices"]
    fields = {field["name"]: field for field in device["fields"]}
    assert fields["queue_length"]["unit"] == "tasks"
    assert fields["goodput_bytes_per_s"]["unit"] == "B/s"
    assert fields["segment_2_s"]["unit"] == "s"
    assert fields["task_rate_per_s"]["unit"] == "1/s"
    assert fields["energy_joules"]["unit"] == "J"
    assert fields["alpha_s"]["desired"] == 1.0
    assert fields["queue_length"]["source"] in ("live", "reported", "predicted")
    assert device["weights"]["alpha_s"] == 1.0


async def test_a_plan_is_shown_as_it_decides() -> None:
    console = await busy_console()
    device = console.world.core.devices["cam"]
    assert device.standing is not None
    plan = device.standing.plan
    (shown,) = (await console.ask("/api/snapshot")).document["devices"]
    rows, edges_s = shown["plan"]["rows"], shown["plan"]["band_edges_s"]
    inside = [0.0, *(edge_s + 1e-9 for edge_s in edges_s)]
    assert {row["epoch"] for row in rows} == {0, 1, 2, 3}
    seen: dict[int, list[int]] = {}
    for row in rows:
        states = range(row["evidence"], row["evidence_last"] + 1)
        seen.setdefault(row["epoch"], []).extend(states)
        for evidence in states:
            cells = [WORDS[plan.decision(row["epoch"], evidence, 1, backlog_s)] for backlog_s in inside]
            assert cells == row["cells"]
    expected = [1, 2] if plan.exits_run[0] else [0]
    assert seen == {0: [0], 1: expected, 2: expected, 3: expected}
    for left, right in zip(range(len(edges_s)), range(1, len(edges_s) + 1), strict=True):
        assert any(row["cells"][left] != row["cells"][right] for row in rows), "a band that tells nothing"


async def test_a_row_says_what_it_sends() -> None:
    world = World(StepRule())
    console = Console(world)
    world.attach_edge()
    world.attach_device()
    (device,) = (await console.ask("/api/snapshot")).document["devices"]
    by_epoch = {row["epoch"]: row for row in device["plan"]["rows"]}
    assert by_epoch[0]["payload"] is None
    assert by_epoch[2]["payload"] == "cut 2 as uint8+zstd, 1000 bytes"
    assert device["plan"]["band_edges_s"] == [0.2]


async def test_a_device_that_only_left_its_document_is_shown_by_it() -> None:
    console = await busy_console()
    console.world.core.save()
    again = Console(World(memory=console.world.memory))
    (device,) = (await again.ask("/api/snapshot")).document["devices"]
    assert_has(device, documented("Snapshot")["devices"][0])
    assert (device["is_attached"], device["plan"], device["task"]) == (False, None, None)
    assert device["outcomes"] == {"device": 1}


async def test_a_fleet_is_shown_in_parts_attached_devices_first() -> None:
    world = World()
    console = Console(world)
    names = [f"cam-{number:03}" for number in range(SHOWN_DEVICES + 30)]
    for name in names:
        world.attach_device(name)
    world.core.detach_device("cam-000", world.streams["cam-000"])
    first = (await console.ask("/api/snapshot")).document
    second = (await console.ask(f"/api/snapshot?offset={SHOWN_DEVICES}")).document
    assert first["devices_total"] == second["devices_total"] == len(names)
    assert second["devices_offset"] == SHOWN_DEVICES
    shown = [device["id"] for device in (*first["devices"], *second["devices"])]
    assert len(first["devices"]) == SHOWN_DEVICES
    assert shown == [*names[1:], "cam-000"]
    assert (await console.ask("/api/snapshot?offset=1000")).document["devices"] == []
    (only,) = (await console.ask("/api/snapshot?device=cam-229")).document["devices"]
    assert only["id"] == "cam-229"


async def test_tasks_are_as_many_as_fit() -> None:
    world = World()
    console = Console(world)
    world.attach_device()
    world.attach_device("other")
    for task_id in range(1, 2 * SHOWN_TASKS):
        who = "other" if task_id == 3 else "cam"
        world.say(messages.TaskReport((ended_task(task_id, world.now_s - 0.31),), None, 0, state(task_id)), who)
    tasks = (await console.ask("/api/snapshot")).document["tasks"]
    assert [task["task_id"] for task in tasks] == list(range(2 * SHOWN_TASKS - 1, SHOWN_TASKS - 1, -1))
    assert [t["task_id"] for t in (await console.ask("/api/snapshot?device=other")).document["tasks"]] == [3]


async def test_a_picture_belongs_to_the_newest_task_of_its_number() -> None:
    world = World()
    console = Console(world)
    world.attach_device()
    for waited_s, picture in enumerate((b"\xff\xd8\xff one", b"\xff\xd8\xff two")):
        task = ended_task(1, world.now_s - 0.31)
        task = replace(task, arrived_at_s=task.arrived_at_s - waited_s, thumbnail_jpeg=picture)
        world.say(messages.TaskReport((task,), None, 0, state(1)))
    newer, older = (await console.ask("/api/snapshot")).document["tasks"]
    assert older["thumbnail"] is None
    assert (await console.ask(newer["thumbnail"])).body.endswith(b"two")


@pytest.mark.parametrize(
    ("elapsed_s", "expected"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.2, 1.5), (0.3, 2.0), (9.0, 2.0), (-1.0, 0.0)]
)
def test_a_task_moves_along_its_segments(elapsed_s: float, expected: float) -> None:
    assert position(ProgressModel(1, 100.0, (0.1, 0.3)), 100.0 + elapsed_s) == pytest.approx(expected)


def test_a_resumed_task_has_the_segments_behind_it_that_it_did_before() -> None:
    assert position(ProgressModel(1, 100.0, (0.0, 0.0, 0.2)), 100.1) == pytest.approx(2.5)
    assert position(ProgressModel(1, 100.0, ()), 100.1) == 0.0


def test_numbers_that_json_does_not_have_are_unknown() -> None:
    document = finite({"a": [math.inf, 1.0, {"b": math.nan}], "c": "x"})
    assert document == {"a": [None, 1.0, {"b": None}], "c": "x"}


def test_evidence_is_said_for_people() -> None:
    assert evidence_text(MANIFEST, 0) == "no exit yet"
    assert evidence_text(MANIFEST, 1) == "exit after segment 1, right in 60 %"
    assert evidence_text(MANIFEST, 1, 2) == "exit after segment 1, right in 60 to 95 %"
    assert {WORDS[decision] for decision in Decision} == {"continue", "exit", "tensor", "input"}
