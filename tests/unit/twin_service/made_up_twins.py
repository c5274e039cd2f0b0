"""A made-up model, its device, its edge and a rule whose table can be read off a napkin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from twin_service import messages
from twin_service.core import TwinCore
from twin_service.core_settings import CoreSettings
from twin_service.decision.evaluation import Evaluation
from twin_service.decision.reduction import Pruning
from twin_service.decision.situation import Situation, Weights
from twin_service.decision.tables import PlanTable
from twin_service.memory import VolatileMemory
from twin_service.messages import PlanMessage, Send
from twin_service.workload.twin import WorkloadTwin
from twinsplit.model.manifest import Manifest, manifest_digest, parse_manifest
from twinsplit.plan import QUEUE_LEVELS, Observation, Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, Outcome, Payload, Reason, Stages, TaskRecord

ZEROS = "0" * 64
SEGMENT_S = (0.1, 0.1, 0.1)
EXIT_S = (0.01,)
EDGE_ADDRESS = "127.0.0.1:7100"


def manifest_bytes(name: str = "made-up", device_segments: int | None = None) -> bytes:
    """Three segments and an exit after the first, with two bins of 60 and 40 %."""
    representation = {"kind": "uint8", "codec": "zstd", "mean_bytes": 1000.0, "encode_s": 0.001}
    return json.dumps(
        {
            "schema_version": 1,
            "name": name,
            "version": 1,
            "task": "classification",
            "segments": [{"index": i, "file": f"s{i}.onnx", "sha256": ZEROS, "macs": 1} for i in range(3)],
            "cuts": [
                {
                    "index": k,
                    "tensor": {"name": f"t{k}", "shape": [1, 4], "dtype": "float32"},
                    "representations": [representation] if k < 3 else [],
                }
                for k in range(4)
            ],
            "exits": [
                {
                    "index": 0,
                    "after_segment": 1,
                    "file": "e0.onnx",
                    "sha256": ZEROS,
                    "macs": 1,
                    "accuracy": 0.8,
                    "bin_edges": [0.5],
                    "p_right": [0.6, 0.95],
                    "p_whole_right": [0.8, 0.97],
                    "prior": [0.6, 0.4],
                }
            ],
            "device_segments": device_segments,
            "whole_accuracy": 0.9,
            "accuracy_basis": "labels",
        }
    ).encode()


MANIFEST_BYTES = manifest_bytes()
DIGEST = manifest_digest(MANIFEST_BYTES)
MANIFEST: Manifest = parse_manifest(MANIFEST_BYTES)


@dataclass(frozen=True)
class StepRule:
    """Offload the boundary tensor at every epoch while the backlog is below ``limit_s``; leave at a sure exit.

    With ``is_going_on`` epoch 0 always goes on, so that the backlog is read again at epochs 1 and 2.
    """

    limit_s: float = 0.2
    is_going_on: bool = True
    observation: Observation = Observation.EACH_EPOCH
    name: str = "step"

    def evaluate(self, situations: Sequence[Situation]) -> list[Evaluation]:
        return [Evaluation(self.table(s), Pruning(10, 4)) for s in situations]

    def table(self, situation: Situation) -> PlanTable:
        has_edge = situation.tail_s is not None
        shape = (4, 3, QUEUE_LEVELS, 2 if has_edge else 1)
        table = np.full(shape, Decision.CONTINUE, dtype=np.uint8)
        if has_edge:
            table[1 if self.is_going_on else 0 : 3, :, :, 0] = Decision.OFFLOAD_TENSOR
        table[1, 2] = Decision.EXIT
        position = 0 if has_edge else -1
        return PlanTable(
            table,
            (self.limit_s,) if has_edge else (),
            (True,),
            (position, position, position, -1),
            (-1,) * 4,
            self.observation,
            (0.11, 0.21, 0.31),
        )


class World:
    """A core with a made-up clock, and helpers that say things to it."""

    def __init__(
        self,
        rule: object = None,
        memory: VolatileMemory | None = None,
        workload: WorkloadTwin | None = None,
        **settings: object,
    ) -> None:
        self.now_s = 1000.0
        self.memory = memory or VolatileMemory()
        self.core = TwinCore(
            rule or StepRule(),
            Weights(),
            self.memory,
            CoreSettings(**settings),
            workload=workload,
        )
        self.sent: list[Send] = []
        self.streams: dict[str, int] = {}

    def attach_edge(self, edge_id: str = "edge", backlog_s: float = 0.0, **changes: object) -> int:
        stream = self.core.attach_edge(edge_hello(edge_id, self.report(backlog_s), **changes), self.now_s)
        self.streams[edge_id] = stream
        self.run()
        return stream

    def attach_device(self, device_id: str = "cam", **changes: object) -> int:
        stream, sends = self.core.attach_device(device_hello(device_id, **changes), self.now_s)
        self.streams[device_id] = stream
        self.sent += sends
        if any(isinstance(s.message, messages.Welcome) and s.message.needs_manifest for s in sends):
            self.say(messages.ManifestUpload(MANIFEST_BYTES), device_id)
        self.run()
        return stream

    def say(self, event: messages.DeviceEvent, device_id: str = "cam") -> None:
        self.sent += self.core.device_said(device_id, self.streams[device_id], event, self.now_s)
        self.run()

    def edge_reports(self, backlog_s: float, edge_id: str = "edge", **changes: object) -> None:
        report = replace(self.report(backlog_s), **changes)
        self.core.edge_said(edge_id, self.streams[edge_id], report, self.now_s)
        self.run()

    def report(self, backlog_s: float) -> messages.BacklogReport:
        return messages.BacklogReport(BacklogState(backlog_s, self.now_s, 0.05, 1.0), (0.0, 0.0, 0.0))

    def run(self) -> None:
        while self.core.next_due_s() <= self.now_s:
            self.sent += self.core.tick(self.now_s)

    def wait(self, seconds: float) -> None:
        """Let time pass, doing what is due on the way."""
        until_s = self.now_s + seconds
        while self.core.next_due_s() <= until_s:
            self.now_s = max(self.now_s, self.core.next_due_s())
            self.sent += self.core.tick(self.now_s)
        self.now_s = until_s

    def take(self, kind: type | None = None) -> list[object]:
        """Messages sent since the last call, perhaps of one kind only."""
        sent, self.sent = self.sent, []
        return [s.message for s in sent if kind is None or isinstance(s.message, kind)]


def device_hello(device_id: str = "cam", **changes: object) -> messages.DeviceHello:
    hello = messages.DeviceHello(
        device_id, DIGEST, SEGMENT_S, EXIT_S, goodput_bytes_per_s=1e6, round_trip_s=0.002, report_threshold_s=0.01
    )
    return replace(hello, **changes)


def edge_hello(
    edge_id: str = "edge", backlog: messages.BacklogReport | None = None, **changes: object
) -> messages.EdgeHello:
    hello = messages.EdgeHello(edge_id, EDGE_ADDRESS, {DIGEST: (0.03, 0.02, 0.01)}, backlog=backlog)
    return replace(hello, **changes)


def ended_task(
    task_id: int, started_at_s: float, *, outcome: Outcome = Outcome.DEVICE, epochs: int = 3, ended_at_s: float = 0.0
) -> TaskRecord:
    """A task that ran by its profile up to ``epochs``; answered there, or at ``ended_at_s`` by the edge."""
    reached_s = [started_at_s, *(started_at_s + s for s in (0.11, 0.21, 0.31)[:epochs])]
    is_edge = outcome is Outcome.EDGE
    return TaskRecord(
        task_id,
        "",
        started_at_s,
        started_at_s,
        ended_at_s if is_edge else reached_s[-1],
        outcome,
        Reason.OFFLOAD_PAYS if is_edge else Reason.EXIT_CONFIDENT if outcome is Outcome.EXIT else Reason.NOT_WORTH_IT,
        stop_epoch=epochs,
        evidence=2 if outcome is Outcome.EXIT else 1,
        exit_index=0 if outcome is Outcome.EXIT else None,
        payload=Payload.TENSOR if is_edge else None,
        stages=Stages(encode=0.001, upload=0.02) if is_edge else Stages(),
        epoch_times_s=tuple(reached_s),
        energy_joules=0.9,
    )


def state(entered: int = 0, **changes: object) -> messages.DeviceState:
    return replace(messages.DeviceState(entered=entered), **changes)


def plans(world: World) -> list[Plan]:
    """Plans sent since the last look."""
    return [message.plan for message in world.take(PlanMessage)]
