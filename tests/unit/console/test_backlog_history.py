"""What is remembered of the edges' backlogs: which samples, how many, and of whom."""

from __future__ import annotations

import pytest

from tests.unit.twin_service.made_up_twins import World
from twin_service.console.backlog_history import KEPT_SAMPLES, BacklogHistory


@pytest.fixture
def world() -> World:
    made = World()
    made.attach_edge(backlog_s=0.5)
    return made


def points(history: BacklogHistory, unix_offset_s: float = 0.0) -> dict[str, list[list[float | None]]]:
    return {each["id"]: each["points"] for each in history.documents(unix_offset_s)}


def test_a_sample_has_what_is_predicted_then_and_what_was_reported_since_the_one_before(world: World) -> None:
    history = BacklogHistory()
    history.take(world.core.edges, world.now_s)
    world.wait(1.0)
    history.take(world.core.edges, world.now_s)
    world.wait(0.5)
    world.edge_reports(0.8)
    world.wait(0.5)
    history.take(world.core.edges, world.now_s)
    predicted = [world.core.edges["edge"].reading_at(at_s).backlog_s for at_s in (1000.0, 1001.0, 1002.0)]
    assert points(history, unix_offset_s=7e8) == {
        "edge": [
            [7e8 + 1000.0, predicted[0], 0.5],
            [7e8 + 1001.0, predicted[1], None],
            [7e8 + 1002.0, predicted[2], 0.8],
        ]
    }


def test_nothing_is_predicted_of_an_edge_that_is_detached(world: World) -> None:
    history = BacklogHistory()
    history.take(world.core.edges, 1000.0)
    world.core.detach_edge("edge", world.streams["edge"])
    history.take(world.core.edges, 1001.0)
    world.now_s = 1002.0
    world.attach_edge(backlog_s=0.25)
    history.take(world.core.edges, 1002.0)
    assert points(history) == {"edge": [[1000.0, 0.5, 0.5], [1001.0, None, None], [1002.0, 0.25, 0.25]]}


def test_as_many_samples_are_kept_as_the_page_draws(world: World) -> None:
    history = BacklogHistory()
    for second in range(3 * KEPT_SAMPLES):
        history.take(world.core.edges, 1000.0 + second)
    (kept,) = points(history).values()
    assert [at_s for at_s, *_ in kept] == [1000.0 + second for second in range(2 * KEPT_SAMPLES, 3 * KEPT_SAMPLES)]


def test_an_edge_that_the_twin_forgets_is_forgotten(world: World) -> None:
    history = BacklogHistory()
    world.attach_edge("other")
    history.take(world.core.edges, 1000.0)
    kept = {edge_id: edge for edge_id, edge in world.core.edges.items() if edge_id != "edge"}
    history.take(kept, 1001.0)
    assert list(points(history)) == ["other"]
