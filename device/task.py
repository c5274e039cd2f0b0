"""A task while it lives in the pipeline, and the instructions that the pipeline gives about it. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from device.plan_keeping import Choice, Observed
from device.reports import Report
from twinsplit.types import NO_EVIDENCE, Payload, Reason, TaskRecord

if TYPE_CHECKING:
    from twinsplit.model.runtime import ExitAnswer


@dataclass(slots=True, eq=False)
class Offload:
    """What a task sends and what is known about it."""

    payload: Payload
    cut: int
    """The edge starts from this cut; 0 for the input."""
    representation_index: int
    edge_address: str
    edge_id: str | None = None
    """Name of the edge, where the device knows it."""
    wire_bytes: int = 0
    sent_at_s: float = 0.0
    deadline_s: float = float("inf")
    """Instant after which the task resumes on the device."""


@dataclass(slots=True, eq=False)
class Task:
    """One inference job from generation to its outcome. Only the pipeline writes to it, but for ``cargo``."""

    task_id: int
    frame: str
    arrived_at_s: float
    cargo: object = None
    """The shell's: frame, tensors, submitter. Gone with the task."""
    thumbnail_jpeg: bytes | None = None
    """Small picture of its frame, where one was made."""
    waiting_since_s: float = 0.0
    started_at_s: float | None = None
    step_began_s: float = 0.0
    epoch: int = 0
    """Segments done."""
    evidence: int = NO_EVIDENCE
    last_exit: int | None = None
    """Last exit that ran."""
    exit_answers: dict[int, ExitAnswer] = field(default_factory=dict)
    observed_at_start: Observed | None = None
    choice: Choice | None = None
    """Newest decision."""
    offload: Offload | None = None
    """What was sent, also when the edge then failed; to which edge last."""
    lost_at: tuple[str, ...] = ()
    """Edges that lost or refused it before it was sent on, by address."""
    hindrance: Reason | None = None
    """What first kept it from the edge."""
    has_resumed: bool = False
    is_last_resort: bool = False
    """An exit is being run since nothing else is left."""
    epoch_times_s: list[float] = field(default_factory=list)
    queue_s: float = 0.0
    compute_s: float = 0.0
    encode_s: float | None = None
    upload_s: float | None = None
    transmit_s: float = 0.0
    """Part of ``upload_s`` in which its own bytes were being sent."""
    edge_queue_s: float | None = None
    edge_compute_s: float | None = None
    queue_length: int = 0
    """Tasks waiting when its service on the device ended."""


@dataclass(frozen=True, slots=True)
class RunSegment:
    """Run segment ``index`` on the task's newest tensor; then ``segment_done``."""

    task: Task
    index: int


@dataclass(frozen=True, slots=True)
class RunExit:
    """Run exit ``index`` on the tensor of the cut it stands at; then ``exit_done``."""

    task: Task
    index: int


@dataclass(frozen=True, slots=True)
class Encode:
    """Put the payload of ``task.offload`` into its representation; then ``encoded``."""

    task: Task
    offload: Offload


@dataclass(frozen=True, slots=True)
class AskTwin:
    """Polled mode: ask what to do at this epoch, wait a bounded time; then ``polled``."""

    task: Task
    epoch: int
    evidence: int
    queue_length: int
    age_s: float = 0.0
    """Generation to now."""
    uplink_busy_s: float = 0.0
    """Expected time until the uplink is free."""


Step: TypeAlias = RunSegment | RunExit | Encode | AskTwin
"""What the one compute thread does next; never more than one is out."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Send what was encoded; then ``answer_received`` or ``upload_failed``."""

    task: Task
    offload: Offload
    budget_s: float
    """Time until the answer is of no use."""


@dataclass(frozen=True, slots=True)
class CancelUpload:
    """Nobody waits for the task's answer any more."""

    task: Task
    offload: Offload


@dataclass(frozen=True, slots=True)
class Finish:
    """The task has its outcome."""

    task: Task
    record: TaskRecord


Instruction: TypeAlias = Step | Upload | CancelUpload | Finish | Report

STEPS = (RunSegment, RunExit, Encode, AskTwin)
