"""A fleet whose twin chooses among the edges, and what that costs the twin."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.fleet import FleetPlans
from benchmarks.simulator.fleet_run import core_share, fleet_lines, fleet_run
from benchmarks.simulator.world import Listener, World
from tests.simulation.worlds import Records, scenario_of, world_of
from twin_service.decision.rules import rule_named
from twin_service.store.sqlite import SqliteStore
from twinsplit.errors import SettingsError
from twinsplit.types import TaskRecord

pytestmark = pytest.mark.slow

FLEET: dict[str, Any] = {
    "devices": 12,
    "edges": 3,
    "edge_choice": "twin",
    "device_whole_s": 0.3,
    "task_rate_per_s": 1.0,
    "uplink_delay_s": 0.005,
    "load_mean_s": 0.03,
}
UNEVEN: dict[str, Any] = {"load_share": 0.45, "load_burst_s": 8.0, "load_peak": 0.95}
"""Bursts so long that for a while one edge is much busier than the others."""


def fleet(tmp_path: Path, **changes: Any) -> tuple[FleetPlans, World, Records]:
    deciding, records = FleetPlans(rule_named("open-loop"), tmp_path / "state"), Records()
    world = World(scenario_of(**(FLEET | changes)), 1, deciding, listeners=[records])
    return deciding, world, records


def test_devices_share_the_edges_and_each_task_is_answered_by_the_edge_that_its_plan_names(tmp_path: Path) -> None:
    deciding, world, records = fleet(tmp_path, tasks=180)
    run = world.run()
    deciding.close()
    assert run.summary.share_answered == 1.0
    assert set(deciding.first_named.values()) == {4}
    assert sum(deciding.ended_at.values()) == sum(task.outcome.value == "edge" for task in records.tasks) > 100
    admitted = {tail.work.device: 0 for tail in records.admitted if tail.work.device is not None}
    assert len(admitted) == 12
    for device in world.devices:
        standing = deciding.core.devices[f"device-{device.index}"].standing
        assert standing is not None
        assert standing.plan.edge_id == device.edge.edge_id


def test_devices_leave_an_edge_that_has_become_busy_and_gain_by_it() -> None:
    costs_s, moves = {}, {}
    for choice in ("twin", "fixed"):
        deciding = ByPlans(rule_named("open-loop"))
        scenario = scenario_of(**(FLEET | UNEVEN | {"tasks": 400, "edge_choice": choice}))
        costs_s[choice] = World(scenario, 1, deciding).run().cost_s
        moves[choice] = sum(document.plan_revisions["edge-better"] for document in deciding.core.archive)
    assert moves["twin"] >= 3
    assert moves["fixed"] == 0
    assert costs_s["twin"] < costs_s["fixed"]


def test_many_devices_spread_over_edges_alike_seldom_move_and_lose_nothing_by_it() -> None:
    """The load of other users comes in bursts that are over before anybody could gain by following them."""
    crowd = FLEET | {"devices": 40, "edges": 8, "task_rate_per_s": 2.0, "edge_whole_s": 0.03, "tasks": 500}
    bursts = {"load_share": 0.25, "load_burst_s": 2.0, "load_peak": 0.75, "warm_up_s": 10.0}
    costs_s, spread = {}, Spread()
    for choice in ("fixed", "twin"):
        deciding = ByPlans(rule_named("open-loop"))
        world = World(scenario_of(**(crowd | bursts | {"edge_choice": choice})), 1, deciding, listeners=[spread])
        costs_s[choice] = world.run().cost_s
    moves = sum(document.plan_revisions["edge-better"] for document in deciding.core.archive)
    assert spread.most <= 10, "twice the mean"
    assert moves <= 40
    assert costs_s["twin"] < 1.1 * costs_s["fixed"]


class Spread(Listener):
    """The most devices that one edge ever had when a task ended."""

    most = 0

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        counts = Counter(each.edge.index for each in device.world.devices)
        self.most = max(self.most, *counts.values())


def test_what_the_twin_keeps_is_in_the_database_of_the_service(tmp_path: Path) -> None:
    deciding, world, _ = fleet(tmp_path, tasks=180)
    world.run()
    written = deciding.figures()["store"]["documents_written"]
    deciding.core.save()
    found = deciding.figures()["store"]
    deciding.close()
    store = SqliteStore(tmp_path / "state")
    documents = store.documents()
    replayed = store.replay(world.model_digest, 1000)
    store.close()
    assert {document.device_id for document in documents} == {f"device-{k}" for k in range(12)}
    assert found["documents_written"] >= written >= 12, "as the service does: while it runs"
    assert len(replayed) == found["replay_written"] > 100
    assert found["document_mean_bytes"] == pytest.approx(
        sum(len(document.to_json()) for document in documents) / 12, rel=0.01
    )


def test_the_twins_cost_is_what_was_measured_without_what_is_within_it(tmp_path: Path) -> None:
    found = fleet_run(scenario_of(**FLEET, tasks=120), "open-loop")
    served = found["served"]
    assert served["device task"]["calls"] >= 100
    assert found["attached"]["attach"]["calls"] == 12
    assert served.get("attach") is None, "nobody attaches while it serves"
    assert (
        0.0
        < found["twin_core_share"]
        == pytest.approx(sum(kind["seconds"] for name, kind in served.items() if name != "rule") / found["simulated_s"])
    )
    assert core_share({"save": {"seconds": 2.0}, "rule": {"seconds": 1.0}}, 4.0) == 0.5
    assert found["by_edge"]["devices_first"] == {"least": 4, "mean": 4.0, "most": 4}
    messages = found["messages"]
    assert messages["device task"] == 120
    assert "device hello" not in messages
    assert found["attach_messages"]["device hello"] == 12
    assert any("ms a task" in line for line in fleet_lines(found))


def test_what_a_fleet_asks_for_after_the_warm_up_is_counted_apart() -> None:
    found = fleet_run(scenario_of(**FLEET, tasks=120, warm_up_tasks=50), "open-loop")
    settled, served = found["settled"], found["served"]
    assert settled["tasks"] == 70
    assert 0.0 < settled["seconds"] < found["simulated_s"]
    assert 68 <= settled["messages"]["device task"] <= 72, "a report may be on its way, or carry two tasks"
    assert 60 <= settled["served"]["device task"]["calls"] <= 70
    assert all(0.0 <= took["seconds"] <= served[kind]["seconds"] for kind, took in settled["served"].items())
    assert any("after the warm-up" in line for line in fleet_lines(found))
    assert fleet_run(scenario_of(**FLEET, tasks=20), "open-loop")["settled"] is None


def test_with_exact_state_a_device_has_one_edge() -> None:
    with pytest.raises(SettingsError, match="edge_choice=fixed"):
        world_of("open-loop", scenario_of(edge_choice="twin", edges=2, devices=2, tasks=10))
