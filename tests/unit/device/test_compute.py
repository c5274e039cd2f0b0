"""The compute thread carries steps out, keeps what must be kept, and survives a broken task."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from device.compute import Cargo, Engine
from device.reports import StartReport
from device.task import Finish, Upload
from tests.unit.device.made_up_device import (
    EDGE,
    MadeUpDevice,
    exit_answer,
    manifest_of,
    offload_at,
    plan_of,
    settings_of,
)
from twinsplit.errors import ComputeError
from twinsplit.model.manifest import Manifest
from twinsplit.model.preprocessing import PreparedInput
from twinsplit.model.runtime import Answer, read_answer
from twinsplit.types import NO_EVIDENCE, Decision, Outcome, Payload, Reason


class CountingRuntime:
    """A network whose segments add 1; its exits and its answer tell the tensor that they saw."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.exit_tensors: list[float] = []
        self.fails_at: int | None = None

    def run_segment(self, index: int, tensor: np.ndarray) -> np.ndarray:
        if index == self.fails_at:
            self.fails_at = None
            raise ComputeError("out of memory")
        return tensor + 1

    def run_exit(self, index: int, tensor: np.ndarray):
        self.exit_tensors.append(float(tensor[0, 0]))
        return exit_answer(index, 0)

    def answer(self, output: np.ndarray) -> Answer:
        return Answer(int(output[0, 0]) % 3, None, 0.9, output)


class Bench:
    """An engine on its own thread; what it delivers is taken one by one."""

    def __init__(self, manifest: Manifest, **settings) -> None:
        self.device = MadeUpDevice(manifest, settings_of(**settings))
        self.runtime = CountingRuntime(manifest)
        self.delivered: queue.Queue = queue.Queue()
        self.engine = Engine(
            self.device.pipeline,
            self.runtime,
            self.device.clock,
            lambda out: [self.delivered.put(o) for o in out],
            broken=self.delivered.put,
        )
        self.engine.start()

    def plan(self, plan) -> None:
        self.engine.event(lambda pipeline, now_s: pipeline.plan_received(now_s, plan, None))

    def arrive(self, value: float = 0.0) -> Cargo:
        tensor = np.full((1, 8), value, np.float32)
        cargo = Cargo(PreparedInput(None, tensor), tensor)
        self.engine.event(lambda pipeline, now_s: pipeline.frame_arrived(now_s, "frame", cargo))
        return cargo

    def next(self, kind: type):
        while True:
            instruction = self.delivered.get(timeout=20.0)
            if isinstance(instruction, kind):
                return instruction


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.engine.close()


def bench_of(benches: list[Bench], manifest: Manifest | None = None, **settings) -> Bench:
    benches.append(Bench(manifest or manifest_of(), **settings))
    return benches[-1]


def test_segments_run_on_what_the_one_before_gave(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of()))
    cargo = bench.arrive(value=10.0)
    finish = bench.next(Finish)
    assert finish.record.outcome is Outcome.DEVICE
    assert cargo.answer.output[0, 0] == 14.0
    assert bench.runtime.exit_tensors == [11.0, 12.0]


def test_an_upload_carries_the_encoded_tensor_and_only_the_boundary_tensor_is_kept(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of(), offload_at(2), representation=0))
    cargo = bench.arrive(value=5.0)
    upload = bench.next(Upload)
    assert np.frombuffer(cargo.encoded.data, np.float32).tolist() == [7.0] * 8
    assert upload.offload.wire_bytes == 32
    assert cargo.prepared is None
    assert cargo.tensor[0, 0] == 7.0


def test_the_input_is_what_the_frame_became_not_what_the_segments_made_of_it(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of(), offload_at(2, Decision.OFFLOAD_INPUT), representation=0))
    cargo = bench.arrive(value=5.0)
    assert bench.next(Upload).offload.payload is Payload.INPUT
    assert np.frombuffer(cargo.encoded.data, np.float32).tolist() == [5.0] * 8


def test_a_task_that_comes_back_goes_on_with_its_tensor(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of(), offload_at(2), representation=0))
    cargo = bench.arrive(value=5.0)
    bench.next(Upload)
    bench.engine.event(lambda pipeline, now_s: pipeline.upload_failed(now_s, 1, Reason.EDGE_LOST))
    assert bench.next(Finish).record.reason is Reason.EDGE_LOST
    assert cargo.answer.output[0, 0] == 9.0


def test_the_last_resort_runs_on_the_tensor_of_its_own_cut(benches):
    head = manifest_of(4, (1,), device_segments=3)
    bench = bench_of(benches, head)
    bench.plan(plan_of(head, offload_at(3), exits_run=(False,)))
    bench.arrive(value=5.0)
    bench.next(Upload)
    bench.engine.event(lambda pipeline, now_s: pipeline.edge_disconnected(now_s, EDGE))
    assert bench.next(Finish).record.reason is Reason.HEAD_ONLY
    assert bench.runtime.exit_tensors == [6.0]


def test_a_step_that_fails_fails_its_task_and_no_other(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of()))
    bench.runtime.fails_at = 1
    bench.arrive()
    bench.arrive()
    records = [bench.next(Finish).record for _ in range(2)]
    assert [(r.outcome, r.reason) for r in records] == [
        (Outcome.FAILED, Reason.COMPUTE_ERROR),
        (Outcome.DEVICE, Reason.NOT_WORTH_IT),
    ]


def test_an_exit_without_a_finite_answer_is_logged_and_the_task_goes_on(benches, caplog):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of()))
    bench.runtime.run_exit = lambda index, tensor: None
    bench.arrive()
    record = bench.next(Finish).record
    assert (record.outcome, record.evidence, record.exit_confidences) == (Outcome.DEVICE, NO_EVIDENCE, (None, None))
    assert "exit-not-finite" in caplog.text


def test_a_network_without_a_finite_answer_fails_its_task(benches):
    bench = bench_of(benches)
    bench.plan(plan_of(manifest_of()))
    bench.runtime.answer = lambda output: read_answer(manifest_of(), np.full_like(output, np.nan))
    bench.arrive()
    record = bench.next(Finish).record
    assert (record.outcome, record.reason, record.label) == (Outcome.FAILED, Reason.COMPUTE_ERROR, None)


def test_a_defect_of_the_pipeline_is_told_and_not_hidden(benches, monkeypatch):
    bench = bench_of(benches)

    def defective(now_s, answer=None):
        raise AssertionError("books do not add up")

    monkeypatch.setattr(bench.device.pipeline, "segment_done", defective)
    bench.arrive()
    assert str(bench.next(AssertionError)) == "books do not add up"


def test_a_step_does_not_wait_for_the_report_of_its_start():
    device = MadeUpDevice(manifest_of(), settings_of())
    runtime = CountingRuntime(manifest_of())
    has_begun = threading.Event()
    was_begun_at: list[bool] = []

    def run_segment(index: int, tensor: np.ndarray) -> np.ndarray:
        has_begun.set()
        return tensor + 1

    def deliver(instructions: list) -> None:
        if any(isinstance(one, StartReport) for one in instructions):
            was_begun_at.append(has_begun.wait(5.0))

    runtime.run_segment = run_segment
    engine = Engine(device.pipeline, runtime, device.clock, deliver)
    engine.start()
    tensor = np.zeros((1, 8), np.float32)
    cargo = Cargo(PreparedInput(None, tensor), tensor)
    engine.event(lambda pipeline, now_s: pipeline.frame_arrived(now_s, "frame", cargo))
    engine.close()
    assert was_begun_at == [True]


def test_state_is_read_under_the_lock(benches):
    bench = bench_of(benches)
    bench.arrive()
    bench.next(Finish)
    assert bench.engine.look(lambda pipeline, now_s: pipeline.outcomes.entered) == 1
