"""The twin's core beside the device's own pipeline, joined by real messages and a made-up clock: no sockets, no models.

Both sides reckon for each other, so they must agree about where a task stands and what the device decides with.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from device.energy import ModelBooks
from device.pipeline import Pipeline, PipelineSettings
from device.plan_keeping import PlanKeeper
from device.reporting import Reporter
from device.task import Encode, RunExit, RunSegment, Upload
from device.tracking import Tracker
from device.twin_wire import report_to_wire
from edge.backlog_reporting import BacklogReporter, Due, ReportPolicy
from tests.unit.device.made_up_device import exit_answer, manifest_of, whole_answer
from twin_service import messages, wire
from twin_service.core import TwinCore
from twin_service.decision.rules import rule_named
from twin_service.decision.situation import Weights
from twin_service.memory import VolatileMemory
from twinsplit.model.manifest import manifest_digest
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.clock_offset import ClockOffset
from twinsplit.transport.convert import backlog_from_wire, plan_from_wire

MANIFEST = manifest_of(segments=6, exits=(2, 4))
MANIFEST_BYTES = MANIFEST.model_dump_json().encode()
DIGEST = manifest_digest(MANIFEST_BYTES)
SEGMENT_S, EXIT_S, ENCODE_S = 0.05, 0.006, 0.002
TAIL_S = tuple(0.004 * (6 - cut) for cut in range(6))
WAY_S = 0.001
DEVICE_AHEAD_S = 12345.0
"""Offset of the device's monotonic clock."""


@dataclass
class Course:
    """What came of one run."""

    tasks: int
    mirror_accuracy: float
    sent: Counter[str]
    disagreements: int
    compared: int

    @property
    def messages_per_task(self) -> float:
        return self.sent.total() / self.tasks


class World:
    """One device, one edge and the twin, driven event by event."""

    def __init__(self, rule: str, *, rate_per_s: float, jitter: float, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.rate_per_s, self.jitter = rate_per_s, jitter
        self.sent: Counter[str] = Counter()
        self.disagreements = self.compared = 0
        self.free_at_s = 0.0
        """Instant at which the edge runs empty."""
        self.mean_s = 0.03
        self.core = TwinCore(rule_named(rule), Weights(), VolatileMemory())
        self.offset = ClockOffset()
        self.edge_stream = self.core.attach_edge(
            messages.EdgeHello("edge", "127.0.0.1:7100", {DIGEST: TAIL_S}, backlog=self.reading()), 0.0
        )
        self.edge_reporter = BacklogReporter(ReportPolicy(), 5.0, self.reading().backlog)
        self.plans = PlanKeeper(MANIFEST, DIGEST)
        tracker = Tracker([SEGMENT_S] * 6, [EXIT_S] * 2, {})
        self.pipeline = Pipeline(
            MANIFEST, self.plans, tracker, Reporter(MANIFEST, tracker), ModelBooks(3.0, 1.2), PipelineSettings()
        )
        hello = messages.DeviceHello(
            "cam", DIGEST, (SEGMENT_S,) * 6, (EXIT_S,) * 2, goodput_bytes_per_s=1e5, round_trip_s=2 * WAY_S
        )
        self.stream, sends = self.core.attach_device(hello, 0.0)
        self.to_device(sends)
        self.to_device(self.core.device_said("cam", self.stream, messages.ManifestUpload(MANIFEST_BYTES), 0.0))
        self.sent.clear()

    def run(self, seconds: float) -> Course:
        self.at(0.5, self.arrive)
        self.at(0.2, self.burst)
        self.at(0.1, self.watch_edge)
        while self.events and self.events[0][0] < seconds:
            self.now_s, _, event = heapq.heappop(self.events)
            event()
            while self.core.next_due_s() <= self.now_s:
                self.to_device(self.core.tick(self.now_s))
            if (due_s := self.core.next_due_s()) < float("inf"):
                self.at(due_s, lambda: None)
        accuracy = self.core.devices["cam"].status.mirror.accuracy
        assert accuracy is not None
        tasks = self.core.archive.document("cam").ended
        return Course(tasks, accuracy, self.sent, self.disagreements, self.compared)

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when_s, next(self.order), event))

    # The device.

    @property
    def device_now_s(self) -> float:
        return self.now_s + DEVICE_AHEAD_S

    def arrive(self) -> None:
        self.do(self.pipeline.frame_arrived(self.device_now_s, "frame"))
        self.at(self.now_s + self.rng.expovariate(self.rate_per_s), self.arrive)

    def do(self, instructions: list[object]) -> None:
        for instruction in instructions:
            if isinstance(instruction, RunSegment):
                self.compare()
                answer = whole_answer() if instruction.index == 5 else None
                self.after(SEGMENT_S, lambda now_s, answer=answer: self.pipeline.segment_done(now_s, answer))
            elif isinstance(instruction, RunExit):
                found = exit_answer(instruction.index, self.rng.choice((0, 1, 2, 2)))
                index = instruction.index
                self.after(EXIT_S, lambda now_s, i=index, f=found: self.pipeline.exit_done(now_s, i, f))
            elif isinstance(instruction, Encode):
                self.after(ENCODE_S, lambda now_s: self.pipeline.encoded(now_s, 1500))
            elif isinstance(instruction, Upload):
                self.at(self.now_s + 0.015, lambda upload=instruction: self.reach_edge(upload))
            elif type(instruction).__name__ in ("TaskReport", "StartReport", "ProgressReport", "Heartbeat"):
                request = report_to_wire(instruction, self.device_now_s)
                request.clock.sent_s = self.device_now_s
                self.sent[str(request.WhichOneof("kind"))] += 1
                self.at(self.now_s + WAY_S, lambda request=request: self.to_twin(request))

    def after(self, seconds: float, step: Callable[[float], list[object]]) -> None:
        seconds *= max(0.2, self.rng.gauss(1.0, self.jitter))
        self.at(self.now_s + seconds, lambda: self.do(step(self.device_now_s)))

    def compare(self) -> None:
        """What the twin thinks that the device reckons with is what the device reckons with."""
        standing = self.core.devices["cam"].standing
        if standing is not None and standing.held is not None and self.plans.backlog is not None:
            self.compared += 1
            believed_s = predicted_backlog_s(standing.held, self.now_s)
            self.disagreements += abs(believed_s - self.plans.backlog_s(self.device_now_s)) > 0.06

    # The edge.

    def reading(self) -> messages.BacklogReport:
        return messages.BacklogReport(BacklogState(max(0.0, self.free_at_s - self.now_s), self.now_s, self.mean_s, 0.6))

    def burst(self) -> None:
        self.free_at_s = max(self.free_at_s, self.now_s) + self.rng.uniform(0.1, 1.0)
        self.at(self.now_s + self.rng.expovariate(1.0), self.burst)

    def watch_edge(self) -> None:
        backlog = self.reading().backlog
        self.mean_s += 0.005 * (backlog.backlog_s - self.mean_s)
        due = self.edge_reporter.look(backlog.backlog_s, self.now_s)
        if due is not Due.NOTHING:
            self.edge_reporter.sent(backlog, self.now_s)
            self.sent[f"edge-{due.value}"] += 1
            interest = self.core.edge_said("edge", self.edge_stream, self.reading(), self.now_s)
            if interest is not None:
                self.sent["interest"] += 1
                self.edge_reporter.ceiling_s = interest.ceiling_s
        self.at(self.now_s + 0.02, self.watch_edge)

    def reach_edge(self, upload: Upload) -> None:
        wait_s = max(0.0, self.free_at_s - self.now_s)
        tail_s = TAIL_S[upload.offload.cut]
        self.free_at_s = self.now_s + wait_s + tail_s

        def answer() -> None:
            backlog = BacklogState(max(0.0, self.free_at_s - self.now_s), self.device_now_s, self.mean_s, 0.6)
            self.plans.backlog_seen(backlog)
            self.do(
                self.pipeline.answer_received(
                    self.device_now_s, upload.task.task_id, whole_answer(), edge_queue_s=wait_s, edge_compute_s=tail_s
                )
            )

        self.at(self.free_at_s + WAY_S, answer)

    # The twin.

    def to_twin(self, request: twin_pb2.AttachDeviceRequest) -> None:
        sent_at_s = self.offset.received(wire.readings_from_wire(request.clock), self.now_s)
        event = wire.device_event_from_wire(request, sent_at_s)
        self.to_device(self.core.device_said("cam", self.stream, event, self.now_s))

    def to_device(self, sends: list[messages.Send]) -> None:
        for send in sends:
            readings = self.offset.readings(self.now_s)
            response = wire.device_response(send.message, readings, lease_s=10.0, heartbeat_s=5.0)
            self.sent[str(response.WhichOneof("kind"))] += 1
            self.at(self.now_s + WAY_S, lambda response=response: self.from_twin(response))

    def from_twin(self, response: twin_pb2.AttachDeviceResponse) -> None:
        self.plans.lease_renewed(response.lease_s, self.device_now_s)
        if response.HasField("plan"):
            backlog = backlog_from_wire(response.plan.backlog, self.device_now_s)
            self.plans.plan_received(plan_from_wire(response.plan), backlog, self.device_now_s)
        elif response.HasField("backlog"):
            self.plans.backlog_seen(backlog_from_wire(response.backlog.backlog, self.device_now_s))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["multi-step", "one-time", "load-only", "device-only", "edge-only"])
def test_the_twin_knows_where_inference_stands_without_asking(rule: str) -> None:
    course = World(rule, rate_per_s=4.0, jitter=0.03, seed=1).run(60.0)
    assert course.tasks > 150
    assert course.mirror_accuracy >= 0.95, course
    # At an edge that half a second of work falls upon every second: 2.9 to 4.1 with three seeds.
    assert course.messages_per_task <= 4.5, course


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["multi-step", "load-only"])
def test_the_twin_reckons_with_what_the_device_reckons_with(rule: str) -> None:
    """Up to the edge's report threshold, since the edge answers a device with its exact backlog."""
    course = World(rule, rate_per_s=2.0, jitter=0.03, seed=3).run(60.0)
    assert course.compared > 50
    assert course.disagreements <= 0.1 * course.compared, course
