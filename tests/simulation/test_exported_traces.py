"""What the twin service exports is read by the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scenario import read_scenario
from benchmarks.simulator.deciding import ByTable
from benchmarks.simulator.recording import Recording
from benchmarks.simulator.world import Listener, World
from edge.tail_queue import Tail
from tests.simulation.test_counterfactuals import ONE_DEVICE
from twin_service.decision.rules import rule_named
from twin_service.memory import VolatileMemory
from twin_service.messages import ArrivedTail
from twin_service.workload.trace_files import TraceFiles
from twin_service.workload.traces import TraceLog, exported, unpacked
from twinsplit.types import Payloads, TaskRecord


class Recorder(Listener):
    """Records a world as the twin service does."""

    def __init__(self) -> None:
        self.log = TraceLog()
        self.tasks: list[TaskRecord] = []

    def task_ended(self, device: object, record: TaskRecord) -> None:
        self.tasks.append(record)
        self.log.ended("cam", device.world.model_digest, record, device.situation(device.world.now_s))

    def tail_admitted(self, edge: int, tail: Tail, at_s: float) -> None:
        owner = ("", 0) if tail.work.device is None else ("cam", tail.work.task_id)
        self.log.arrived("edge", [ArrivedTail(at_s, tail.predicted_s, *owner)])


@pytest.mark.slow
def test_a_recorded_world_is_simulated_again_with_like_arrivals_load_and_uplink(tmp_path: Path) -> None:
    recorder = Recorder()
    wished = {"payloads": Payloads.TENSORS_ONLY, "alpha_s": 2.0, "deadline_s": 0.5}
    scenario = ONE_DEVICE.model_copy(update={"warm_up_s": 0.0, "tasks": 60} | wished)
    World(scenario, 1, ByTable(rule_named("open-loop")), listeners=[recorder]).run()
    memory = VolatileMemory()
    memory.keep_trace(recorder.log.packed())
    with TraceFiles(tmp_path) as files:
        for batch in exported([], memory, 0.0):
            files.add(unpacked(batch))
        assert files.finish().tasks == 60

    again = read_scenario(tmp_path / "scenario-cam.yaml")
    assert again.tasks == 60
    assert again.device_whole_s == pytest.approx(scenario.device_whole_s, rel=1e-3)
    assert again.edge_whole_s == pytest.approx(scenario.edge_whole_s, rel=1e-3)
    assert again.uplink_bytes_per_s == pytest.approx(scenario.uplink_bytes_per_s)
    assert again.uplink_delay_s == pytest.approx(scenario.uplink_delay_s)
    assert again.load_mean_s == pytest.approx(scenario.edge_whole_s, rel=0.3)
    assert again.load_sizes == "exponential"
    assert again.model_dump().items() >= wished.items()
    assert again.beta_s_per_joule == scenario.beta_s_per_joule

    books, recording = Recorder(), Recording(1)
    World(again, 1, ByTable(rule_named("open-loop")), listeners=[books, recording]).run()
    before_s = sorted(task.arrived_at_s for task in recorder.tasks)
    after_s = sorted(task.arrived_at_s for task in books.tasks)
    assert [t - after_s[0] for t in after_s] == pytest.approx([t - before_s[0] for t in before_s], abs=1e-5)
    assert len(recording.close()) == 60
