"""A made-up network and a device around it, for tests: no files, no ONNX Runtime, a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from device.energy import ModelBooks
from device.offloads import OffloadSettings
from device.pipeline import Pipeline, PipelineSettings
from device.plan_keeping import PlanKeeper
from device.reporting import Reporter
from device.reports import Report
from device.task import STEPS, AskTwin, CancelUpload, Encode, Finish, Instruction, RunExit, RunSegment, Step, Upload
from device.tracking import Tracker
from twinsplit.clock import ManualClock
from twinsplit.model.manifest import Cut, Exit, Manifest, RepresentationEntry, Segment, TensorSpec
from twinsplit.model.runtime import Answer, ExitAnswer
from twinsplit.plan import QUEUE_LEVELS, Contingency, Observation, Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, Payloads, TaskRecord, evidence_state

DIGEST = "ab" * 32
EDGE = "127.0.0.1:7001"
BINS = 3
SEGMENT_S = 0.02
EXIT_S = 0.004
ENCODE_S = 0.001


def manifest_of(
    segments: int = 4, exits: tuple[int, ...] = (1, 2), device_segments: int | None = None, task: str = "classification"
) -> Manifest:
    """Exits with 3 bins: P(right) 0.5, 0.8, 0.95 and, for the next, 0.55, 0.85, 0.97."""
    uniform = (0.25, 0.25, 0.5)
    return Manifest(
        schema_version=1,
        name="made-up",
        version=1,
        task=task,
        classes=("coat", "boot", "bag") if task == "classification" else (),
        segments=tuple(Segment(index=i, file=f"s{i}.onnx", sha256=DIGEST, macs=1) for i in range(segments)),
        cuts=tuple(
            Cut(
                index=k,
                tensor=TensorSpec(name=f"t{k}", shape=(1, 8), dtype="float32"),
                representations=(
                    RepresentationEntry(kind="float32", mean_bytes=32, encode_s=ENCODE_S),
                    RepresentationEntry(kind="uint8", codec="zstd", mean_bytes=12, encode_s=ENCODE_S, loss=0.01),
                ),
            )
            for k in range(segments + 1)
        ),
        exits=tuple(
            Exit(
                index=i,
                after_segment=k,
                file=f"e{i}.onnx",
                sha256=DIGEST,
                macs=1,
                accuracy=0.7 + 0.1 * i,
                bin_edges=(0.5, 0.8),
                p_right=(0.5 + 0.05 * i, 0.8 + 0.05 * i, 0.95 + 0.02 * i),
                p_whole_right=(0.6, 0.9, 0.98),
                prior=uniform,
                transitions=dict.fromkeys(range(i + 1, len(exits)), (uniform,) * BINS),
            )
            for i, k in enumerate(exits)
        ),
        device_segments=device_segments,
        whole_accuracy=0.9 if task == "classification" else None,
        accuracy_basis="labels" if task == "classification" else "none",
    )


def plan_of(
    manifest: Manifest,
    decide: Callable[[int, int, int, int], Decision] = lambda epoch, evidence, queue, band: Decision.CONTINUE,
    *,
    plan_id: int = 1,
    edge_id: str | None = "edge",
    edge_address: str = EDGE,
    exits_run: tuple[bool, ...] | None = None,
    band_edges_s: tuple[float, ...] = (0.1,),
    lease_s: float = 10.0,
    thresholds: tuple[float, ...] | None = None,
    contingency_cut: int | None = None,
    observation: Observation = Observation.EACH_EPOCH,
    representation: int = 1,
    input_representations: tuple[int, ...] | None = None,
) -> Plan:
    """``decide`` is asked for every cell (epoch, evidence, queue length, band)."""
    shape = (manifest.held_segments + 1, manifest.evidence_count, QUEUE_LEVELS, len(band_edges_s) + 1)
    table = np.array([int(decide(*cell)) for cell in np.ndindex(shape)], np.uint8).reshape(shape)
    return Plan(
        plan_id=plan_id,
        model_digest=DIGEST,
        rule="open-loop",
        edge_id=edge_id,
        edge_address=edge_address if edge_id else None,
        exits_run=exits_run if exits_run is not None else (True,) * len(manifest.exits),
        band_edges_s=band_edges_s,
        table=table,
        tensor_representations=tuple(
            min(representation, len(manifest.cuts[k].representations) - 1) for k in range(shape[0])
        ),
        input_representations=input_representations or (representation,) * shape[0],
        lease_s=lease_s,
        contingency=Contingency(
            thresholds if thresholds is not None else (0.9,) * len(manifest.exits), contingency_cut
        ),
        observation=observation,
    )


def offload_at(cut: int, decision: Decision = Decision.OFFLOAD_TENSOR) -> Callable[[int, int, int, int], Decision]:
    """Offload at one cut whatever is known, else go on."""
    return lambda epoch, evidence, queue, band: decision if epoch == cut else Decision.CONTINUE


def exit_answer(exit_index: int, bin_index: int, label_index: int = 0) -> ExitAnswer:
    confidence = (0.4, 0.7, 0.9)[bin_index]
    p_right = (0.5, 0.8, 0.95)[bin_index] + 0.05 * exit_index
    return ExitAnswer(label_index, confidence, evidence_state(exit_index, bin_index, BINS), p_right)


def whole_answer(label_index: int = 1) -> Answer:
    return Answer(label_index, ("coat", "boot", "bag")[label_index], 0.99, np.zeros((1, 3), np.float32))


@dataclass
class MadeUpDevice:
    """A pipeline with a hand on its clock. Steps take their profiled time; exits answer ``exit_bin``."""

    manifest: Manifest = field(default_factory=manifest_of)
    settings: PipelineSettings = field(default_factory=PipelineSettings)
    payloads: Payloads = Payloads.ANY
    is_plan_expected: bool = True
    fixed_edge_address: str | None = None
    exit_bin: int = 0
    slowness: float = 1.0

    def __post_init__(self) -> None:
        m = self.manifest
        self.clock = ManualClock(100.0)
        self.plans = PlanKeeper(
            m,
            DIGEST,
            payloads=self.payloads,
            fixed_edge_address=self.fixed_edge_address,
            is_plan_expected=self.is_plan_expected,
        )
        exits_held = [e for e in m.exits if e.after_segment <= m.held_segments]
        self.tracker = Tracker([SEGMENT_S] * m.held_segments, [EXIT_S] * len(exits_held), {})
        self.reporter = Reporter(m, self.tracker)
        self.pipeline = Pipeline(m, self.plans, self.tracker, self.reporter, ModelBooks(3.0, 1.2), self.settings)
        self.step: Step | None = None
        self.uploads: dict[int, Upload] = {}
        self.uploads_seen: list[Upload] = []
        self.cancelled: list[CancelUpload] = []
        self.records: list[TaskRecord] = []
        self.reports: list[Report] = []
        self.steps: list[Step] = []

    @property
    def now_s(self) -> float:
        return self.clock.monotonic_s()

    @property
    def record(self) -> TaskRecord:
        """The one task that ended."""
        (record,) = self.records
        return record

    def take(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, STEPS):
                assert self.step is None, "two steps are out"
                self.step = instruction
                self.steps.append(instruction)
            elif isinstance(instruction, Upload):
                self.uploads[instruction.task.task_id] = instruction
                self.uploads_seen.append(instruction)
            elif isinstance(instruction, CancelUpload):
                self.cancelled.append(instruction)
            elif isinstance(instruction, Finish):
                self.records.append(instruction.record)
            else:
                self.reports.append(instruction)

    def arrive(self, frame: str = "frame") -> None:
        self.take(self.pipeline.frame_arrived(self.now_s, frame))

    def do_step(self) -> Step:
        """The step that is out takes its time and is done."""
        step, self.step = self.step, None
        assert step is not None, "no step is out"
        if isinstance(step, RunSegment):
            self.clock.advance(SEGMENT_S * self.slowness)
            answer = whole_answer() if step.index + 1 == self.manifest.segment_count else None
            self.take(self.pipeline.segment_done(self.now_s, answer))
        elif isinstance(step, RunExit):
            self.clock.advance(EXIT_S * self.slowness)
            self.take(self.pipeline.exit_done(self.now_s, step.index, exit_answer(step.index, self.exit_bin)))
        elif isinstance(step, Encode):
            self.clock.advance(ENCODE_S)
            self.take(self.pipeline.encoded(self.now_s, 1000))
        else:
            assert isinstance(step, AskTwin)
            self.take(self.pipeline.polled(self.now_s, None))
        return step

    def run(self) -> None:
        """Until nothing is left to compute."""
        while self.step is not None:
            self.do_step()

    def answer(self, task_id: int, edge_queue_s: float = 0.03, edge_compute_s: float = 0.01) -> None:
        del self.uploads[task_id]
        self.take(
            self.pipeline.answer_received(
                self.now_s, task_id, whole_answer(), edge_queue_s=edge_queue_s, edge_compute_s=edge_compute_s
            )
        )


def settings_of(**changes: object) -> PipelineSettings:
    """Pipeline settings; names of offload settings go there."""
    offload_names = set(OffloadSettings.__dataclass_fields__)
    offloads = replace(OffloadSettings(), **{k: v for k, v in changes.items() if k in offload_names})
    return replace(
        PipelineSettings(offloads=offloads),
        **{k: v for k, v in changes.items() if k not in offload_names},
    )


def device_with(plan=None, backlog_s=0.0, **changes) -> MadeUpDevice:
    manifest = changes.pop("manifest", manifest_of())
    device = MadeUpDevice(manifest, **changes)
    if plan is not None:
        device.take(device.pipeline.plan_received(device.now_s, plan, BacklogState(backlog_s, device.now_s, backlog_s)))
    return device
