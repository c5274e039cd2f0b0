"""What devices, edges and the twin say to one another, past the door: no wire types, instants instead of ages.

Every ``..._at_s`` is an instant on the twin's own monotonic clock; :mod:`twin_service.wire` turns the ages of a message
into instants with the offset that :mod:`twinsplit.transport.clock_offset` estimates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from twinsplit.edge_list import EdgeLink, ListedEdge
from twinsplit.errors import TwinsplitError
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.types import Decision, TaskRecord


@dataclass(frozen=True, slots=True)
class DeviceHello:
    """A device attaches. Times in seconds, sizes in bytes; ``None`` means unknown."""

    device_id: str
    model_digest: str
    segment_s: tuple[float, ...]
    exit_s: tuple[float, ...] = ()
    encode_s: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """(cut, position of the representation) to encoding time."""
    is_tensors_only: bool = False
    fixed_edge_address: str | None = None
    """The only edge that this device may use; ``None``: the twin chooses."""
    goodput_bytes_per_s: float | None = None
    round_trip_s: float | None = None
    last_plan_id: int = 0
    compute_watts: float | None = None
    transmit_watts: float | None = None
    is_polled: bool = False
    version: str = ""
    report_threshold_s: float = 0.0
    speed_share: float | None = None
    """Speed of the processor over its full speed, at which all times above hold."""
    attachment_epoch: int = 0
    """Number that it announces for this attachment; 0: none."""

    @property
    def decided(self) -> str:
        """What somebody decided of the device, as text."""
        return json.dumps([self.is_tensors_only, self.fixed_edge_address, self.is_polled, self.version])


@dataclass(frozen=True, slots=True)
class ManifestUpload:
    """The manifest that the twin asked for."""

    manifest_json: bytes


@dataclass(frozen=True, slots=True)
class DeviceState:
    """How a device does, apart from its task. ``None`` or empty: unknown, or as reported before."""

    goodput_bytes_per_s: float | None = None
    round_trip_s: float | None = None
    segment_s: tuple[float, ...] = ()
    exit_s: tuple[float, ...] = ()
    is_edge_reachable: bool = True
    is_degraded: bool = False
    entered: int = 0
    """Tasks that entered since the device started."""
    lost: int = 0
    """Tasks dropped or failed since the device started."""
    cpu_share: float | None = None
    memory_share: float | None = None
    temperature_celsius: float | None = None
    is_throttled: bool | None = None
    speed_share: float | None = None
    """Speed of the processor over its full speed; times in this message are times at this speed."""
    links: tuple[EdgeLink, ...] = ()
    """Ways to edges of its list that have moved since they were last told."""


@dataclass(frozen=True, slots=True)
class StartReport:
    """A task in service."""

    task_id: int
    started_at_s: float
    queue_length: int = 0
    first_epoch: int = 0
    """Segments already done when its service (re)started."""


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """The task in service is not where dead reckoning puts it."""

    task_id: int
    epoch: int
    reached_at_s: float
    queue_length: int = 0


@dataclass(frozen=True, slots=True)
class TaskReport:
    """After the fact: what ended, what started, how things stand."""

    ended: tuple[TaskRecord, ...]
    """Times of the records are on the twin's clock; their ``frame`` stays on the device and is empty."""
    started: StartReport | None = None
    """The task in service now; ``None``: idle."""
    queue_length: int = 0
    state: DeviceState = DeviceState()


@dataclass(frozen=True, slots=True)
class DeviceHeartbeat:
    """Sign of life."""

    queue_length: int = 0
    started: StartReport | None = None
    state: DeviceState = DeviceState()


@dataclass(frozen=True, slots=True)
class PollRequest:
    """Polled mode: the device asks what to do at this epoch."""

    task_id: int
    epoch: int
    evidence: int
    queue_length: int
    age_s: float = 0.0
    """Of the task, since its generation."""
    uplink_busy_s: float = 0.0
    """Expected time until the uplink is free."""


@dataclass(frozen=True, slots=True)
class LiveReport:
    """State now, for a live read."""

    read_id: int
    queue_length: int = 0
    started: StartReport | None = None
    epoch: int = 0
    reached_at_s: float = 0.0
    state: DeviceState = DeviceState()


@dataclass(frozen=True, slots=True)
class PeerRefusal:
    """A message of ours was refused by the peer."""

    error: TwinsplitError


DeviceEvent = (
    ManifestUpload
    | TaskReport
    | StartReport
    | ProgressReport
    | DeviceHeartbeat
    | PollRequest
    | LiveReport
    | PeerRefusal
)
"""What an attached device says."""


@dataclass(frozen=True, slots=True)
class ArrivedTail:
    """A tail that an edge took into its queue."""

    at_s: float
    work_s: float
    """Service time that the edge predicted for it."""
    device_id: str = ""
    """Whose it is; empty: some other user's."""
    task_id: int = 0


@dataclass(frozen=True, slots=True)
class BacklogReport:
    """An edge's backlog and what arrives there."""

    backlog: BacklogState
    arrived_work_s: tuple[float, ...] = ()
    """Work arrived in the last 0.25 s, 1 s and 4 s, seconds of service."""
    speed_factor: float = 1.0
    """Measured over predicted service time."""
    queue_length: int = 0
    busy_share: float = 0.0
    arrivals: tuple[ArrivedTail, ...] = ()
    """Tails that arrived since the report before, oldest first."""
    is_logging: bool = False
    """Whether the edge tells its arrivals at all."""


@dataclass(frozen=True, slots=True)
class EdgeHello:
    """An edge attaches."""

    edge_id: str
    advertise_address: str
    models: Mapping[str, tuple[float, ...]]
    """Model digest to the predicted service time of the tail after cut 0, 1, ... m-1, seconds."""
    version: str = ""
    report_threshold_s: float = 0.0
    backlog: BacklogReport | None = None
    other_addresses: tuple[str, ...] = ()
    """Under which some devices reach it besides."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to a hello."""

    needs_manifest: bool = False
    attachment_epoch: int = 0
    """Number of a device's attachment from now on."""


@dataclass(frozen=True, slots=True)
class PlanMessage:
    """A new standing plan with the newest reading of its edge's backlog."""

    plan: Plan
    backlog: BacklogState | None


@dataclass(frozen=True, slots=True)
class EdgeList:
    """The edges that a device may use, the most promising first; it replaces the list before."""

    edges: tuple[ListedEdge, ...]


@dataclass(frozen=True, slots=True)
class BacklogUpdate:
    """A newer backlog of the plan's edge."""

    backlog: BacklogState


@dataclass(frozen=True, slots=True)
class BacklogInterest:
    """What an edge's reports are needed for."""

    ceiling_s: float
    """Backlog above which hardly any decision of its devices depends on it, seconds."""


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """Nothing but the lease."""


@dataclass(frozen=True, slots=True)
class PollResponse:
    """Polled mode: the decision."""

    task_id: int
    epoch: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A live read waits for a :class:`LiveReport`."""

    read_id: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message of the peer is refused; everything else goes on."""

    error: Exception


DeviceMessage = Welcome | PlanMessage | EdgeList | BacklogUpdate | LeaseRenewal | PollResponse | LiveRequest | Refusal
"""What the twin says to a device."""

EdgeMessage = Welcome | BacklogInterest | Refusal
"""What the twin says to an edge."""


@dataclass(frozen=True, slots=True)
class Send:
    """An instruction of the core: send ``message`` to device ``device_id``."""

    device_id: str
    message: DeviceMessage
