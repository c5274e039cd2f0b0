"""What the planner knows about one device, and the weights of what it optimises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest
from twinsplit.plausible import LARGEST_WEIGHT

MAX_BUSY_SHARE = 0.8
"""Cap on rho_d in the price of waiting (design section 5)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Utility is ``alpha_s * accuracy - latency - beta * energy``, in seconds."""

    alpha_s: float = 2.5
    beta_s_per_joule: float = 0.05
    compute_watts: float = 3.0
    """P_c, used where the device has not said its own."""
    transmit_watts: float = 1.2
    """P_tx, likewise."""
    penalty_s: float | None = None
    """Added cost of a task dropped or failed; ``None``: alpha."""
    deadline_s: float | None = None
    """Accuracy counts only if the answer is no older than this since generation; ``None``: it always does."""
    is_waiting_priced_up: bool = True
    """Whether caused waiting is divided by ``1 - rho_d``."""

    def __post_init__(self) -> None:
        for name in ("alpha_s", "beta_s_per_joule", "compute_watts", "transmit_watts"):
            value = getattr(self, name)
            if not 0 <= value <= LARGEST_WEIGHT:
                raise SettingsError(f"{name} is {value}; give a number from 0 to {LARGEST_WEIGHT:g}")
        if self.deadline_s is not None and not 0 < self.deadline_s <= LARGEST_WEIGHT:
            raise SettingsError(f"deadline_s is {self.deadline_s}; give one above 0, to {LARGEST_WEIGHT:g}, or none")
        if self.penalty_s is not None and not 0 <= self.penalty_s <= LARGEST_WEIGHT:
            raise SettingsError(f"penalty_s is {self.penalty_s}; give a number from 0 to {LARGEST_WEIGHT:g}, or none")

    @property
    def loss_penalty_s(self) -> float:
        """Added cost of a task dropped or failed, seconds."""
        return self.alpha_s if self.penalty_s is None else self.penalty_s


@dataclass(frozen=True, slots=True)
class Situation:
    """One device as its status twin sees it now. Times in seconds, sizes in bytes."""

    manifest: Manifest
    weights: Weights
    segment_s: tuple[float, ...]
    """d_k of every segment held."""
    exit_s: tuple[float, ...]
    """e of every exit."""
    encode_s: Mapping[tuple[int, int], float]
    """c by (cut, representation position); a missing one is taken from the manifest."""
    tail_s: tuple[float, ...] | None
    """z_j at the edge after cut j = 0..m-1; ``None``: no edge holds the model."""
    goodput_bytes_per_s: float
    """R."""
    overhead_s: float
    """Fixed part of an offload: round trip without payload."""
    task_rate_per_s: float
    """lambda."""
    busy_share: float
    """rho_d."""
    uplink_busy_s: float = 0.0
    """b."""
    uplink_busy_share: float | None = None
    """Share of time in which b is above 0, for a plan: its device alone knows b when it decides. ``None``: known."""
    is_tensors_only: bool = False
    backlog_mean_s: float = 0.0
    backlog_time_constant_s: float = 1.0
    arrived_work_s: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Work that arrived at the edge within the last 0.25, 1 and 4 s, seconds of service (learned rules look at it)."""
    is_caused_waiting_counted: bool = field(default=True)
    """False only for the myopic rule."""

    @property
    def waiting_factor(self) -> float:
        """What a second of caused waiting costs: ``1 / (1 - rho_d)``, or 1, or 0 for the myopic rule."""
        if not self.is_caused_waiting_counted:
            return 0.0
        if not self.weights.is_waiting_priced_up:
            return 1.0
        return 1.0 / (1.0 - min(max(self.busy_share, 0.0), MAX_BUSY_SHARE))
