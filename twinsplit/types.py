"""The vocabulary of the design as types (design section 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class Decision(IntEnum):
    """What a plan says at one (epoch, evidence, queue length, backlog band). The value is the byte in the table."""

    CONTINUE = 0
    EXIT = 1
    OFFLOAD_TENSOR = 2
    OFFLOAD_INPUT = 3

    @property
    def is_offload(self) -> bool:
        return self >= Decision.OFFLOAD_TENSOR


class Payload(str, Enum):
    """What an offload sends: the boundary tensor of the cut at which the task stands, or the input."""

    TENSOR = "tensor"
    INPUT = "input"


class Payloads(str, Enum):
    """Which payloads may leave the device; with ``tensors-only`` no frame ever does, nor a tensor that shows it (see
    :meth:`twinsplit.model.manifest.Manifest.first_sent_cut`)."""

    ANY = "any"
    TENSORS_ONLY = "tensors-only"


class Outcome(str, Enum):
    """Where a task ended. Every task that entered gets exactly one."""

    DEVICE = "device"
    EXIT = "exit"
    EDGE = "edge"
    DROPPED = "dropped"
    FAILED = "failed"

    @property
    def is_answered(self) -> bool:
        return self in (Outcome.DEVICE, Outcome.EXIT, Outcome.EDGE)


class Reason(str, Enum):
    """Why a task ended where it did: the named reason in log, metric and status."""

    OFFLOAD_PAYS = "offload-pays"
    EXIT_CONFIDENT = "exit-confident"
    NOT_WORTH_IT = "not-worth-it"
    NO_PLAN = "no-plan"
    LEASE_ENDED = "lease-ended"
    NO_EDGE_HOLDS_MODEL = "no-edge-holds-model"
    EDGE_REFUSED = "edge-refused"
    EDGE_LOST = "edge-lost"
    EDGE_TOO_LATE = "edge-too-late"
    BREAKER_OPEN = "breaker-open"
    UPLINK_FULL = "uplink-full"
    """As many boundary tensors are kept as the device may keep."""
    HEAD_ONLY = "head-only"
    QUEUE_FULL = "queue-full"
    NEWER_FRAME = "newer-frame"
    SHUTDOWN = "shutdown"
    BAD_FRAME = "bad-frame"
    COMPUTE_ERROR = "compute-error"


class DropPolicy(str, Enum):
    """What a full device queue does with a frame that arrives: the newest wins (cameras), or the oldest stays."""

    NEWEST_WINS = "newest-wins"
    OLDEST_STAYS = "oldest-stays"


NO_EVIDENCE = 0
"""Evidence state before the first exit that ran."""


def evidence_state(exit_index: int, bin_index: int, bin_count: int) -> int:
    """Flat index of the pair (last exit that ran, its confidence bin); 0 is ``none``."""
    return 1 + exit_index * bin_count + bin_index


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a task's latency went, in seconds. ``None``: the stage was not entered (or is unknown).

    queue: waiting on the device; compute: segments and exits run on the device; encode: payload into its
    representation; upload: hand-over to the uplink until the answer is here, less what the edge says of itself, so that
    waiting for earlier payloads is in it; edge_queue, edge_compute: as the edge measured.
    """

    queue: float | None = None
    compute: float | None = None
    encode: float | None = None
    upload: float | None = None
    edge_queue: float | None = None
    edge_compute: float | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One ended task, as sinks, reports and the workload twin see it. Times are on the device's monotonic clock."""

    task_id: int
    """Number of the task at its device, from 1, without gaps."""
    frame: str
    """Name of the frame in its source."""
    arrived_at_s: float
    started_at_s: float | None
    """Service start; ``None``: dropped before."""
    ended_at_s: float
    outcome: Outcome
    reason: Reason
    stop_epoch: int | None
    """Decision epoch at which the device stopped; m where it finished the network; ``None``: never started."""
    evidence: int
    """Evidence state at the stop (see :func:`evidence_state`)."""
    exit_index: int | None = None
    """Exit that answered."""
    payload: Payload | None = None
    """What was sent, if anything was (also when the edge then failed)."""
    representation: str | None = None
    """Name of the representation sent, such as ``uint8+zstd``."""
    representation_index: int | None = None
    """Its position among its cut's representations in the manifest."""
    exit_confidences: tuple[float | None, ...] = ()
    """Raw confidence of every exit of the manifest; ``None``: did not run."""
    exit_agrees: bool | None = None
    """Whether the last exit that ran gave the whole network's answer; ``None``: not known."""
    wire_bytes: int = 0
    label: str | None = None
    label_index: int | None = None
    confidence: float | None = None
    """Calibrated probability that the answer is right, or ``None`` where nothing is calibrated."""
    degraded: bool = False
    stages: Stages = field(default_factory=Stages)
    epoch_times_s: tuple[float, ...] = ()
    """Instants at which decision epochs 0, 1, ... were reached on the device."""
    energy_joules: float | None = None
    """``None``: no meter and no model."""
    energy_source: str | None = None
    plan_id: int | None = None
    queue_length: int = 0
    """Tasks waiting when this one ended its service on the device."""
    edge_id: str | None = None
    """Edge that the payload went to, the last one where it was several; ``None``: none, or its name is not known."""
    sent_on: int = 0
    """Edges that lost or refused the payload before it went on to the next one."""
    thumbnail_jpeg: bytes | None = None
    """Small picture of its frame for the twin's console, where the device makes one."""

    @property
    def latency_s(self) -> float:
        """Generation to answer (or to being dropped), seconds."""
        return self.ended_at_s - self.arrived_at_s
